// Package metrics counts what a server does, for Prometheus. The names, labels and units
// are in docs/operations.md; a name never changes its meaning.
//
// No label is an account, an agent or a key: their number has no bound.
package metrics

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// scrapeTimeout bounds what a request for the metrics reads from the database.
const scrapeTimeout = 5 * time.Second

// Buckets of histograms, in seconds.
var (
	requestBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	turnBuckets    = []float64{.1, .25, .5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640}
	bootBuckets    = []float64{1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 240}
	wakeBuckets    = []float64{.05, .1, .2, .3, .4, .5, .75, 1, 1.5, 2, 3, 5, 10, 20, 40, 60}
	lockBuckets    = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1}
)

// State is what a server tells when the metrics are read.
type State struct {
	Agents           map[string]int // by status
	States           map[string]int // agents by state: awake, asleep or frozen if they run, otherwise their status
	WaitingForMemory int            // agents whose gateways do not fit
	WaitingForBoot   int            // agents whose gateways wait for their turn to boot
	LastBackup       time.Time      // when the last good backup ended; zero: there is none
	CheckpointCounts map[string]int // of agents that sleep, by form
	CheckpointBytes  map[string]int64
}

// Settings configure New.
type Settings struct {
	Version string
	State   func(ctx context.Context) (State, error) // is called for each scrape
}

// Metrics are the counters of a server. Its methods may be called at the same time. The nil
// Metrics counts nothing.
type Metrics struct {
	registry     *prometheus.Registry
	requests     *prometheus.HistogramVec
	turns        *prometheus.CounterVec
	firstText    prometheus.Histogram
	turnTime     prometheus.Histogram
	boots        *prometheus.HistogramVec
	wakes        *prometheus.HistogramVec
	suspends     *prometheus.HistogramVec
	modelCalls   *prometheus.CounterVec
	modelTime    *prometheus.HistogramVec
	tokens       *prometheus.CounterVec
	refusals     *prometheus.CounterVec
	transactions *prometheus.HistogramVec
}

// New returns metrics that are all zero.
func New(s Settings) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "agento_request_seconds", Help: "Requests of the API by the pattern of their path, with the time until the end of the response.", Buckets: requestBuckets,
		}, []string{"method", "route", "status"}),
		turns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agento_turns_total", Help: "Turns that ended, by their state.",
		}, []string{"state", "stop_reason"}),
		firstText: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "agento_turn_first_text_seconds", Help: "Time from the start of a turn to its first text.", Buckets: turnBuckets,
		}),
		turnTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "agento_turn_seconds", Help: "Time from the start of a turn to its end.", Buckets: turnBuckets,
		}),
		boots: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "agento_boot_seconds", Help: "Boots of gateways by their result, ready or failed.", Buckets: bootBuckets,
		}, []string{"result"}),
		wakes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "agento_wake_seconds", Help: "Wakes of agents by kind, such as checkpoint or cold, from what waited for the agent until it could answer.", Buckets: wakeBuckets,
		}, []string{"kind"}),
		suspends: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "agento_suspend_seconds", Help: "Suspends of gateways by their result: done, busy or failed.", Buckets: wakeBuckets,
		}, []string{"result"}),
		modelCalls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agento_model_calls_total", Help: "Calls of model providers by the status of the answer; 0: there was none.",
		}, []string{"provider", "status"}),
		modelTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "agento_model_first_byte_seconds", Help: "Time until a provider's answer began.", Buckets: turnBuckets,
		}, []string{"provider"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agento_model_tokens_total", Help: "Tokens that model providers counted, by kind: input, output, cache_read or cache_write.",
		}, []string{"provider", "kind"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agento_refusals_total", Help: "What was refused because an account, a key, an agent or all together used up a resource.",
		}, []string{"resource"}),
		transactions: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "agento_transaction_seconds", Help: "Time that transactions of the database had the write lock.", Buckets: lockBuckets,
		}, []string{"kind"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "agento_build_info", Help: "Always 1.", ConstLabels: prometheus.Labels{"version": s.Version}})
	build.Set(1)
	m.registry.MustRegister(m.requests, m.turns, m.firstText, m.turnTime, m.boots, m.wakes, m.suspends, m.modelCalls, m.modelTime, m.tokens, m.refusals, m.transactions, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if s.State != nil {
		m.registry.MustRegister(&stateCollector{read: s.State})
	}
	return m
}

// Handler serves the metrics in the text format of Prometheus.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 2, Timeout: 2 * scrapeTimeout, ErrorHandling: promhttp.ContinueOnError})
}

// Request counts a request of the API. route is the pattern of its path, so that the
// number of labels has a bound; empty if no route has the path.
func (m *Metrics) Request(method, route string, status int, took time.Duration) {
	if m == nil {
		return
	}
	m.requests.WithLabelValues(knownMethod(method), route, strconv.Itoa(status)).Observe(took.Seconds())
}

// knownMethod returns other for a method that only the caller knows.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

