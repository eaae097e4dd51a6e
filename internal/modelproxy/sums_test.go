package modelproxy

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"agento.host/agento/internal/devmodel"
	"agento.host/agento/internal/netguard"
	"agento.host/agento/internal/usage"
)

// TestEveryGroupingHasTheSumThatTheModelServed, for all APIs, peers, sessions and models at the same
// time.
func TestEveryGroupingHasTheSumThatTheModelServed(t *testing.T) {
	var number, input, output, cached atomic.Int64
	upstream := startModel(t, func(devmodel.Request) (devmodel.Reply, bool) {
		n := number.Add(1)
		u := devmodel.Usage{Input: 1000 + n, Output: 10 * n, CacheRead: n * n}
		input.Add(u.Input)
		output.Add(u.Output)
		cached.Add(u.CacheRead)
		return devmodel.Reply{Chunks: []string{"one ", "two"}, Usage: &u}, true
	})
	p := newTestProxy(t, testResolver{base: upstream.URL()}, netguard.Guard{AllowPrivate: true})
	var agents sync.WaitGroup
	for i, w := range everyForm() {
		agents.Go(func() {
			for _, change := range [][2]string{{"", ""}, {"peer:ana:c1", "peer:ben:c2"}, {"m1", "claude-sonnet-5"}} {
				c := w
				if change[0] != "" {
					c.body = strings.ReplaceAll(w.body, change[0], change[1])
					c.path = strings.ReplaceAll(w.path, "/"+change[0]+":", "/"+change[1]+":")
				}
				if body := readAll(t, c.send(t.Context(), t, p.url)); !strings.Contains(body, "two") {
					t.Errorf("%d: %s", i, body)
				}
			}
		})
	}
	agents.Wait()
	groups := map[usage.Grouping]int{usage.ByHour: 1, usage.ByDay: 1, usage.ByAgent: 1, usage.BySwarm: 1, usage.ByPeer: 2, usage.BySession: 2, usage.ByModel: 6, usage.ByKey: 1}
	micros := int64(-1)
	for by, n := range groups {
		rows, err := usage.List(t.Context(), p.db, "acct_1", usage.Query{From: time.Now().Add(-2 * time.Hour), To: time.Now().Add(time.Hour), By: by, Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		var sum usage.Sum
		for _, r := range rows {
			sum.Add(r.Sum)
		}
		if micros < 0 {
			micros = sum.Micros
		}
		if len(rows) < n || sum.Requests != number.Load() || sum.Requests != 24 || sum.Input != input.Load() || sum.Output != output.Load() || sum.CacheRead != cached.Load() || sum.Estimated != 0 ||
			sum.Micros != micros || sum.Micros == 0 {
			t.Errorf("by %s: %d rows, %+v, served %d requests, %d, %d and %d tokens", by, len(rows), sum, number.Load(), input.Load(), output.Load(), cached.Load())
		}
	}
}
