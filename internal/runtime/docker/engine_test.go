package docker_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/skiptest"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/docker"
	"agento.host/agento/internal/runtime/docker/dockertest"
	"agento.host/agento/internal/runtime/runtimetest"
)

// TestEngineRestarts: an engine that is ended or killed ends the gateways. What is not known is an error.
func TestEngineRestarts(t *testing.T) {
	skiptest.UnlessChaos(t, "containers")
	sharedHost(t) // skips
	engine, err := dockertest.New()
	dockertest.Check(t, err)
	t.Cleanup(func() { must(t, engine.Close()) })
	must(t, dockertest.LoadImage(t.Context(), engine.Host()))
	d := openDriver(t, newSettings(t, engine.Host()))
	s := runtimetest.Spec(runtimetest.NewID())
	for _, kill := range []bool{false, true} {
		g := runtimetest.StartAgain(t, d, s)
		g.Ask("/write", "name", "kept", "data", "x")
		lines := follow(t, d, g)
		g.Ask("/print", "line", "before")
		lines.await(t, "before")
		ended := make(chan error, 1)
		go func() { ended <- d.Watch(t.Context(), g.Place, g.ID) }()
		must(t, engine.Restart(kill))
		runtimetest.WaitUntil(t, "the end of the gateway is known", func() bool {
			state, err := d.Inspect(t.Context(), g.Place, g.ID)
			if err == nil && state.Phase == runtime.Gone {
				t.Fatalf("the gateway is %+v", state)
			}
			return err == nil && state.Phase == runtime.Exited
		})
		must(t, <-ended)
		if _, err := d.Dial(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNotRunning) {
			t.Errorf("dial: %v", err)
		}
		g = runtimetest.StartAgain(t, d, s)
		if got := g.Ask("/read", "name", "kept"); got != "x" {
			t.Errorf("the home has %q", got)
		}
		g.Ask("/print", "line", "after")
		lines.await(t, "after")
		lines.close()
		g.Stop(time.Minute)
	}
	must(t, engine.Close())
	if state, err := d.Inspect(t.Context(), "docker//x", s.ID); err == nil {
		t.Errorf("without an engine: %+v", state)
	}
	if err := d.Stop(t.Context(), "docker//x", s.ID, 0); err == nil {
		t.Error("a stop succeeded without an engine")
	}
	if _, err := d.List(t.Context()); err == nil {
		t.Error("a list succeeded without an engine")
	}
	missing := (*runtime.IsolationError)(nil)
	place, err := d.Place(t.Context(), s)
	must(t, err)
	if err := d.Start(t.Context(), place, s); err == nil {
		t.Error("a start succeeded without an engine")
	}
	again := openDriver(t, newSettings(t, engine.Host())) // does not fail
	if err := again.CheckIsolation(); !errors.As(err, &missing) {
		t.Errorf("check: %v", err)
	}
}

// followed reads a log.
type followed struct {
	lines chan string
	close func()
}

func follow(t *testing.T, d *docker.Driver, g *runtimetest.Gateway) followed {
	t.Helper()
	r, err := d.Logs(t.Context(), g.Place, g.ID, 0, true)
	must(t, err)
	f := followed{lines: make(chan string, 200_000), close: func() { _ = r.Close() }}
	go func() {
		defer close(f.lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			f.lines <- s.Text()
		}
	}()
	t.Cleanup(f.close)
	return f
}

// await reads up to a line.
func (f followed) await(t *testing.T, want string) {
	t.Helper()
	for deadline := time.After(time.Minute); ; {
		select {
		case line, ok := <-f.lines:
			if line == want {
				return
			}
			if !ok {
				t.Fatalf("the log ended before %q", want)
			}
		case <-deadline:
			t.Fatalf("no line %q", want)
		}
	}
}

