// Package agentstatus owns what is known of agents while they run: samples of what
// their gateways use, the live status that is made of them, and the results of their
// last model calls.
package agentstatus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agentlog"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// Values of client.LiveStatus.Source.
const (
	sourceRedis   = "redis"
	sourceMemory  = "memory"
	sourceRuntime = "runtime"
)

// defaultInterval is the default of Settings.Interval.
const defaultInterval = 5 * time.Second

// Settings are what a Service needs.
type Settings struct {
	DB     *database.DB
	Store  *agent.Store
	Driver runtime.Driver
	Logs   *agentlog.Service // masks secrets
	Log    *slog.Logger

	Shared   Reports       // reports that other servers read too, beside those in memory; nil: none
	Interval time.Duration // between samples of running gateways; 0: 5 s

	// WhyAwake returns why an agent does not sleep, as a clause; empty: it may. Nil: agents do not
	// sleep.
	WhyAwake func(context.Context, agent.Agent) (string, error)
	// Moved is told about each agent whose gateway uses much more or less than when it was told
	// last, for those who show that. Nil: nobody is told.
	Moved func(identity.AgentID)
}

// Service reports the status of agents.
type Service struct {
	db       *database.DB
	store    *agent.Store
	driver   runtime.Driver
	logs     *agentlog.Service
	log      *slog.Logger
	interval time.Duration
	moved    func(identity.AgentID)
	reports  []namedReports // in the order in which they are read
	results  *modelResults
	whyAwake func(context.Context, agent.Agent) (string, error) // may be nil
}

// namedReports are reports with their name in client.LiveStatus.Source.
type namedReports struct {
	Reports
	source string
}

// New returns the service. Run keeps its reports up to date.
func New(s Settings) *Service {
	if s.Interval == 0 {
		s.Interval = defaultInterval
	}
	reports := []namedReports{{&MemoryReports{}, sourceMemory}}
	if s.Shared != nil {
		reports = []namedReports{{s.Shared, sourceRedis}, reports[0]}
	}
	return &Service{
		db: s.DB, store: s.Store, driver: s.Driver, logs: s.Logs, log: s.Log, whyAwake: s.WhyAwake,
		interval: s.Interval, moved: s.Moved, reports: reports, results: newModelResults(),
	}
}

// Run samples the running gateways and writes the results of model calls, until ctx
// ends.
func (s *Service) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	loops.Go(func() { s.writeModelResults(ctx) })
	loops.Go(func() { (&sampler{service: s}).run(ctx) })
	loops.Wait()
	return nil
}

// Status returns how an agent is now: from a recent report on its gateway, else by
// inspecting the gateway. Faults: NotFound.
func (s *Service) Status(ctx context.Context, account identity.AccountID, id identity.AgentID) (client.LiveStatus, error) {
	a, err := s.store.Find(ctx, s.db, account, id)
	if err != nil {
		return client.LiveStatus{}, err
	}
	if a.Place == "" {
		return client.LiveStatus{Status: a.Status, ContainerStatus: string(runtime.Gone), Source: sourceRuntime}, nil
	}
	if a.IsAsleep() { // looking does not wake it
		l := client.LiveStatus{Status: a.Status, ContainerStatus: string(a.Power), Live: true, Source: sourceRuntime}
		return withWake(l, a), nil
	}
	if r, source, ok := s.findReport(ctx, a); ok {
		return s.withReason(ctx, a, liveStatus(a, r, source)), nil
	}
	r, err := s.inspectTwice(ctx, a)
	if lost := (*runtime.UnreachableError)(nil); errors.As(err, &lost) {
		return withWake(client.LiveStatus{Status: a.Status, ContainerStatus: unknown, Source: sourceRuntime}, a), nil
	}
	if err != nil {
		return client.LiveStatus{}, err
	}
	return s.withReason(ctx, a, liveStatus(a, r, sourceRuntime)), nil
}

// unknown is the state of a gateway whose server cannot be reached.
const unknown = "unknown"

// withReason adds why the agent stays awake, if that can be told: an agent whose secrets cannot be
// decrypted has a status, too.
func (s *Service) withReason(ctx context.Context, a agent.Agent, l client.LiveStatus) client.LiveStatus {
	if s.whyAwake == nil || !l.Live {
		return l
	}
	if why, err := s.whyAwake(ctx, a); err == nil {
		l.KeptAwake = why
	}
	return l
}

func liveStatus(a agent.Agent, r Report, source string) client.LiveStatus {
	l := client.LiveStatus{Status: a.Status, ContainerStatus: string(r.Phase), Live: r.Phase == runtime.Running, Source: source}
	if l.Live {
		l.Resources = &client.Resources{MemoryUsage: r.memoryUsage(), CPUPercent: fmt.Sprintf("%.2f%%", r.CPU)}
	}
	return withWake(l, a)
}

// withWake adds what is known of an agent's last wake.
func withWake(l client.LiveStatus, a agent.Agent) client.LiveStatus {
	if !a.Sleep.WokeAt.IsZero() {
		l.WokeAt, l.WakeMs = client.NewTime(a.Sleep.WokeAt), a.Sleep.WakeTook.Milliseconds()
	}
	return l
}

// findReport returns a recent report on the gateway that the agent has now.
func (s *Service) findReport(ctx context.Context, a agent.Agent) (r Report, source string, ok bool) {
	if !a.IsRunning() {
		return Report{}, "", false
	}
	for _, from := range s.reports {
		r, ok, err := from.Get(ctx, a.ID)
		if err != nil && !errors.Is(err, errRedisPaused) && ctx.Err() == nil {
			s.log.WarnContext(ctx, "reading a report failed", "agent", a.ID, "source", from.source, "error", err)
		}
		if ok && r.Place == a.Place && r.At.After(a.StartedAt) {
			return r, from.source, true
		}
	}
	return Report{}, "", false
}

// Recent returns the last report on the gateway that an agent has now, if there is a recent one.
func (s *Service) Recent(ctx context.Context, a agent.Agent) (r Report, ok bool) {
	if a.IsAsleep() {
		return Report{}, false
	}
	r, _, ok = s.findReport(ctx, a)
	return r, ok
}

// minCPUSpan is the least time between two samples that a CPU share is computed from.
const minCPUSpan = 200 * time.Millisecond

// inspectTwice samples a gateway twice and returns the report.
func (s *Service) inspectTwice(ctx context.Context, a agent.Agent) (Report, error) {
	before, err := s.sample(ctx, a.ID, a.Place)
	if err != nil || before.state.Phase != runtime.Running {
		return before.report(), err
	}
	timer := time.NewTimer(minCPUSpan)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return Report{}, ctx.Err()
	}
	now, err := s.sample(ctx, a.ID, a.Place)
	return now.since(before).report(), err
}
