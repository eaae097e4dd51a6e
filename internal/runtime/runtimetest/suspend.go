package runtimetest

import (
	"errors"
	"testing"

	"agento.host/agento/internal/runtime"
)

// suspender returns the driver's optional interface. The test is skipped if gateways cannot be
// suspended here.
func suspender(t *testing.T, d runtime.Driver) runtime.Suspender {
	t.Helper()
	s, ok := d.(runtime.Suspender)
	if !ok {
		t.Skip("the driver suspends no gateways")
	}
	if err := s.CheckSuspend(); err != nil {
		t.Skip(err)
	}
	return s
}

func phase(t *testing.T, d runtime.Driver, g *Gateway) runtime.Phase {
	t.Helper()
	state, err := d.Inspect(t.Context(), g.Place, g.ID)
	if err != nil {
		t.Fatal(err)
	}
	return state.Phase
}

func testSuspend(t *testing.T, e Env) {
	s := suspender(t, e.Driver)
	g := Start(t, e.Driver, Spec(NewID()))
	boot := g.Ask("/boot")
	g.Ask("/write", "name", "kept", "data", "in-the-home")
	for life := range 3 {
		if err := s.Suspend(t.Context(), g.Place, g.ID); err != nil {
			t.Fatalf("suspend %d: %v", life, err)
		}
		if p := phase(t, e.Driver, g); p != runtime.Suspended {
			t.Fatalf("a suspended gateway is %s", p)
		}
		if err := e.Driver.(runtime.Watcher).Watch(t.Context(), g.Place, g.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Driver.Dial(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNotRunning) {
			t.Fatalf("Dial of a suspended gateway: %v", err)
		}
		if found := findAgent(t, e.Driver, g.ID); found == nil || found.Running {
			t.Fatalf("List of a suspended gateway: %+v", found)
		}
		if err := s.Resume(t.Context(), g.Place, g.ID); err != nil {
			t.Fatalf("resume %d: %v", life, err)
		}
		if p := phase(t, e.Driver, g); p != runtime.Running {
			t.Fatalf("a resumed gateway is %s", p)
		}
		if got := g.Ask("/boot"); got != boot {
			t.Fatalf("the resumed gateway is another one: it has started as %s, not %s", got, boot)
		}
		if got := g.Ask("/read", "name", "kept"); got != "in-the-home" {
			t.Fatalf("the home of the resumed gateway has %q", got)
		}
		g.Ask("/print", "line", "alive")
	}
	if err := e.Driver.Stop(t.Context(), g.Place, g.ID, waitTimeout); err != nil {
		t.Fatal(err)
	}
	if p := phase(t, e.Driver, g); p == runtime.Running || p == runtime.Suspended {
		t.Fatalf("a stopped gateway is %s", p)
	}
}

func testCheckpointOnce(t *testing.T, e Env) {
	s := suspender(t, e.Driver)
	g := Start(t, e.Driver, Spec(NewID()))
	if err := s.Suspend(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.Resume(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.Resume(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNoCheckpoint) {
		t.Errorf("a second resume while it runs: %v", err)
	}
	g.Ask("/boot")
	if err := e.Driver.Stop(t.Context(), g.Place, g.ID, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Resume(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNoCheckpoint) {
		t.Errorf("a second resume after it has ended: %v", err)
	}
	if err := s.Resume(t.Context(), g.Place, NewID()); !errors.Is(err, runtime.ErrNoCheckpoint) {
		t.Errorf("resume of an unknown agent: %v", err)
	}
}

func testSuspendedEnds(t *testing.T, e Env) {
	s := suspender(t, e.Driver)
	spec := Spec(NewID())
	g := Start(t, e.Driver, spec)
	boot := g.Ask("/boot")
	suspend := func() {
		t.Helper()
		if err := s.Suspend(t.Context(), g.Place, g.ID); err != nil {
			t.Fatal(err)
		}
	}
	suspend()
	if err := e.Driver.Start(t.Context(), g.Place, spec); err != nil {
		t.Fatal(err)
	}
	g.WaitReady()
	if got := g.Ask("/boot"); got == boot {
		t.Error("Start has resumed the gateway")
	}
	suspend()
	if err := e.Driver.Stop(t.Context(), g.Place, g.ID, waitTimeout); err != nil {
		t.Fatal(err)
	}
	if p := phase(t, e.Driver, g); p == runtime.Suspended {
		t.Error("a stopped gateway is still suspended")
	}
	if err := s.Resume(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNoCheckpoint) {
		t.Errorf("resume of a stopped gateway: %v", err)
	}
	if err := e.Driver.Start(t.Context(), g.Place, spec); err != nil {
		t.Fatal(err)
	}
	g.WaitReady()
	g.Ask("/boot")
	suspend()
	if err := e.Driver.Remove(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	if found := findAgent(t, e.Driver, g.ID); found != nil {
		t.Errorf("after Remove: %+v", *found)
	}
	if err := s.Resume(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNoCheckpoint) {
		t.Errorf("resume of a removed gateway: %v", err)
	}
}

func testSuspendedSecrets(t *testing.T, e Env) {
	s := suspender(t, e.Driver)
	g := Start(t, e.Driver, Spec(NewID()))
	if err := s.Suspend(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	const changed = `{"word":"changed in its sleep"}`
	if err := e.Driver.PutSecrets(t.Context(), g.Place, g.ID, []byte(changed)); err != nil {
		t.Fatal(err)
	}
	if err := s.Resume(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	if got := g.Ask("/secrets"); got != changed {
		t.Errorf("the resumed gateway has the secrets %s", got)
	}
	if err := e.Driver.PutSecrets(t.Context(), g.Place, g.ID, []byte(`{"word":"later"}`)); err != nil {
		t.Fatal(err)
	}
	if got := g.Ask("/secrets"); got != `{"word":"later"}` {
		t.Errorf("after the resume its secrets are %s", got)
	}
}

func testSuspendErrors(t *testing.T, e Env) {
	s := suspender(t, e.Driver)
	spec := Spec(NewID())
	g := Start(t, e.Driver, spec)
	boot := g.Ask("/boot")
	other, err := e.Driver.Place(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Suspend(t.Context(), other, g.ID); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("suspend at another place: %v", err)
	}
	if err := s.Suspend(t.Context(), g.Place, NewID()); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("suspend of an unknown agent: %v", err)
	}
	if got := g.Ask("/boot"); got != boot {
		t.Error("the gateway has restarted")
	}
	if err := e.Driver.Stop(t.Context(), g.Place, g.ID, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Suspend(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("suspend of a stopped gateway: %v", err)
	}
}

func testSuspendedServerRestart(t *testing.T, e Env) {
	g := Start(t, e.Driver, Spec(NewID()))
	s := suspender(t, e.Driver)
	boot := g.Ask("/boot")
	if err := s.Suspend(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	d := e.Restart(t)
	if p := phase(t, d, g); p != runtime.Suspended {
		t.Fatalf("for the next server the gateway is %s", p)
	}
	if err := d.(runtime.Suspender).Resume(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	if got := At(t, d, g.ID, g.Place).Ask("/boot"); got != boot {
		t.Error("the next server has started another gateway")
	}
}
