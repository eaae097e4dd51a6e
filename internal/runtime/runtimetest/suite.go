package runtimetest

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/vault"
)

// Run holds a driver against the contract of package runtime. open makes a
// driver over an empty world for each part.
func Run(t *testing.T, open func(t *testing.T) Bed) {
	parts := []struct {
		name string
		run  func(t *testing.T, b Bed)
	}{
		{"life of a gateway", testLife},
		{"what a gateway is given", testGiven},
		{"bad specs are refused", testBadSpecs},
		{"start is idempotent", testStartAgain},
		{"start elsewhere is refused", testStartElsewhere},
		{"starts at once make one gateway", testStartsAtOnce},
		{"everything at once ends well", testAllAtOnce},
		{"what is not there is no error", testNothingThere},
		{"exit codes", testExitCodes},
		{"watch tells the end", testWatch},
		{"secrets are replaced", testSecrets},
		{"logs", testLogs},
		{"logs follow over a restart", testFollow},
		{"a restart of the server", testServerRestart},
		{"list", testList},
		{"home", testHome},
		{"home keeps inside", testHomeInside},
		{"remove", testRemove},
		{"two agents", testTwoAgents},
	}
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			p.run(t, open(t))
		})
	}
	processParts := []struct {
		name string
		run  func(t *testing.T, b Bed)
	}{
		{"stop kills what does not listen", testStubborn},
		{"remove does not wait for a stop", testRemoveDuringStop},
		{"usage is measured", testUsage},
	}
	for _, p := range processParts {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			if b := open(t); b.Processes {
				p.run(t, b)
			}
		})
	}
}

