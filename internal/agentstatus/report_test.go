package agentstatus_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"agento.host/agento/internal/agentstatus"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// TestReports is the contract of every Reports.
func TestReports(t *testing.T) {
	t.Run("memory", func(t *testing.T) { testReports(t, &agentstatus.MemoryReports{}, time.Sleep) })
	t.Run("redis", func(t *testing.T) {
		server := miniredis.RunT(t) // its clock stands still but for FastForward
		testReports(t, openRedis(t, server), server.FastForward)
	})
}

func testReports(t *testing.T, r agentstatus.Reports, advance func(time.Duration)) {
	t.Helper()
	ctx := t.Context()
	get := func(id identity.AgentID) (agentstatus.Report, bool) {
		t.Helper()
		report, ok, err := r.Get(ctx, id)
		if err != nil {
			t.Error(err)
		}
		return report, ok
	}
	put := func(ttl time.Duration, reports map[identity.AgentID]agentstatus.Report) {
		t.Helper()
		if err := r.Put(ctx, reports, ttl); err != nil {
			t.Error(err)
		}
	}
	if got, ok := get("nobody"); ok {
		t.Errorf("nobody: %+v", got)
	}
	put(time.Minute, nil)
	a := agentstatus.Report{Place: "place/1", Phase: runtime.Running, MemoryBytes: 5 << 30, MemoryLimit: 6 << 30, CPU: 12.5, At: time.Now().UTC().Round(0)}
	b := agentstatus.Report{Place: "place/2", Phase: runtime.Exited, At: a.At}
	put(time.Minute, map[identity.AgentID]agentstatus.Report{"a": a, "b": b})
	if got, ok := get("a"); !ok || got != a {
		t.Errorf("%+v instead of %+v", got, a)
	}
	if got, ok := get("b"); !ok || got != b {
		t.Errorf("%+v instead of %+v", got, b)
	}
	a.MemoryBytes = 1
	put(time.Minute, map[identity.AgentID]agentstatus.Report{"a": a})
	if got, ok := get("a"); !ok || got != a {
		t.Errorf("the newer report: %+v, %v", got, ok)
	}
	if _, ok := get("b"); !ok {
		t.Error("a report on one agent removed another's")
	}
	put(20*time.Millisecond, map[identity.AgentID]agentstatus.Report{"a": a})
	advance(25 * time.Millisecond)
	if got, ok := get("a"); ok {
		t.Errorf("an expired report: %+v", got)
	}

	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 20 {
				id := fmt.Sprint(i, "/", n%3)
				put(time.Minute, map[identity.AgentID]agentstatus.Report{identity.AgentID(id): {Place: runtime.Place(id)}})
				if got, ok := get(identity.AgentID(id)); !ok || got.Place != runtime.Place(id) {
					t.Errorf("%s: %+v", id, got)
				}
			}
		})
	}
	all.Wait()
}

func openRedis(t *testing.T, server *miniredis.Miniredis) *agentstatus.RedisReports {
	t.Helper()
	r, err := agentstatus.OpenRedisReports("redis://" + server.Addr() + "/0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestRedisURLIsChecked(t *testing.T) {
	if _, err := agentstatus.OpenRedisReports("http://localhost"); err == nil {
		t.Error("no error")
	}
}