// expectFlood reads the lines of a flood, without gaps and doubles.
func (f followed) expectFlood(t *testing.T, from, to int) {
	t.Helper()
	for deadline := time.After(time.Minute); from < to; {
		select {
		case line, ok := <-f.lines:
			if !ok {
				t.Fatalf("the log ended before line %d", from)
			}
			if !strings.HasPrefix(line, "flood ") {
				continue
			}
			if want := fmt.Sprintf("flood %07d", from); line != want {
				t.Fatalf("the log has %q instead of %q", line, want)
			}
			from++
		case <-deadline:
			t.Fatalf("no line %d", from)
		}
	}
}

// cutter makes connections to an engine and cuts them.
type cutter struct {
	address string
	mu      sync.Mutex
	conns   []net.Conn
}

func (c *cutter) dial(ctx context.Context) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.address)
	if err == nil {
		c.mu.Lock()
		c.conns = append(c.conns, conn)
		c.mu.Unlock()
	}
	return conn, err
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

func newCutter(t *testing.T) (*cutter, docker.Settings) {
	t.Helper()
	host := sharedHost(t)
	c := &cutter{address: strings.TrimPrefix(host, "unix://")}
	s := newSettings(t, "")
	s.Dial = c.dial
	return c, s
}

// A reader follows over rotations, lost connections and a restart: no line is missing or there twice.
func TestLogsFollowEverything(t *testing.T) {
	skiptest.UnlessChaos(t, "containers")
	t.Parallel()
	c, settings := newCutter(t)
	settings.LogMaxBytes = 500 << 10
	d := openDriver(t, settings)
	s := runtimetest.Spec(runtimetest.NewID())
	g := runtimetest.Start(t, d, s)
	lines := follow(t, d, g)
	const step = 2500 // a third of what is kept
	next := 0
	for range 4 {
		g.Ask("/flood", "from", fmt.Sprint(next), "to", fmt.Sprint(next+step))
		lines.expectFlood(t, next, next+step)
		next += step
		c.cut()
	}
	g.Stop(time.Minute)
	g = runtimetest.StartAgain(t, d, s)
	c.cut()
	g.Ask("/flood", "from", fmt.Sprint(next), "to", fmt.Sprint(next+step))
	lines.expectFlood(t, next, next+step)
	if got := strings.Count(g.Log(2*step), "flood "); got < 2*step-10 {
		t.Errorf("%d lines of the end", got)
	}
	if got := g.Log(1); got != fmt.Sprintf("flood %07d\n", next+step-1) {
		t.Errorf("the last line is %q", got)
	}
}

// A long line, which the engine keeps in parts, is one line.
func TestLongLinesInLogs(t *testing.T) {
	t.Parallel()
	d := openDriver(t, newSettings(t, sharedHost(t)))
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	lines := follow(t, d, g)
	long := strings.Repeat("x", 50_000)
	g.Ask("/print", "line", long)
	g.Ask("/print", "line", "end")
	lines.await(t, long)
	lines.await(t, "end")
	if got := g.Log(2); got != long+"\nend\n" {
		t.Errorf("the last two lines have %d bytes", len(got))
	}
}

// After a connection was lost everything goes on: requests to the gateway and calls of the gateway.
func TestLostConnections(t *testing.T) {
	skiptest.UnlessChaos(t, "containers")
	t.Parallel()
	c, settings := newCutter(t)
	d := openDriver(t, settings)
	s := runtimetest.Spec(runtimetest.NewID())
	g := runtimetest.Start(t, d, s)
	n, err := d.Network(t.Context(), g.Place, g.ID)
	must(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	})}
	go func() { _ = server.Serve(n.Server) }()
	t.Cleanup(func() { _, _ = server.Close(), n.Close() })
	h := g.Home()
	for range 3 {
		runtimetest.WaitUntil(t, "the gateway reaches the server", func() bool {
			got, err := g.Try("/call", "path", "x")
			return err == nil && got == "hello"
		})
		must(t, h.WriteFile("a", []byte("x")))
		c.cut()
		if got, err := h.ReadFile("a", 10); err != nil || string(got) != "x" {
			t.Errorf("the home has %q, %v", got, err)
		}
		c.cut()
		g.Ask("/boot")
	}
	// No session is left behind in the container.
	runtimetest.WaitUntil(t, "the old sessions end", func() bool { return strings.Count(g.Shell("ps"), "agento-relay connect") <= 1 })
}

