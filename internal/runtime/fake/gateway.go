package fake

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// secretsPath replaces runtime.SecretsPath. No such file exists: see
// Gateway.Secrets.
const secretsPath = "/fake/secrets.json"

// Gateway is a gateway that runs or has ended.
type Gateway struct {
	ID    identity.AgentID
	Place runtime.Place
	Spec  runtime.Spec // the argument of Start

	driver  *Driver
	agent   *agent
	at      time.Time
	handler http.Handler // set before it is served

	mu      sync.Mutex
	life    *life        // guarded by mu
	http    *http.Server // guarded by mu
	secrets []byte       // guarded by mu
	code    int          // guarded by mu
	oom     bool         // guarded by mu
}

// life is what a gateway has from its start, or a resume, to its end, or a suspend. It is
// the listener of the gateway's own server.
type life struct {
	place  runtime.Place
	conns  chan net.Conn
	calls  chan net.Conn // to the server
	done   chan struct{} // closed when it ends
	served chan struct{} // closed when the server has returned
}

func newLife(place runtime.Place) *life {
	return &life{place: place, conns: make(chan net.Conn), calls: make(chan net.Conn), done: make(chan struct{}), served: make(chan struct{})}
}

// current returns the last life of the gateway.
func (g *Gateway) current() *life {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.life
}

func newGateway(d *Driver, a *agent, place runtime.Place, s runtime.Spec) *Gateway {
	return &Gateway{
		ID: s.ID, Place: place, Spec: s, driver: d, agent: a, at: time.Now().UTC(), life: newLife(place),
		secrets: slices.Clone(s.Secrets),
	}
}

// serve serves requests with the handler until the gateway ends.
func (g *Gateway) serve() {
	server := &http.Server{Handler: g.handler, ReadHeaderTimeout: time.Minute}
	g.mu.Lock()
	g.http = server
	l := g.life
	g.mu.Unlock()
	go func() {
		defer close(l.served)
		_ = server.Serve(l) // returns when the gateway ends
	}()
}

// resume begins another life of a gateway that was suspended.
func (g *Gateway) resume() {
	g.mu.Lock()
	g.life = newLife(g.Place)
	g.mu.Unlock()
	g.serve()
}

// Accept implements net.Listener.
func (l *life) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *life) Close() error { return nil }

// Addr implements net.Listener.
func (l *life) Addr() net.Addr { return addr(l.place) }

type addr string

func (addr) Network() string  { return "fake" }
func (a addr) String() string { return string(a) }

func (g *Gateway) dial(ctx context.Context) (net.Conn, error) {
	l := g.current()
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.done:
		return nil, fmt.Errorf("dial %s: %w", g.ID, runtime.ErrNotRunning)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Exit ends the gateway. Its connections break.
func (g *Gateway) Exit(code int) { g.end(code, false) }

func (g *Gateway) end(code int, oom bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.life.ended() {
		return
	}
	g.code, g.oom = code, oom
	close(g.life.done)
	if g.http != nil {
		_ = g.http.Close() // breaks open connections; the error does not matter
	}
}

func (g *Gateway) ended() bool { return g.current().ended() }

func (l *life) ended() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

func (g *Gateway) state(memory int64, cpu time.Duration, hung bool) runtime.State {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.life.ended() {
		return runtime.State{Phase: runtime.Exited, ExitCode: g.code, OOMKilled: g.oom}
	}
	s := runtime.State{
		Phase: runtime.Running, ExitCode: -1, StartedAt: g.at, MemoryBytes: memory,
		MemoryLimit: g.Spec.Limits.MemoryBytes, CPU: cpu, Processes: 1, LoggedAt: time.Now(),
	}
	if hung {
		s.LoggedAt = g.at
	}
	return s
}

// Print adds a line to the agent's log.
func (g *Gateway) Print(line string) { g.agent.currentLog().add(line) }

// Getenv returns a variable of the gateway's environment as the gateway sees it.
func (g *Gateway) Getenv(name string) string {
	switch name {
	case "HOME":
		return g.HomeDir()
	case "PATH":
		return "/usr/bin:/bin"
	case "TMPDIR":
		return "/tmp"
	}
	return g.expand(g.Spec.Env[name].Reveal())
}

// Args returns the gateway's arguments as the gateway sees them.
func (g *Gateway) Args() []string {
	out := make([]string, len(g.Spec.Args))
	for i, a := range g.Spec.Args {
		out[i] = g.expand(a)
	}
	return out
}

func (g *Gateway) expand(text string) string {
	return g.driver.expand(g.ID, text)
}

// HomeDir returns the directory of the agent's home.
func (g *Gateway) HomeDir() string { return g.driver.homeDir(g.ID) }

// Secrets returns the content of the secrets file.
func (g *Gateway) Secrets() ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.life.ended() {
		return nil, errors.New("the gateway has ended: its secrets file is removed")
	}
	return slices.Clone(g.secrets), nil
}

func (g *Gateway) putSecrets(secrets []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.secrets = slices.Clone(secrets)
}