func testLife(t *testing.T, b Bed) {
	s := Spec(NewID())
	place, err := b.Driver.Place(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	g := At(t, b.Driver, s.ID, place)
	if got := g.Inspect().Phase; got != runtime.Gone {
		t.Errorf("before the start: %s", got)
	}
	g = Start(t, b.Driver, s)
	state := g.Inspect()
	if state.Phase != runtime.Running || state.ExitCode != -1 || time.Since(state.StartedAt) > time.Hour {
		t.Errorf("running: %+v", state)
	}
	first := g.Ask("/boot")
	g.Ask("/write", "name", "kept.txt", "data", "of the agent")
	g.Stop(patience)
	if state := g.Inspect(); state.Phase != runtime.Exited || state.ExitCode != 0 || state.OOMKilled {
		t.Errorf("stopped: %+v", state)
	}
	g = StartAgain(t, b.Driver, s)
	if g.Ask("/boot") == first {
		t.Error("the second start is the first process")
	}
	if got := g.Ask("/read", "name", "kept.txt"); got != "of the agent" {
		t.Errorf("the home was not kept: %q", got)
	}
}

func testGiven(t *testing.T, b Bed) {
	s := Spec(NewID())
	s.Env["EMPTY"] = vault.NewSecret("")
	s.Env["TEMPLATE"] = vault.NewSecret("https://example.org:{port}/{home}?{secrets}")
	s.Env["LARGE"] = vault.NewSecret(strings.Repeat("l'", 60<<10))
	g := Start(t, b.Driver, s)
	home := g.Ask("/env", "name", "HOME")
	_, port, _ := strings.Cut(g.Ask("/env", "name", "WHERE"), "home="+home+" port=")
	if _, err := strconv.Atoi(port); err != nil || home == "" {
		t.Errorf("placeholders in the environment: home %q, %q", home, g.Ask("/env", "name", "WHERE"))
	}
	for name, want := range map[string]string{"AGENT": s.ID, "QUOTES": awkward, "EMPTY": "", "TEMPLATE": s.Env["TEMPLATE"].Reveal(), "LARGE": s.Env["LARGE"].Reveal()} {
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
	if got := g.Ask("/secrets"); got != string(s.Secrets) {
		t.Errorf("secrets: %q", got)
	}
}

func testBadSpecs(t *testing.T, b Bed) {
	if !b.Processes {
		return
	}
	for _, id := range []string{"", ".", "..", "../x", "a/b", ".hidden", "a b", strings.Repeat("a", 300)} {
		s := Spec(id)
		if _, err := b.Driver.Place(t.Context(), s); err == nil {
			t.Errorf("id %q was placed", id)
		}
		if err := b.Driver.Remove(t.Context(), "", id); err == nil {
			t.Errorf("id %q was removed", id)
		}
	}
	s := Spec(NewID())
	if err := b.Driver.Start(t.Context(), "no such place", s); err == nil {
		t.Error("started at no such place")
	}
	for _, name := range []string{"A B", "A=B", "", "1A", "A;true"} {
		s := Spec(NewID())
		s.Env = map[string]vault.Secret{name: vault.NewSecret("x")}
		place, err := b.Driver.Place(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Driver.Start(t.Context(), place, s); err == nil {
			t.Errorf("variable %q was taken", name)
		}
		if err := b.Driver.Remove(t.Context(), place, s.ID); err != nil {
			t.Error(err)
		}
	}
}

func testStartAgain(t *testing.T, b Bed) {
	s := Spec(NewID())
	g := Start(t, b.Driver, s)
	boot := g.Ask("/boot")
	if err := b.Driver.Start(t.Context(), g.Place, s); err != nil {
		t.Fatal(err)
	}
	if g.Ask("/boot") != boot {
		t.Error("a second start made a second gateway")
	}
	// One that has ended may be started at its place once more.
	g.Ask("/print", "line", "last words")
	g.Stop(patience)
	if err := b.Driver.Start(t.Context(), g.Place, s); err != nil {
		t.Fatal(err)
	}
	g.Await()
	if g.Ask("/boot") == boot {
		t.Error("the stopped gateway answers")
	}
}

func testStartElsewhere(t *testing.T, b Bed) {
	s := Spec(NewID())
	g := Start(t, b.Driver, s)
	boot := g.Ask("/boot")
	other, err := b.Driver.Place(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if other == g.Place {
		t.Fatal("the same place twice")
	}
	if err := b.Driver.Start(t.Context(), other, s); err == nil {
		t.Error("started at a second place")
	}
	if got := At(t, b.Driver, s.ID, other).Inspect().Phase; got != runtime.Gone {
		t.Errorf("the second place: %s", got)
	}
	if g.Ask("/boot") != boot {
		t.Error("the first gateway is gone")
	}
}

func testStartsAtOnce(t *testing.T, b Bed) {
	s := Spec(NewID())
	place, err := b.Driver.Place(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Driver.Remove(context.WithoutCancel(t.Context()), place, s.ID) })
	drivers := []runtime.Driver{b.Driver, b.Restart(t)}
	atOnce(t, 8, func(i int) error { return drivers[i%2].Start(t.Context(), place, s) })
	g := At(t, b.Driver, s.ID, place)
	g.Await()
	g.AwaitLog("boot " + g.Ask("/boot"))
	if n := strings.Count(g.Log(-1), "boot "); n != 1 {
		t.Errorf("%d gateways were started:\n%s", n, g.Log(-1))
	}
}

func testAllAtOnce(t *testing.T, b Bed) {
	s := Spec(NewID())
	atOnce(t, 12, func(i int) error {
		switch i % 4 {
		case 0, 1:
			place, err := b.Driver.Place(t.Context(), s)
			if err != nil {
				return err
			}
			_ = b.Driver.Start(t.Context(), place, s) // may run elsewhere by now
			return nil
		case 2:
			return b.Driver.Stop(t.Context(), "", s.ID, 10*time.Millisecond)
		default:
			return b.Driver.Remove(t.Context(), "", s.ID)
		}
	})
	if err := b.Driver.Remove(t.Context(), "", s.ID); err != nil {
		t.Fatal(err)
	}
	if found := find(t, b.Driver, s.ID); found != nil {
		t.Errorf("left: %+v", *found)
	}
}

// atOnce runs do n times at once and reports what fails.
func atOnce(t *testing.T, n int, do func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := do(i); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

func testNothingThere(t *testing.T, b Bed) {
	s := Spec(NewID())
	place, err := b.Driver.Place(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.Driver.Stop(t.Context(), place, s.ID, time.Second); err != nil {
			t.Errorf("stop: %v", err)
		}
		if err := b.Driver.Remove(t.Context(), place, s.ID); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
	g := At(t, b.Driver, s.ID, place)
	if state := g.Inspect(); state.Phase != runtime.Gone {
		t.Errorf("inspect: %+v", state)
	}
	if _, err := b.Driver.Dial(t.Context(), place, s.ID); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("dial: %v", err)
	}
	if err := b.Driver.PutSecrets(t.Context(), place, s.ID, []byte("{}")); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("put secrets: %v", err)
	}
	if got := g.Log(-1); got != "" {
		t.Errorf("log: %q", got)
	}
	if w, ok := b.Driver.(runtime.Watcher); ok {
		if err := w.Watch(t.Context(), place, s.ID); err != nil {
			t.Errorf("watch: %v", err)
		}
	}
}

func testExitCodes(t *testing.T, b Bed) {
	s := Spec(NewID())
	g := Start(t, b.Driver, s)
	for _, code := range []int{0, 1, 78, 137} {
		g = StartAgain(t, b.Driver, stopped(t, b.Driver, s, g))
		_, _ = g.Try("/exit", "code", strconv.Itoa(code)) // the answer may not come
		state := g.AwaitEnd()
		if state.Phase != runtime.Exited || state.ExitCode != code || state.OOMKilled {
			t.Errorf("exit %d: %+v", code, state)
		}
		if _, err := b.Driver.Dial(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNotRunning) {
			t.Errorf("dial after exit: %v", err)
		}
	}
}

func stopped(t *testing.T, d runtime.Driver, s runtime.Spec, g *Gateway) runtime.Spec {
	t.Helper()
	if err := d.Stop(t.Context(), g.Place, g.ID, patience); err != nil {
		t.Fatal(err)
	}
	return s
}

func testWatch(t *testing.T, b Bed) {
	w, ok := b.Driver.(runtime.Watcher)
	if !ok {
		return
	}
	g := Start(t, b.Driver, Spec(NewID()))
	short, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Watch(short, g.Place, g.ID); !errors.Is(err, context.Canceled) {
		t.Errorf("watch with a context that has ended: %v", err)
	}
	ended := make(chan error, 2)
	go func() { ended <- w.Watch(t.Context(), g.Place, g.ID) }()
	go func() { ended <- b.Restart(t).(runtime.Watcher).Watch(t.Context(), g.Place, g.ID) }()
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
		case <-time.After(patience):
			t.Fatal("watch does not return")
		}
	}
	if state := g.Inspect(); state.Phase != runtime.Exited || state.ExitCode != 3 {
		t.Errorf("after watch: %+v", state)
	}
}

func testSecrets(t *testing.T, b Bed) {
	g := Start(t, b.Driver, Spec(NewID()))
	for _, want := range []string{`{"word":"second"}`, strings.Repeat("long", 50_000), "{}"} {
		if err := b.Driver.PutSecrets(t.Context(), g.Place, g.ID, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if got := g.Ask("/secrets"); got != want {
			t.Errorf("secrets: %.40q, want %.40q", got, want)
		}
	}
	g.Stop(patience)
	if err := b.Driver.PutSecrets(t.Context(), g.Place, g.ID, []byte("{}")); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("put secrets of a stopped one: %v", err)
	}
}

func testServerRestart(t *testing.T, b Bed) {
	s := Spec(NewID())
	g := Start(t, b.Driver, s)
	boot := g.Ask("/boot")
	d := b.Restart(t)
	again := At(t, d, s.ID, g.Place)
	if state := again.Inspect(); state.Phase != runtime.Running {
		t.Fatalf("after the restart: %+v", state)
	}
	if found := find(t, d, s.ID); found == nil || !found.Running || found.Place != g.Place {
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
	again.Ask("/print", "line", "still here")
	again.AwaitLog("still here\n")
	again.Stop(patience)
	if state := again.Inspect(); state.Phase != runtime.Exited || state.ExitCode != 0 {
		t.Errorf("stopped after the restart: %+v", state)
	}
}

func find(t *testing.T, d runtime.Driver, id string) *runtime.Found {
	t.Helper()
	all, err := d.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(all, func(f runtime.Found) bool { return f.ID == id }); i >= 0 {
		return &all[i]
	}
	return nil
}

func testList(t *testing.T, b Bed) {
	a, c := Start(t, b.Driver, Spec(NewID())), Start(t, b.Driver, Spec(NewID()))
	c.Stop(patience)
	if f := find(t, b.Driver, a.ID); f == nil || !f.Running || f.Place != a.Place {
		t.Errorf("running: %+v", f)
	}
	if f := find(t, b.Driver, c.ID); f == nil || f.Running {
		t.Errorf("stopped: %+v", f)
	}
	// A home alone is something too.
	id := NewID()
	h, err := b.Driver.Home(t.Context(), "", id)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.WriteFile("a", nil), h.Close()); err != nil {
		t.Fatal(err)
	}
	if f := find(t, b.Driver, id); f == nil || f.Running {
		t.Errorf("a home alone: %+v", f)
	}
	if err := b.Driver.Remove(t.Context(), "", id); err != nil {
		t.Fatal(err)
	}
	if f := find(t, b.Driver, id); f != nil {
		t.Errorf("removed: %+v", f)
	}
}

func testRemove(t *testing.T, b Bed) {
	s := Spec(NewID())
	g := Start(t, b.Driver, s)
	g.Ask("/mkdir", "name", "a/b")
	g.Ask("/write", "name", "a/b/c", "data", "x")
	g.Ask("/chmod", "name", "a/b")
	g.Ask("/link", "to", "/", "name", "root")
	lines, stop := follow(t, b.Driver, g, 0)
	defer stop()
	if err := b.Driver.Remove(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	for range lines {
	}
	if state := g.Inspect(); state.Phase != runtime.Gone {
		t.Errorf("removed: %+v", state)
	}
	if got := g.Log(-1); got != "" {
		t.Errorf("log of a removed one: %q", got)
	}
	if f := find(t, b.Driver, g.ID); f != nil {
		t.Errorf("removed: %+v", f)
	}
	g = StartAgain(t, b.Driver, s)
	if _, err := g.Try("/read", "name", "a/b/c"); err == nil {
		t.Error("the home came back")
	}
}

func testTwoAgents(t *testing.T, b Bed) {
	s := Spec(NewID())
	other := Spec(NewID())
	other.Secrets = []byte("other")
	a, c := Start(t, b.Driver, s), Start(t, b.Driver, other)
	a.Ask("/write", "name", "x", "data", "mine")
	if _, err := c.Try("/read", "name", "x"); err == nil {
		t.Error("two agents share a home")
	}
	if c.Ask("/env", "name", "AGENT") != other.ID || c.Ask("/secrets") != "other" {
		t.Error("two agents share what they are given")
	}
	a.Stop(patience)
	c.Ask("/boot")
	if _, err := a.Home().ReadFile("x", 10); err != nil {
		t.Error(err)
	}
	if _, err := c.Home().ReadFile("x", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the other's home: %v", err)
	}
}

func testStubborn(t *testing.T, b Bed) {
	s := Spec(NewID())
	g := Start(t, b.Driver, s)
	g.Ask("/stubborn")
	// Children of all kinds: in its group, in a session of their own, and an
	// orphan that ignores signals.
	g.Sh(`sleep 1000 </dev/null >/dev/null 2>&1 &
setsid sleep 1000 </dev/null >/dev/null 2>&1 &
(setsid sh -c 'trap "" TERM HUP INT; while :; do sleep 1; done' </dev/null >/dev/null 2>&1 &)`)
	if n := g.Inspect().Processes; n < 5 {
		t.Errorf("%d processes", n)
	}
	g.Stop(50 * time.Millisecond)
	if state := g.Inspect(); state.Phase != runtime.Exited || state.ExitCode != 137 || state.OOMKilled {
		t.Errorf("stopped: %+v", state)
	}
	if f := find(t, b.Driver, g.ID); f == nil || f.Running {
		t.Errorf("stopped: %+v", f)
	}
}

func testRemoveDuringStop(t *testing.T, b Bed) {
	g := Start(t, b.Driver, Spec(NewID()))
	g.Ask("/stubborn")
	stop := make(chan error, 1)
	go func() { stop <- b.Driver.Stop(t.Context(), g.Place, g.ID, 10*patience) }()
	if err := b.Driver.Remove(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-stop:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the stop still waits")
	}
}

func testUsage(t *testing.T, b Bed) {
	s := Spec(NewID())
	s.Limits = runtime.Limits{MemoryBytes: 1 << 30, Processes: 500}
	g := Start(t, b.Driver, s)
	const much = 100 << 20
	before := g.Inspect()
	if before.MemoryLimit != s.Limits.MemoryBytes || before.MemoryBytes <= 0 || before.Processes < 1 {
		t.Errorf("usage: %+v", before)
	}
	g.Ask("/eat", "bytes", strconv.Itoa(much))
	g.Sh("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done")
	after := g.Inspect()
	if after.MemoryBytes < before.MemoryBytes+much*9/10 || after.CPU <= before.CPU {
		t.Errorf("usage before %+v, after %+v", before, after)
	}
}
