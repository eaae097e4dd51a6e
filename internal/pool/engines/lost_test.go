package engines_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/skiptest"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/pool/sshtest"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/runtimetest"
)

// calls are calls for a gateway that each need its server.
func calls(ctx context.Context, d runtime.Driver, g *runtimetest.Gateway) map[string]error {
	errs := map[string]error{}
	_, errs["inspect"] = d.Inspect(ctx, g.Place, g.ID)
	_, errs["dial"] = d.Dial(ctx, g.Place, g.ID)
	_, errs["network"] = d.Network(ctx, g.Place, g.ID)
	_, errs["logs"] = d.Logs(ctx, g.Place, g.ID, 10, false)
	_, errs["home"] = d.Home(ctx, g.Place, g.ID)
	_, errs["place"] = d.Place(ctx, runtime.Spec{ID: g.ID, Server: "alpha"})
	errs["secrets"] = d.PutSecrets(ctx, g.Place, g.ID, []byte("{}"))
	errs["stop"] = d.Stop(ctx, g.Place, g.ID, time.Second)
	errs["remove"] = d.Remove(ctx, g.Place, g.ID)
	return errs
}

// serveCalls answers the calls of a gateway.
func serveCalls(t *testing.T, d runtime.Driver, g *runtimetest.Gateway) {
	t.Helper()
	n, err := d.Network(t.Context(), g.Place, g.ID)
	must(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "you called "+r.URL.Path) })}
	go func() { _ = server.Serve(n.Server) }()
	t.Cleanup(func() { _, _ = server.Close(), n.Close() })
}

// checkSame waits until a gateway can be used again, and checks that it is the one that it was.
func checkSame(t *testing.T, g *runtimetest.Gateway, boot string) {
	t.Helper()
	runtimetest.WaitUntil(t, "the gateway answers again", func() bool {
		_, err := g.Try("/boot")
		return err == nil
	})
	if got := g.Ask("/boot"); got != boot {
		t.Errorf("it is another gateway: %s, not %s", got, boot)
	}
	runtimetest.WaitUntil(t, "the gateway's calls arrive again", func() bool {
		got, err := g.Try("/call", "path", "again")
		return err == nil && got == "you called /again"
	})
	if state := g.Inspect(); state.Phase != runtime.Running {
		t.Errorf("it is %+v", state)
	}
}

// TestLostSSHD: while a server is not connected, calls fail and name it, and nothing is believed to have
// ended. Its gateways run on, and are used again after the connection.
func TestLostSSHD(t *testing.T) {
	skiptest.UnlessChaos(t, "servers")
	t.Parallel()
	socket := sharedSocket(t)
	s := newSSHD(t)
	e := newEnv(t)
	e.connect(s.newServer("alpha", socket, ""))
	g := e.start("alpha")
	inner, err := e.Driver(t.Context(), "alpha")
	must(t, err)
	serveCalls(t, e.driver, g)
	boot := g.Ask("/boot")
	lines, err := e.driver.Logs(t.Context(), g.Place, g.ID, 0, true)
	must(t, err)
	defer func() { _ = lines.Close() }()
	watched := make(chan error, 1)
	go func() { watched <- e.driver.Watch(t.Context(), g.Place, g.ID) }()

	s.Stop()
	check := func(when string) {
		t.Helper()
		for name, err := range calls(t.Context(), e.driver, g) {
			if err == nil || !strings.Contains(err.Error(), "server alpha") {
				t.Errorf("%s: %s: %v", when, name, err)
			}
		}
	}
	check("at once")
	e.waitLost("alpha")
	check("when it is known")
	_, err = e.driver.Inspect(t.Context(), g.Place, g.ID)
	if unreachable := fault.From(err); unreachable.Code != fault.Unavailable || strings.Contains(unreachable.Message, s.Address) {
		t.Errorf("a caller sees %q", unreachable.Message)
	}
	if _, err := inner.Inspect(t.Context(), runtime.Place(strings.TrimPrefix(string(g.Place), "server/alpha/")), g.ID); err == nil {
		t.Error("a driver that was open before has an answer")
	}
	if found, err := e.driver.List(t.Context()); err != nil || hasOwn(found) {
		t.Errorf("listed: %+v, %v", found, err)
	}
	if state := containerState(t, socket, g.ID); state != "running" {
		t.Errorf("the gateway is %s", state)
	}

	s.Run("MaxStartups 200")
	checkSame(t, g, boot)
	select {
	case err := <-watched:
		t.Errorf("the gateway counts as ended: %v", err)
	default:
	}
	g.Ask("/print", "line", "after the loss")
	awaitLine(t, lines, "after the loss")
	_, _ = g.Try("/exit", "code", "3") // which may not answer any more
	must(t, <-watched)
}

// awaitLine reads up to a line.
func awaitLine(t *testing.T, r io.Reader, want string) {
	t.Helper()
	seen := make(chan bool, 1)
	go func() {
		var text strings.Builder
		buffer := make([]byte, 4096)
		for {
			n, err := r.Read(buffer)
			text.Write(buffer[:n])
			if strings.Contains(text.String(), want+"\n") || err != nil {
				seen <- err == nil
				return
			}
		}
	}()
	select {
	case ok := <-seen:
		if !ok {
			t.Errorf("the log ended before %q", want)
		}
	case <-time.After(time.Minute):
		t.Errorf("the log has no line %q", want)
	}
}

