package fake_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/fake"
	"agento.host/agento/internal/runtime/runtimetest"
)

func open(t *testing.T) *fake.Driver {
	t.Helper()
	d := fake.New(fake.Settings{Dir: t.TempDir(), Capacity: 100, Handler: func(g *fake.Gateway) http.Handler { return runtimetest.Handler(g) }})
	t.Cleanup(func() {
		d.Close()
		if running := d.RunningCount(); running != 0 {
			t.Errorf("%d gateways after Close", running)
		}
	})
	return d
}

func TestContract(t *testing.T) {
	runtimetest.Run(t, func(t *testing.T) runtimetest.Env {
		d := open(t)
		d.SetCheckpointMemory(1 << 20)
		d.SetCheckpointDisk(1<<30, 0)
		return runtimetest.Env{
			Driver: d, Restart: func(*testing.T) runtime.Driver { return d },
			SetOwner: func(_ *testing.T, id identity.AgentID, owner runtime.Owner) { d.SetOwner(id, owner) },
		}
	})
}

func TestScriptedFailuresAndUsage(t *testing.T) {
	d := open(t)
	s := runtimetest.Spec("a")
	d.FailPlace(2, runtime.ErrNoCapacity)
	for range 2 {
		if _, err := d.Place(t.Context(), s); !errors.Is(err, runtime.ErrNoCapacity) {
			t.Errorf("place: %v", err)
		}
	}
	place, err := d.Place(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	d.FailStart(1, broken)
	if err := d.Start(t.Context(), place, s); !errors.Is(err, broken) {
		t.Errorf("start: %v", err)
	}
	d.ExitAfterStart("a", 1, 78)
	if err := d.Start(t.Context(), place, s); err != nil {
		t.Fatal(err)
	}
	g := runtimetest.At(t, d, "a", place)
	if state := g.Inspect(); state.Phase != runtime.Exited || state.ExitCode != 78 {
		t.Errorf("after ExitAfterStart: %+v", state)
	}
	if err := d.Start(t.Context(), place, s); err != nil {
		t.Fatal(err)
	}
	d.SetUsage("a", 7<<20, time.Minute)
	d.Print("a", "from the test")
	if state := g.Inspect(); state.Phase != runtime.Running || state.MemoryBytes != 7<<20 || state.CPU != time.Minute {
		t.Errorf("usage: %+v", state)
	}
	if got := g.Log(1); got != "from the test\n" {
		t.Errorf("log: %q", got)
	}
	if d.Starts("a") != 2 || d.RunningCount() != 1 || d.Running()[0] != "a" {
		t.Errorf("%d starts, running %v", d.Starts("a"), d.Running())
	}
	if !d.KillForMemory("a") || d.Kill("a", 1) {
		t.Error("the first kill must report that a gateway ran, the second that none did")
	}
	if state := g.Inspect(); state.ExitCode != 137 || !state.OOMKilled {
		t.Errorf("killed: %+v", state)
	}
	if v := d.Violations(); len(v) != 0 {
		t.Errorf("violations: %v", v)
	}
}

func TestViolationsAreRecorded(t *testing.T) {
	d := open(t)
	s := runtimetest.Spec("a")
	g := runtimetest.Start(t, d, s)
	other, err := d.Place(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context(), other, s); err == nil {
		t.Error("a second start succeeded")
	}
	g.Stop(0)
	if err := d.Start(t.Context(), "fake/elsewhere", s); err != nil {
		t.Fatal(err)
	}
	if v := d.Violations(); len(v) != 2 {
		t.Errorf("violations: %v", v)
	}
}

func TestDelaysOfStartAndStop(t *testing.T) {
	d := open(t)
	d.DelayStart(time.Hour)
	s := runtimetest.Spec("a")
	place, err := d.Place(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := d.Start(ctx, place, s); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a slow start: %v", err)
	}
	d.DelayStart(0)
	d.DelayStop(time.Hour)
	g := runtimetest.Start(t, d, s)
	g.Stop(time.Millisecond) // returns after the grace period
}

// TestCrashBreaksConnections: a client that reads from a gateway gets an error when
// it crashes.
func TestCrashBreaksConnections(t *testing.T) {
	began := make(chan struct{})
	d := fake.New(fake.Settings{Dir: t.TempDir(), Handler: func(*fake.Gateway) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			close(began)
			<-r.Context().Done()
		})
	}})
	t.Cleanup(d.Close)
	s := runtimetest.Spec("a")
	place, err := d.Place(t.Context(), s)
	if err == nil {
		err = d.Start(t.Context(), place, s)
	}
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.Dial(ctx, place, "a") }}}
	resp, err := client.Get("http://a/")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	<-began
	d.Kill("a", 137)
	if n, err := resp.Body.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes after the crash", n)
	}
}

func TestManyAgentsConcurrently(t *testing.T) {
	d := open(t)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			s := runtimetest.Spec(identity.AgentID(fmt.Sprintf("agent-%d", i)))
			for range 3 {
				place, err := d.Place(t.Context(), s)
				if err == nil {
					err = d.Start(t.Context(), place, s)
				}
				if err == nil {
					_, err = runtimetest.At(t, d, s.ID, place).Try("/boot")
				}
				if err == nil {
					err = d.Remove(t.Context(), place, s.ID)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if found, err := d.List(t.Context()); err != nil || len(found) != 0 || d.RunningCount() != 0 {
		t.Errorf("after the removal: %v %v", found, err)
	}
}
