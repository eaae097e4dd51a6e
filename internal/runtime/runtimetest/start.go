package runtimetest

import (
	"context"
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/vault"
)

func testLifeCycle(t *testing.T, e Env) {
	s := Spec(NewID())
	place, err := e.Driver.Place(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	g := At(t, e.Driver, s.ID, place)
	if got := g.Inspect().Phase; got != runtime.Gone {
		t.Errorf("before the start: %s", got)
	}
	g = Start(t, e.Driver, s)
	state := g.Inspect()
	if state.Phase != runtime.Running || state.ExitCode != -1 || time.Since(state.StartedAt) > time.Hour {
		t.Errorf("running: %+v", state)
	}
	first := g.Ask("/boot")
	g.Ask("/write", "name", "kept.txt", "data", "of the agent")
	g.Stop(waitTimeout)
	if state := g.Inspect(); state.Phase != runtime.Exited || state.ExitCode != 0 || state.OOMKilled {
		t.Errorf("stopped: %+v", state)
	}
	g = StartAgain(t, e.Driver, s)
	if g.Ask("/boot") == first {
		t.Error("the second start returned the first process")
	}
	if got := g.Ask("/read", "name", "kept.txt"); got != "of the agent" {
		t.Errorf("the home was not preserved: %q", got)
	}
}

func testGatewayInput(t *testing.T, e Env) {
	s := Spec(NewID())
	s.Env["EMPTY"] = vault.NewSecret("")
	s.Env["TEMPLATE"] = vault.NewSecret("https://example.org:{port}/{home}?{secrets}")
	s.Env["LARGE"] = vault.NewSecret(strings.Repeat("l'", 60<<10))
	g := Start(t, e.Driver, s)
	home := g.Ask("/env", "name", "HOME")
	_, port, _ := strings.Cut(g.Ask("/env", "name", "WHERE"), "home="+home+" port=")
	if _, err := strconv.Atoi(port); err != nil || home == "" {
		t.Errorf("placeholders in the environment: home %q, %q", home, g.Ask("/env", "name", "WHERE"))
	}
	for name, want := range map[string]string{"AGENT": string(s.ID), "QUOTES": shellSyntax, "EMPTY": "", "TEMPLATE": s.Env["TEMPLATE"].Reveal(), "LARGE": s.Env["LARGE"].Reveal()} {
		if got := g.Ask("/env", "name", name); got != want {
			t.Errorf("%s: %d bytes %.80q, want %d bytes %.80q", name, len(got), got, len(want), want)
		}
	}
	for _, name := range []string{"PATH", "TMPDIR"} {
		if g.Ask("/env", "name", name) == "" {
			t.Errorf("%s is empty", name)
		}
	}
	if got := g.Ask("/read", "name", "conf/deep/app.json"); got != `{"a":1}` {
		t.Errorf("file: %q", got)
	}
	if got := g.Ask("/read", "name", "conf/where"); got != "home="+home {
		t.Errorf("placeholders in a file: %q, want %q", got, home)
	}
	if got := g.Ask("/secrets"); got != string(s.Secrets) {
		t.Errorf("secrets: %q", got)
	}
}

func testBadSpecs(t *testing.T, e Env) {
	if !e.Processes {
		return
	}
	for _, id := range []identity.AgentID{"", ".", "..", "../x", "a/b", ".hidden", "a b", identity.AgentID(strings.Repeat("a", 300))} {
		s := Spec(id)
		if _, err := e.Driver.Place(t.Context(), s); err == nil {
			t.Errorf("Place accepted the id %q", id)
		}
		if err := e.Driver.Remove(t.Context(), "", id); err == nil {
			t.Errorf("Remove accepted the id %q", id)
		}
	}
	s := Spec(NewID())
	if err := e.Driver.Start(t.Context(), "no such place", s); err == nil {
		t.Error("Start accepted an invalid place")
	}
	for _, name := range []string{"A B", "A=B", "", "1A", "A;true"} {
		s := Spec(NewID())
		s.Env = map[string]vault.Secret{name: vault.NewSecret("x")}
		place, err := e.Driver.Place(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Driver.Start(t.Context(), place, s); err == nil {
			t.Errorf("Start accepted the variable %q", name)
		}
		if err := e.Driver.Remove(t.Context(), place, s.ID); err != nil {
			t.Error(err)
		}
	}
}

func testRepeatedStart(t *testing.T, e Env) {
	s := Spec(NewID())
	g := Start(t, e.Driver, s)
	boot := g.Ask("/boot")
	if err := e.Driver.Start(t.Context(), g.Place, s); err != nil {
		t.Fatal(err)
	}
	if g.Ask("/boot") != boot {
		t.Error("the second Start made a second gateway")
	}
	// A gateway that has ended may be started again at its place.
	g.Ask("/print", "line", "before the stop")
	g.Stop(waitTimeout)
	if err := e.Driver.Start(t.Context(), g.Place, s); err != nil {
		t.Fatal(err)
	}
	g.WaitReady()
	if g.Ask("/boot") == boot {
		t.Error("the gateway that was stopped still answers")
	}
}

func testStartAtOtherPlace(t *testing.T, e Env) {
	s := Spec(NewID())
	g := Start(t, e.Driver, s)
	boot := g.Ask("/boot")
	other, err := e.Driver.Place(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if other == g.Place {
		t.Fatal("Place returned the same place twice")
	}
	if err := e.Driver.Start(t.Context(), other, s); err == nil {
		t.Error("Start succeeded at a second place")
	}
	if got := At(t, e.Driver, s.ID, other).Inspect().Phase; got != runtime.Gone {
		t.Errorf("the second place: %s", got)
	}
	if g.Ask("/boot") != boot {
		t.Error("the first gateway was replaced")
	}
}

func testConcurrentStarts(t *testing.T, e Env) {
	s := Spec(NewID())
	place, err := e.Driver.Place(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Driver.Remove(context.WithoutCancel(t.Context()), place, s.ID) })
	drivers := []runtime.Driver{e.Driver, e.Restart(t)}
	concurrently(t, 8, func(i int) error { return drivers[i%2].Start(t.Context(), place, s) })
	g := At(t, e.Driver, s.ID, place)
	g.WaitReady()
	g.WaitLog("boot " + g.Ask("/boot"))
	if n := strings.Count(g.Log(-1), "boot "); n != 1 {
		t.Errorf("%d gateways were started:\n%s", n, g.Log(-1))
	}
}

func testConcurrentCalls(t *testing.T, e Env) {
	s := Spec(NewID())
	concurrently(t, 12, func(i int) error {
		switch i % 4 {
		case 0, 1:
			place, err := e.Driver.Place(t.Context(), s)
			if err != nil {
				return err
			}
			_ = e.Driver.Start(t.Context(), place, s) // the gateway may run at another place by now
			return nil
		case 2:
			return e.Driver.Stop(t.Context(), "", s.ID, 10*time.Millisecond)
		default:
			return e.Driver.Remove(t.Context(), "", s.ID)
		}
	})
	if err := e.Driver.Remove(t.Context(), "", s.ID); err != nil {
		t.Fatal(err)
	}
	if found := findAgent(t, e.Driver, s.ID); found != nil {
		t.Errorf("listed after the removal: %+v", *found)
	}
}

func testTwoAgents(t *testing.T, e Env) {
	s := Spec(NewID())
	other := Spec(NewID())
	other.Secrets = []byte("other")
	a, c := Start(t, e.Driver, s), Start(t, e.Driver, other)
	a.Ask("/write", "name", "x", "data", "mine")
	if _, err := c.Try("/read", "name", "x"); err == nil {
		t.Error("two agents share a home")
	}
	if c.Ask("/env", "name", "AGENT") != string(other.ID) || c.Ask("/secrets") != "other" {
		t.Error("two agents share environment or secrets")
	}
	a.Stop(waitTimeout)
	c.Ask("/boot")
	if _, err := a.Home().ReadFile("x", 10); err != nil {
		t.Error(err)
	}
	if _, err := c.Home().ReadFile("x", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the home of the other agent: %v", err)
	}
}
