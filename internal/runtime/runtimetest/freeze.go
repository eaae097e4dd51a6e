package runtimetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"agento.host/agento/internal/runtime"
)

// freezer returns the driver's optional interface. The test is skipped if gateways cannot be frozen
// here.
func freezer(t *testing.T, d runtime.Driver) runtime.Freezer {
	t.Helper()
	f, ok := d.(runtime.Freezer)
	if !ok {
		t.Skip("the driver freezes no gateways")
	}
	if err := f.CheckFreeze(); err != nil {
		t.Skip(err)
	}
	return f
}

func freeze(t *testing.T, f runtime.Freezer, g *Gateway) {
	t.Helper()
	if err := f.Freeze(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
}

func testFreeze(t *testing.T, e Env) {
	f := freezer(t, e.Driver)
	g := Start(t, e.Driver, Spec(NewID()))
	boot := g.Ask("/boot")
	for range 3 {
		freeze(t, f, g)
		if p := phase(t, e.Driver, g); p != runtime.Frozen {
			t.Fatalf("a frozen gateway is %s", p)
		}
		if _, err := e.Driver.Dial(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNotRunning) {
			t.Fatalf("Dial of a frozen gateway: %v", err)
		}
		if _, err := e.Driver.Network(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNotRunning) {
			t.Fatalf("Network of a frozen gateway: %v", err)
		}
		if found := findAgent(t, e.Driver, g.ID); found == nil || !found.Running {
			t.Fatalf("List of a frozen gateway: %+v", found)
		}
		limited, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err := e.Driver.(runtime.Watcher).Watch(limited, g.Place, g.ID)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Watch of a frozen gateway: %v", err)
		}
		if err := f.Freeze(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNotRunning) {
			t.Fatalf("a second freeze: %v", err)
		}
		if err := f.Thaw(t.Context(), g.Place, g.ID); err != nil {
			t.Fatal(err)
		}
		if p := phase(t, e.Driver, g); p != runtime.Running {
			t.Fatalf("a thawed gateway is %s", p)
		}
		if got := g.Ask("/boot"); got != boot {
			t.Fatalf("the thawed gateway is another one: it has started as %s, not %s", got, boot)
		}
	}
	if err := f.Thaw(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("a second thaw: %v", err)
	}
	g.Ask("/boot")
}

func testFrozenEnds(t *testing.T, e Env) {
	f := freezer(t, e.Driver)
	spec := Spec(NewID())
	g := Start(t, e.Driver, spec)
	boot := g.Ask("/boot")
	freeze(t, f, g)
	if err := e.Driver.Start(t.Context(), g.Place, spec); err != nil {
		t.Fatal(err)
	}
	g.WaitReady()
	if got := g.Ask("/boot"); got == boot {
		t.Error("Start has thawed the gateway")
	}
	freeze(t, f, g)
	began := time.Now()
	if err := e.Driver.Stop(t.Context(), g.Place, g.ID, time.Hour); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > waitTimeout {
		t.Errorf("the stop took %s", took)
	}
	if p := phase(t, e.Driver, g); p == runtime.Running || p == runtime.Frozen {
		t.Errorf("a stopped gateway is %s", p)
	}
	if err := f.Thaw(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("thaw of a stopped gateway: %v", err)
	}
	if err := f.Freeze(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("freeze of a stopped gateway: %v", err)
	}
	if err := f.Freeze(t.Context(), g.Place, NewID()); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("freeze of an unknown agent: %v", err)
	}
	if err := e.Driver.Start(t.Context(), g.Place, spec); err != nil {
		t.Fatal(err)
	}
	g.WaitReady()
	g.Ask("/boot")
	freeze(t, f, g)
	if err := e.Driver.Remove(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	if found := findAgent(t, e.Driver, g.ID); found != nil {
		t.Errorf("after Remove: %+v", *found)
	}
}

func testFrozenQuarantine(t *testing.T, e Env) {
	f := freezer(t, e.Driver)
	g := Start(t, e.Driver, Spec(NewID()))
	freeze(t, f, g)
	if err := e.Driver.Quarantine(t.Context(), g.ID); err != nil {
		t.Fatal(err)
	}
	if found := findAgent(t, e.Driver, g.ID); found != nil {
		t.Errorf("after Quarantine: %+v", *found)
	}
}

func testFrozenSecrets(t *testing.T, e Env) {
	f := freezer(t, e.Driver)
	g := Start(t, e.Driver, Spec(NewID()))
	freeze(t, f, g)
	const changed = `{"word":"changed while frozen"}`
	if err := e.Driver.PutSecrets(t.Context(), g.Place, g.ID, []byte(changed)); err != nil {
		t.Fatal(err)
	}
	if err := f.Thaw(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	if got := g.Ask("/secrets"); got != changed {
		t.Errorf("the thawed gateway has the secrets %s", got)
	}
}

func testFrozenServerRestart(t *testing.T, e Env) {
	f := freezer(t, e.Driver)
	g := Start(t, e.Driver, Spec(NewID()))
	boot := g.Ask("/boot")
	freeze(t, f, g)
	d := e.Restart(t)
	if p := phase(t, d, g); p != runtime.Frozen {
		t.Fatalf("for the next server the gateway is %s", p)
	}
	if err := d.(runtime.Freezer).Thaw(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	if got := At(t, d, g.ID, g.Place).Ask("/boot"); got != boot {
		t.Error("the next server has started another gateway")
	}
}