// TestStalledPackets: a connection whose packets are lost is noticed by its keepalives, also by calls that
// are under way.
func TestStalledPackets(t *testing.T) {
	skiptest.UnlessChaos(t, "servers")
	t.Parallel()
	socket := sharedSocket(t)
	s := newSSHD(t)
	p := sshtest.NewProxy(t, s.Address)
	e := newEnv(t)
	e.connect(s.newServer("alpha", socket, p.Address))
	g := e.start("alpha")
	serveCalls(t, e.driver, g)
	boot := g.Ask("/boot")
	p.Stall()
	t.Cleanup(p.Flow)
	began := time.Now()
	var wait sync.WaitGroup
	for name, call := range map[string]func() error{
		"inspect": func() error { _, err := e.driver.Inspect(t.Context(), g.Place, g.ID); return err },
		"request": func() error { _, err := g.Try("/boot"); return err },
	} {
		wait.Go(func() {
			if err := call(); err == nil || !strings.Contains(err.Error(), "server alpha") {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wait.Wait()
	e.waitLost("alpha")
	if took := time.Since(began); took > 10*time.Second { // four keepalives, and what a busy machine adds
		t.Errorf("it was noticed after %s", took)
	}
	p.Cut()
	p.Flow()
	checkSame(t, g, boot)
}

// TestEngineThatDoesNotAnswer: sshd lives, and the engine hangs, or does not listen. Nobody waits for it
// longer than they want.
func TestEngineThatDoesNotAnswer(t *testing.T) {
	skiptest.UnlessChaos(t, "servers")
	t.Parallel()
	sharedSocket(t) // skips
	s := newSSHD(t)
	e := newEnv(t)
	silent := filepath.Join(t.TempDir(), "e.sock")
	l, err := net.Listen("unix", silent)
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	e.add(s.newServer("silent", silent, ""))
	e.add(s.newServer("none", silent+".none", ""))
	for _, name := range []string{"silent", "none"} {
		runtimetest.WaitUntil(t, name+" is connected", func() bool { status, _ := e.settings.Links.Status(name); return status.Connected })
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err := e.Driver(ctx, name)
		cancel()
		if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "server "+name) || !strings.Contains(err.Error(), "not known yet") {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: it took %s", name, took)
		}
	}
	if _, err := e.Place(t.Context(), "a", "eu", "", 1); err == nil {
		t.Error("an agent was placed")
	}
	if got := e.local.RunningCount(); got != 0 {
		t.Errorf("%d gateways", got)
	}
}

// TestChangedHostKey: everything with that server stops, and nothing else does.
func TestChangedHostKey(t *testing.T) {
	t.Parallel()
	socket := sharedSocket(t)
	changed, other := newSSHD(t), newSSHD(t)
	e := newEnv(t)
	e.connect(changed.newServer("alpha", socket, ""))
	e.connect(other.newServer("beta", socket, ""))
	a, b := e.start("alpha"), e.start("beta")
	boot, bootB := a.Ask("/boot"), b.Ask("/boot")
	serveCalls(t, e.driver, a)
	changed.Stop()
	changed.NewHostKey("ed25519")
	changed.Run("MaxStartups 200")
	runtimetest.WaitUntil(t, "the change is stored", func() bool {
		n, err := e.service.Find(t.Context(), "alpha")
		return err == nil && n.Problem != ""
	})
	for name, err := range calls(t.Context(), e.driver, a) {
		if err == nil || !strings.Contains(err.Error(), "server alpha") || !strings.Contains(err.Error(), "host key") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := b.Ask("/boot"); got != bootB {
		t.Error("the gateway of the other server is another one")
	}
	for range 3 {
		if name, err := e.Place(t.Context(), runtimetest.NewID(), "eu", "", 1); name != "beta" || err != nil {
			t.Errorf("placed on %q, %v", name, err)
		}
	}
	if !strings.Contains(e.log.String(), "level=ERROR") {
		t.Errorf("nothing is at level error: %s", e.log)
	}
	n, err := e.service.Find(t.Context(), "alpha")
	must(t, err)
	keys, err := e.service.HostKeys(t.Context(), n.SSH())
	must(t, err)
	_, err = e.service.ConfirmHostKeys(t.Context(), operator, "alpha", keys)
	must(t, err)
	checkSame(t, a, boot)
}

// TestServerAddedAgain: one that was removed and added again under its name is another server: it has
// another driver, and the former one connects to neither.
func TestServerAddedAgain(t *testing.T) {
	t.Parallel()
	socket := sharedSocket(t)
	first, second := newSSHD(t), newSSHD(t)
	e := newEnv(t)
	e.connect(first.newServer("alpha", socket, ""))
	former, err := e.Driver(t.Context(), "alpha")
	must(t, err)
	_, err = e.service.Remove(t.Context(), operator, "alpha")
	must(t, err)
	if _, err := e.Driver(t.Context(), "alpha"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a removed server: %v", err)
	}
	e.connect(second.newServer("alpha", socket, ""))
	present, err := e.Driver(t.Context(), "alpha")
	must(t, err)
	if former == present {
		t.Error("the driver is the former server's")
	}
	if _, err := former.List(t.Context()); err == nil || !strings.Contains(err.Error(), "server alpha") {
		t.Errorf("the former driver connects: %v", err)
	}
	g := e.start("alpha")
	if s, err := former.Inspect(t.Context(), g.Place, g.ID); err == nil {
		t.Errorf("the former driver sees %+v", s)
	}
	g.Ask("/boot")
}
