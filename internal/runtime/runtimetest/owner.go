package runtimetest

import (
	"errors"
	"testing"

	"agento.host/agento/internal/runtime"
)

func testForeign(t *testing.T, e Env) {
	s := Spec(NewID())
	g := Start(t, e.Driver, s)
	g.Ask("/write", "name", "kept", "data", "x")
	g.Stop(waitTimeout)
	e.SetOwner(t, g.ID, runtime.Foreign)
	if f := findAgent(t, e.Driver, g.ID); f == nil || f.Owner != runtime.Foreign || f.Running {
		t.Errorf("listed: %+v", f)
	}
	place, err := e.Driver.Place(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Driver.Start(t.Context(), place, s); !errors.Is(err, runtime.ErrForeign) {
		t.Errorf("start: %v", err)
	}
	if _, err := e.Driver.Home(t.Context(), place, g.ID); !errors.Is(err, runtime.ErrForeign) {
		t.Errorf("home: %v", err)
	}
	if err := e.Driver.Quarantine(t.Context(), g.ID); !errors.Is(err, runtime.ErrForeign) {
		t.Errorf("quarantine: %v", err)
	}
	if err := e.Driver.Stop(t.Context(), place, g.ID, 0); err != nil {
		t.Errorf("stop: %v", err)
	}
	if err := e.Driver.Remove(t.Context(), place, g.ID); err != nil {
		t.Errorf("remove: %v", err)
	}
	e.SetOwner(t, g.ID, runtime.Own)
	if got, err := g.Home().ReadFile("kept", 10); err != nil || string(got) != "x" {
		t.Errorf("the home has %q, %v", got, err)
	}
}

func testUnmarked(t *testing.T, e Env) {
	if e.NoUnmarked != "" {
		t.Skip("skipped: ", e.NoUnmarked)
	}
	g := Start(t, e.Driver, Spec(NewID()))
	g.Stop(waitTimeout)
	e.SetOwner(t, g.ID, runtime.Unmarked)
	if f := findAgent(t, e.Driver, g.ID); f == nil || f.Owner != runtime.Unmarked {
		t.Errorf("listed: %+v", f)
	}
	if err := e.Driver.Quarantine(t.Context(), g.ID); !errors.Is(err, runtime.ErrForeign) {
		t.Errorf("quarantine: %v", err)
	}
	g.Home()
	if f := findAgent(t, e.Driver, g.ID); f == nil || f.Owner != runtime.Own {
		t.Errorf("listed after its use: %+v", f)
	}
}
