package runtimetest

import (
	"errors"
	"testing"

	"agento.host/agento/internal/runtime"
)

// testIsolation: where gateways cannot be isolated, none is started, and everything else
// works. The driver notices by itself when they can be isolated again.
func testIsolation(t *testing.T, e Env) {
	if e.Break == nil {
		return
	}
	d := e.Driver
	if err := d.CheckIsolation(); err != nil {
		t.Fatalf("before: %v", err)
	}
	g := Start(t, d, Spec(NewID()))
	boot := g.Ask("/boot")
	other := Spec(NewID())
	place, err := d.Place(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	repair := e.Break(t)
	missing := (*runtime.IsolationError)(nil)
	WaitUntil(t, "no gateway is started", func() bool {
		if err = d.Start(t.Context(), place, other); err == nil {
			At(t, d, other.ID, place).Stop(0)
		}
		return err != nil
	})
	if !errors.As(err, &missing) || missing.Missing == "" {
		t.Errorf("start: %v", err)
	}
	if err := d.CheckIsolation(); !errors.As(err, &missing) {
		t.Errorf("check: %v", err)
	}
	if state, err := d.Inspect(t.Context(), place, other.ID); err != nil || state.Phase == runtime.Running {
		t.Errorf("what was not started: %+v, %v", state, err)
	}
	if got := g.Ask("/boot"); got != boot {
		t.Errorf("the gateway that ran before answers %q instead of %q", got, boot)
	}
	if _, err := g.Home().ReadFile("conf/deep/app.json", 100); err != nil {
		t.Errorf("read a home: %v", err)
	}
	if findAgent(t, d, g.ID) == nil {
		t.Error("the running agent is not listed")
	}
	g.Stop(0)
	if err := d.Remove(t.Context(), g.Place, g.ID); err != nil {
		t.Errorf("remove: %v", err)
	}
	repair()
	if err := d.Start(t.Context(), place, other); err != nil {
		t.Fatalf("start afterwards: %v", err)
	}
	At(t, d, other.ID, place).WaitReady()
	if err := d.CheckIsolation(); err != nil {
		t.Errorf("check afterwards: %v", err)
	}
	if err := d.Remove(t.Context(), place, other.ID); err != nil {
		t.Error(err)
	}
}