// Turn counts a turn that ended. firstText is 0 if it had no text.
func (m *Metrics) Turn(state, stopReason string, firstText, took time.Duration) {
	if m == nil {
		return
	}
	m.turns.WithLabelValues(state, stopReason).Inc()
	if firstText > 0 {
		m.firstText.Observe(firstText.Seconds())
	}
	if took > 0 {
		m.turnTime.Observe(took.Seconds())
	}
}

// Boot counts the boot of a gateway.
func (m *Metrics) Boot(ready bool, took time.Duration) {
	if m == nil {
		return
	}
	result := "failed"
	if ready {
		result = "ready"
	}
	m.boots.WithLabelValues(result).Observe(took.Seconds())
}

// Wake counts a wake of an agent. kind is one of a few.
func (m *Metrics) Wake(kind string, took time.Duration) {
	if m == nil {
		return
	}
	m.wakes.WithLabelValues(kind).Observe(took.Seconds())
}

// Suspend counts a suspend of a gateway. result is one of a few.
func (m *Metrics) Suspend(result string, took time.Duration) {
	if m == nil {
		return
	}
	m.suspends.WithLabelValues(result).Observe(took.Seconds())
}

// Tokens are what a model call used.
type Tokens struct{ Input, Output, CacheRead, CacheWrite int64 }

// ModelCall counts a call of a model provider. firstByte is 0 if its answer did not begin.
func (m *Metrics) ModelCall(provider string, status int, firstByte time.Duration, used Tokens) {
	if m == nil {
		return
	}
	m.modelCalls.WithLabelValues(provider, strconv.Itoa(status)).Inc()
	if firstByte > 0 {
		m.modelTime.WithLabelValues(provider).Observe(firstByte.Seconds())
	}
	for kind, n := range map[string]int64{"input": used.Input, "output": used.Output, "cache_read": used.CacheRead, "cache_write": used.CacheWrite} {
		if n > 0 {
			m.tokens.WithLabelValues(provider, kind).Add(float64(n))
		}
	}
}

// Refused counts something that was refused because a resource was used up.
func (m *Metrics) Refused(resource string) {
	if m == nil {
		return
	}
	m.refusals.WithLabelValues(resource).Inc()
}

// Transaction counts a transaction of a kind that had the write lock for some time.
func (m *Metrics) Transaction(kind string, held time.Duration) {
	if m == nil {
		return
	}
	m.transactions.WithLabelValues(kind).Observe(held.Seconds())
}

// stateCollector reads the state of a server for each scrape.
type stateCollector struct {
	read func(ctx context.Context) (State, error)
}

// The descriptions of what a stateCollector collects.
var (
	agentsDesc  = prometheus.NewDesc("agento_agents", "Agents by their status.", []string{"status"}, nil)
	statesDesc  = prometheus.NewDesc("agento_agent_states", "Agents by their state: awake, asleep or frozen if they run, otherwise their status.", []string{"state"}, nil)
	waitingDesc = prometheus.NewDesc("agento_agents_waiting", "Agents whose gateways wait for memory, or for their turn to boot.", []string{"for"}, nil)
)

var (
	checkpointsDesc     = prometheus.NewDesc("agento_checkpoints", "Checkpoints of agents that sleep, by form.", []string{"form"}, nil)
	checkpointBytesDesc = prometheus.NewDesc("agento_checkpoints_bytes", "What the checkpoints of a form take, of the memory or of the disk.", []string{"form"}, nil)
)

var backupDesc = prometheus.NewDesc("agento_backup_age_seconds", "Time since the last backup that succeeded. Without one there is no value.", nil, nil)

// Describe implements prometheus.Collector.
func (c *stateCollector) Describe(out chan<- *prometheus.Desc) {
	out <- agentsDesc
	out <- statesDesc
	out <- waitingDesc
	out <- backupDesc
	out <- checkpointsDesc
	out <- checkpointBytesDesc
}

// Collect implements prometheus.Collector.
func (c *stateCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	s, err := c.read(ctx)
	if err != nil {
		out <- prometheus.NewInvalidMetric(agentsDesc, err)
		return
	}
	for status, n := range s.Agents {
		out <- prometheus.MustNewConstMetric(agentsDesc, prometheus.GaugeValue, float64(n), status)
	}
	for state, n := range s.States {
		out <- prometheus.MustNewConstMetric(statesDesc, prometheus.GaugeValue, float64(n), state)
	}
	if !s.LastBackup.IsZero() {
		out <- prometheus.MustNewConstMetric(backupDesc, prometheus.GaugeValue, time.Since(s.LastBackup).Seconds())
	}
	for form, n := range s.CheckpointCounts {
		out <- prometheus.MustNewConstMetric(checkpointsDesc, prometheus.GaugeValue, float64(n), form)
		out <- prometheus.MustNewConstMetric(checkpointBytesDesc, prometheus.GaugeValue, float64(s.CheckpointBytes[form]), form)
	}
	for what, n := range map[string]int{"memory": s.WaitingForMemory, "boot": s.WaitingForBoot} {
		out <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(n), what)
	}
}
