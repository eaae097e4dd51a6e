package modelproxy

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/devmodel"
	"agento.host/agento/internal/netguard"
	"agento.host/agento/internal/usage"
)

// BenchmarkAddedLatency calls a model alternately directly and through the proxy, which counts
// the call before its end, with a request as large as a real gateway's. It reports how much the proxy adds to the
// time until the first byte and until the end of the stream.
func BenchmarkAddedLatency(b *testing.B) {
	upstream := startModel(b, devmodel.Always(devmodel.Say("one two three four five six seven eight nine ten")))
	prices, err := usage.LoadPrices("")
	if err != nil {
		b.Fatal(err)
	}
	p := New(Settings{
		Resolver: testResolver{base: upstream.URL(), key: providerKey}, Guard: netguard.Guard{AllowPrivate: true},
		Meter: usage.NewMeter(databasetest.New(b), prices, nil),
	})
	proxy := newListener(b, p)
	body := `{"model":"m1","stream":true,"system":"` + strings.Repeat(`Twenty kilobytes of instructions.\n`, 600) + runtimeLineJSON +
		`","messages":[{"role":"user","content":"hello"}]}`

	var direct, through sample
	for b.Loop() {
		direct.measure(b, upstream.URL()+"/v1/messages", body)
		through.measure(b, proxy+"/anthropic/v1/messages", body)
	}
	b.ReportMetric(0, "ns/op")
	for _, q := range []struct {
		name string
		at   float64
	}{{"p50", 0.5}, {"p99", 0.99}} {
		first := quantile(through.first, q.at) - quantile(direct.first, q.at)
		end := quantile(through.end, q.at) - quantile(direct.end, q.at)
		b.ReportMetric(float64(first.Microseconds()), "µs-first-byte-added-"+q.name)
		b.ReportMetric(float64(end.Microseconds()), "µs-whole-added-"+q.name)
	}
	b.ReportMetric(float64(quantile(direct.first, 0.5).Microseconds()), "µs-first-byte-direct-p50")
}

// sample has the times of many requests.
type sample struct{ first, end []time.Duration }

func (s *sample) measure(b *testing.B, url, body string) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	xAPIKey(req.Header, agentToken)
	began := time.Now()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.ReadFull(res.Body, make([]byte, 1)); err != nil || res.StatusCode != http.StatusOK {
		b.Fatal(res.Status, err)
	}
	s.first = append(s.first, time.Since(began))
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		b.Fatal(url, err)
	}
	s.end = append(s.end, time.Since(began))
}

func quantile(all []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[int(q*float64(len(sorted)-1))]
}