// The version is negotiated again when the engine refuses it.
func TestVersionIsNegotiatedAgain(t *testing.T) {
	t.Parallel()
	p := newProxy(t, sharedHost(t))
	settings := newSettings(t, p.host)
	d := openDriver(t, settings)
	list(t, d)
	var refused, pinged int
	var mu sync.Mutex
	refuse := func(r *http.Request) *http.Response {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case strings.HasSuffix(r.URL.Path, "/_ping"):
			pinged++
		case pinged == 0:
			refused++
			return answer(r, http.StatusBadRequest, "client version 1.41 is too old. Minimum supported API version is 1.44, please upgrade your client to a newer version")
		}
		return nil
	}
	p.refuse.Store(&refuse)
	list(t, d)
	mu.Lock()
	defer mu.Unlock()
	if refused != 1 || pinged == 0 {
		t.Errorf("refused %d calls, asked %d times for the version", refused, pinged)
	}
}

// The answer of a call that has changed something is lost.
func TestLostAnswers(t *testing.T) {
	skiptest.UnlessChaos(t, "containers")
	host := sharedHost(t)
	for _, lost := range []string{"/containers/create", "/start", "/volumes/create", "/rename", "/pause", "/unpause", "/kill"} {
		t.Run(strings.TrimPrefix(lost, "/"), func(t *testing.T) {
			t.Parallel()
			p := newProxy(t, host)
			p.loseAnswer(lost)
			d := openDriver(t, newSettings(t, p.host))
			s := runtimetest.Spec(runtimetest.NewID())
			t.Cleanup(func() { must(t, d.Remove(context.WithoutCancel(t.Context()), "", s.ID)) })
			place, err := d.Place(t.Context(), s)
			must(t, err)
			again := func(what string, do func() error) {
				t.Helper()
				err := do()
				if err != nil {
					err = do()
				}
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
			}
			again("start", func() error { return d.Start(t.Context(), place, s) })
			g := runtimetest.At(t, d, s.ID, place)
			g.WaitReady()
			boot := g.Ask("/boot")
			again("freeze", func() error { return d.Freeze(t.Context(), place, s.ID) })
			again("thaw", func() error { return d.Thaw(t.Context(), place, s.ID) })
			if g.Ask("/boot") != boot {
				t.Error("it was started again")
			}
			again("stop", func() error { return d.Stop(t.Context(), place, s.ID, time.Minute) })
			again("start", func() error { return d.Start(t.Context(), place, s) })
			g.WaitReady()
			if n := strings.Count(g.Log(-1), "boot "); n != 2 {
				t.Errorf("%d gateways were started:\n%s", n, g.Log(-1))
			}
		})
	}
}

// The container that serves the files of an agent is removed when nobody uses it.
func TestFilesContainerIsRemoved(t *testing.T) {
	skiptest.UnlessChaos(t, "containers")
	t.Parallel()
	host := sharedHost(t)
	api := newAPI(t, host)
	d := openDriver(t, newSettings(t, host))
	id := runtimetest.NewID()
	h, err := d.Home(t.Context(), "", id)
	must(t, err)
	t.Cleanup(func() { must(t, d.Remove(context.WithoutCancel(t.Context()), "", id)) })
	must(t, h.WriteFile("a", []byte("x")))
	if c, _ := objects(t, api, id); len(c) != 1 || !strings.HasSuffix(c[0], "-files running") {
		t.Errorf("containers: %v", c)
	}
	must(t, h.Close())
	runtimetest.WaitUntil(t, "the container is removed", func() bool {
		c, _ := objects(t, api, id)
		return len(c) == 0
	})
}
