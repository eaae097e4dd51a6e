package runtimetest

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/runtime"
)

func testUnknownAgent(t *testing.T, e Env) {
	s := Spec(NewID())
	place, err := e.Driver.Place(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := e.Driver.Stop(t.Context(), place, s.ID, time.Second); err != nil {
			t.Errorf("stop: %v", err)
		}
		if err := e.Driver.Remove(t.Context(), place, s.ID); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
	g := At(t, e.Driver, s.ID, place)
	if state := g.Inspect(); state.Phase != runtime.Gone {
		t.Errorf("inspect: %+v", state)
	}
	if _, err := e.Driver.Dial(t.Context(), place, s.ID); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("dial: %v", err)
	}
	if err := e.Driver.PutSecrets(t.Context(), place, s.ID, []byte("{}")); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("put secrets: %v", err)
	}
	if got := g.Log(-1); got != "" {
		t.Errorf("log: %q", got)
	}
	if w, ok := e.Driver.(runtime.Watcher); ok {
		if err := w.Watch(t.Context(), place, s.ID); err != nil {
			t.Errorf("watch: %v", err)
		}
	}
}

func testServerRestart(t *testing.T, e Env) {
	s := Spec(NewID())
	g := Start(t, e.Driver, s)
	boot := g.Ask("/boot")
	d := e.Restart(t)
	again := At(t, d, s.ID, g.Place)
	if state := again.Inspect(); state.Phase != runtime.Running {
		t.Fatalf("after the restart: %+v", state)
	}
	if found := findAgent(t, d, s.ID); found == nil || !found.Running || found.Place != g.Place {
		t.Errorf("after the restart: %+v", found)
	}
	if err := d.Start(t.Context(), g.Place, s); err != nil {
		t.Fatal(err)
	}
	if again.Ask("/boot") != boot {
		t.Error("not the same gateway")
	}
	if err := d.PutSecrets(t.Context(), g.Place, s.ID, []byte("new")); err != nil || again.Ask("/secrets") != "new" {
		t.Errorf("secrets after the restart: %v", err)
	}
	again.Ask("/print", "line", "after the restart")
	again.WaitLog("after the restart\n")
	again.Stop(waitTimeout)
	if state := again.Inspect(); state.Phase != runtime.Exited || state.ExitCode != 0 {
		t.Errorf("stopped after the restart: %+v", state)
	}
}

func testList(t *testing.T, e Env) {
	a, c := Start(t, e.Driver, Spec(NewID())), Start(t, e.Driver, Spec(NewID()))
	c.Stop(waitTimeout)
	if f := findAgent(t, e.Driver, a.ID); f == nil || !f.Running || f.Place != a.Place {
		t.Errorf("running: %+v", f)
	}
	if f := findAgent(t, e.Driver, c.ID); f == nil || f.Running {
		t.Errorf("stopped: %+v", f)
	}
	// An agent that has only a home is listed too.
	id := NewID()
	h, err := e.Driver.Home(t.Context(), "", id)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.WriteFile("a", nil), h.Close()); err != nil {
		t.Fatal(err)
	}
	if f := findAgent(t, e.Driver, id); f == nil || f.Running {
		t.Errorf("an agent with only a home: %+v", f)
	}
	if err := e.Driver.Remove(t.Context(), "", id); err != nil {
		t.Fatal(err)
	}
	if f := findAgent(t, e.Driver, id); f != nil {
		t.Errorf("removed: %+v", f)
	}
}

func testSecrets(t *testing.T, e Env) {
	g := Start(t, e.Driver, Spec(NewID()))
	for _, want := range []string{`{"word":"second"}`, strings.Repeat("long", 50_000), "{}"} {
		if err := e.Driver.PutSecrets(t.Context(), g.Place, g.ID, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if got := g.Ask("/secrets"); got != want {
			t.Errorf("secrets: %.40q, want %.40q", got, want)
		}
	}
	g.Stop(waitTimeout)
	if err := e.Driver.PutSecrets(t.Context(), g.Place, g.ID, []byte("{}")); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("put secrets of a stopped gateway: %v", err)
	}
}

func testUsage(t *testing.T, e Env) {
	s := Spec(NewID())
	s.Limits = runtime.Limits{MemoryBytes: 1 << 30, Processes: 500}
	g := Start(t, e.Driver, s)
	const added = 100 << 20
	if e.UsageIsLate {
		WaitUntil(t, "the usage is measured", func() bool { return g.Inspect().MemoryBytes > 0 })
	}
	before := g.Inspect()
	if before.MemoryLimit != s.Limits.MemoryBytes || before.MemoryBytes <= 0 || before.Processes < 1 {
		t.Errorf("usage: %+v", before)
	}
	g.Ask("/use-memory", "bytes", strconv.Itoa(added))
	g.Shell("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done")
	if e.UsageIsLate {
		WaitUntil(t, "the usage is measured again", func() bool { return g.Inspect().MemoryBytes >= before.MemoryBytes+added*9/10 })
	}
	after := g.Inspect()
	if after.MemoryBytes < before.MemoryBytes+added*9/10 || after.CPU <= before.CPU {
		t.Errorf("usage before %+v, after %+v", before, after)
	}
}
