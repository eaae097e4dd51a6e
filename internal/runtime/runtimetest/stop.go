package runtimetest

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"agento.host/agento/internal/runtime"
)

func testExitCodes(t *testing.T, e Env) {
	s := Spec(NewID())
	g := Start(t, e.Driver, s)
	for _, code := range []int{0, 1, 78, 137} {
		g = StartAgain(t, e.Driver, stopGateway(t, e.Driver, s, g))
		_, _ = g.Try("/exit", "code", strconv.Itoa(code)) // there may be no answer
		state := g.WaitExit()
		if state.Phase != runtime.Exited || state.ExitCode != code || state.OOMKilled {
			t.Errorf("exit %d: %+v", code, state)
		}
		if _, err := e.Driver.Dial(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNotRunning) {
			t.Errorf("dial after exit: %v", err)
		}
	}
}

func testWatch(t *testing.T, e Env) {
	w, ok := e.Driver.(runtime.Watcher)
	if !ok {
		return
	}
	g := Start(t, e.Driver, Spec(NewID()))
	short, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Watch(short, g.Place, g.ID); !errors.Is(err, context.Canceled) {
		t.Errorf("watch with an ended context: %v", err)
	}
	ended := make(chan error, 2)
	go func() { ended <- w.Watch(t.Context(), g.Place, g.ID) }()
	go func() { ended <- e.Restart(t).(runtime.Watcher).Watch(t.Context(), g.Place, g.ID) }()
	g.Ask("/boot")
	if len(ended) > 0 {
		t.Fatalf("watch returned early: %v", <-ended)
	}
	_, _ = g.Try("/exit", "code", "3")
	for range 2 {
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(waitTimeout):
			t.Fatal("watch does not return")
		}
	}
	if state := g.Inspect(); state.Phase != runtime.Exited || state.ExitCode != 3 {
		t.Errorf("after watch: %+v", state)
	}
}

func testRemove(t *testing.T, e Env) {
	s := Spec(NewID())
	g := Start(t, e.Driver, s)
	g.Ask("/mkdir", "name", "a/b")
	g.Ask("/write", "name", "a/b/c", "data", "x")
	g.Ask("/chmod", "name", "a/b")
	g.Ask("/link", "to", "/", "name", "root")
	lines, stop := followLogs(t, e.Driver, g, 0)
	defer stop()
	if err := e.Driver.Remove(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	for range lines {
	}
	if state := g.Inspect(); state.Phase != runtime.Gone {
		t.Errorf("removed: %+v", state)
	}
	if got := g.Log(-1); got != "" {
		t.Errorf("log of a removed agent: %q", got)
	}
	if f := findAgent(t, e.Driver, g.ID); f != nil {
		t.Errorf("removed: %+v", f)
	}
	g = StartAgain(t, e.Driver, s)
	if _, err := g.Try("/read", "name", "a/b/c"); err == nil {
		t.Error("the home still exists after the removal")
	}
}

func testStopKills(t *testing.T, e Env) {
	s := Spec(NewID())
	g := Start(t, e.Driver, s)
	g.Ask("/ignore-sigterm")
	// Three children: in its process group, in a session of its own, and an orphan
	// in its own session that ignores signals.
	g.Shell(`sleep 1000 </dev/null >/dev/null 2>&1 &
setsid sleep 1000 </dev/null >/dev/null 2>&1 &
(setsid sh -c 'trap "" TERM HUP INT; while :; do sleep 1; done' </dev/null >/dev/null 2>&1 &)`)
	if e.UsageIsLate {
		WaitUntil(t, "its processes are counted", func() bool { return g.Inspect().Processes >= 5 })
	}
	if n := g.Inspect().Processes; n < 5 {
		t.Errorf("%d processes", n)
	}
	g.Stop(50 * time.Millisecond)
	if state := g.Inspect(); state.Phase != runtime.Exited || state.ExitCode != 137 || state.OOMKilled {
		t.Errorf("stopped: %+v", state)
	}
	if f := findAgent(t, e.Driver, g.ID); f == nil || f.Running {
		t.Errorf("stopped: %+v", f)
	}
}

func testRemoveDuringStop(t *testing.T, e Env) {
	g := Start(t, e.Driver, Spec(NewID()))
	g.Ask("/ignore-sigterm")
	stop := make(chan error, 1)
	go func() { stop <- e.Driver.Stop(t.Context(), g.Place, g.ID, 10*waitTimeout) }()
	if err := e.Driver.Remove(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-stop:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(waitTimeout):
		t.Fatal("Stop still waits after the removal")
	}
}

func testQuarantine(t *testing.T, e Env) {
	for range 2 {
		if err := e.Driver.Quarantine(t.Context(), NewID()); err != nil {
			t.Errorf("quarantine of an agent that does not exist: %v", err)
		}
	}
	s := Spec(NewID())
	g := Start(t, e.Driver, s)
	g.Ask("/write", "name", "kept", "data", "x")
	if f := findAgent(t, e.Driver, g.ID); f == nil || f.Owner != runtime.Own {
		t.Errorf("before: %+v", f)
	}
	if err := e.Driver.Quarantine(t.Context(), g.ID); err != nil {
		t.Fatal(err)
	}
	if state := g.Inspect(); state.Phase != runtime.Gone {
		t.Errorf("in quarantine: %+v", state)
	}
	if f := findAgent(t, e.Driver, g.ID); f != nil {
		t.Errorf("in quarantine: %+v", f)
	}
	if got := g.Log(-1); got != "" {
		t.Errorf("log in quarantine: %q", got)
	}
	if err := e.Driver.PutSecrets(t.Context(), g.Place, g.ID, []byte("{}")); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("put secrets: %v", err)
	}
	if f := findAgent(t, e.Restart(t), g.ID); f != nil {
		t.Errorf("in quarantine, after a restart: %+v", f)
	}
	g = StartAgain(t, e.Driver, s)
	if _, err := g.Try("/read", "name", "kept"); err == nil {
		t.Error("the next home has the files of the one in quarantine")
	}
	if err := e.Driver.Quarantine(t.Context(), g.ID); err != nil {
		t.Errorf("a second one of the same agent: %v", err)
	}
}
