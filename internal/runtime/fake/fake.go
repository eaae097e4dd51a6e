// Package fake is a runtime driver whose gateways are HTTP handlers in this
// process, for tests. It can be told to fail, to be slow and to crash, and it
// notes what callers do that the contract forbids. A Driver outlives the
// service under test as real gateways outlive a server.
package fake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/home"
)

// Settings of a Driver.
type Settings struct {
	Dir     string                      // holds the homes
	Handler func(*Gateway) http.Handler // answers for a gateway; nil: 204 to everything
	Room    int                         // gateways that fit; 0: any number
}

// Driver implements runtime.Driver and runtime.Watcher.
type Driver struct {
	set Settings

	mu         sync.Mutex
	agents     map[string]*agent // guarded by mu
	violations []string          // guarded by mu
	starts     map[string]int    // by id; guarded by mu
	script     script            // guarded by mu
	places     int               // guarded by mu
}

// script is what tests have ordered.
type script struct {
	failPlace, failStart faults
	startDelay           time.Duration
	stopDelay            time.Duration
	exits                map[string]exits
}

type faults struct {
	left int
	err  error
}

type exits struct{ left, code int }

// agent is all that exists for an id.
type agent struct {
	id  string
	one sync.Mutex // one Start, Stop or Remove at a time

	mu      sync.Mutex
	log     *lines        // guarded by mu
	place   string        // guarded by mu
	placed  []string      // places given out; guarded by mu
	gateway *Gateway      // the last one; guarded by mu
	memory  int64         // guarded by mu
	cpu     time.Duration // guarded by mu
}

// New returns a driver without agents.
func New(s Settings) *Driver {
	if s.Handler == nil {
		s.Handler = func(*Gateway) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
		}
	}
	return &Driver{set: s, agents: map[string]*agent{}, starts: map[string]int{}, script: script{exits: map[string]exits{}}}
}

// agent returns what exists for an id; nil if nothing does.
func (d *Driver) agent(id string) *agent {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.agents[id]
}

func (d *Driver) agentOrNew(id string) *agent {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.agents[id]
	if a == nil {
		a = &agent{id: id, log: newLines()}
		d.agents[id] = a
	}
	return a
}

func (d *Driver) violate(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.violations = append(d.violations, fmt.Sprintf(format, args...))
}

// Place implements runtime.Driver.
func (d *Driver) Place(ctx context.Context, s runtime.Spec) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := d.placing(); err != nil {
		return "", err
	}
	a := d.agentOrNew(s.ID)
	d.mu.Lock()
	d.places++
	place := fmt.Sprintf("fake/%d", d.places)
	d.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.placed = append(a.placed, place)
	return place, nil
}

func (d *Driver) placing() error {
	live := d.Live()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.script.failPlace.next(); err != nil {
		return err
	}
	if d.set.Room > 0 && live >= d.set.Room {
		return runtime.ErrNoRoom
	}
	return nil
}

func (f *faults) next() error {
	if f.left == 0 {
		return nil
	}
	f.left--
	return f.err
}

// Start implements runtime.Driver.
func (d *Driver) Start(ctx context.Context, place string, s runtime.Spec) error {
	a := d.agentOrNew(s.ID)
	a.one.Lock()
	defer a.one.Unlock()
	a.mu.Lock()
	placed, running, at := slices.Contains(a.placed, place), a.live() != nil, a.place
	a.mu.Unlock()
	if !placed {
		d.violate("start of %s at place %q, which it was never given", s.ID, place)
	}
	if running && at == place {
		return nil
	}
	if running {
		d.violate("second start of %s at %s while it runs at %s", s.ID, place, at)
		return fmt.Errorf("start %s: it runs at place %s: stop it first", s.ID, at)
	}
	return d.start(ctx, a, place, s)
}

func (d *Driver) start(ctx context.Context, a *agent, place string, s runtime.Spec) error {
	d.mu.Lock()
	delay := d.script.startDelay
	err := d.script.failStart.next()
	exit := d.script.exits[s.ID]
	if err == nil && exit.left > 0 {
		d.script.exits[s.ID] = exitsLess(exit)
	}
	d.mu.Unlock()
	if err := pause(ctx, delay); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	if err := d.furnish(s); err != nil {
		return fmt.Errorf("start %s: %w", s.ID, err)
	}
	g := newGateway(d, a, place, s)
	a.mu.Lock()
	a.place, a.gateway = place, g
	a.mu.Unlock()
	d.mu.Lock()
	d.starts[s.ID]++
	d.mu.Unlock()
	g.serve(d.set.Handler(g))
	if exit.left > 0 {
		g.Exit(exit.code)
	}
	return nil
}

func exitsLess(e exits) exits { return exits{left: e.left - 1, code: e.code} }

func (d *Driver) furnish(s runtime.Spec) error {
	h, err := d.openHome(s.ID)
	if err != nil {
		return err
	}
	for name, data := range s.Files {
		if err := h.WriteFile(name, data); err != nil {
			return errors.Join(err, h.Close())
		}
	}
	return h.Close()
}

// Stop implements runtime.Driver. The gateway ends at once with exit code 0,
// whatever the grace, unless DelayStop says otherwise.
func (d *Driver) Stop(ctx context.Context, _, id string, grace time.Duration) error {
	a := d.agent(id)
	if a == nil {
		return nil
	}
	a.one.Lock()
	defer a.one.Unlock()
	d.mu.Lock()
	delay := min(d.script.stopDelay, grace)
	d.mu.Unlock()
	if err := pause(ctx, delay); err != nil {
		return err
	}
	a.stop(0)
	return nil
}

func (a *agent) stop(code int) {
	a.mu.Lock()
	g := a.live()
	a.mu.Unlock()
	if g != nil {
		g.Exit(code)
		<-g.served
	}
}

// live returns the gateway if it runs. The caller holds mu.
func (a *agent) live() *Gateway {
	if a.gateway == nil || a.gateway.ended() {
		return nil
	}
	return a.gateway
}

// Inspect implements runtime.Driver.
func (d *Driver) Inspect(_ context.Context, place, id string) (runtime.State, error) {
	gone := runtime.State{Phase: runtime.Gone, ExitCode: -1}
	a := d.agent(id)
	if a == nil {
		return gone, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.gateway == nil || a.place != place {
		return gone, nil
	}
	return a.gateway.state(a.memory, a.cpu), nil
}

// Watch implements runtime.Watcher.
func (d *Driver) Watch(ctx context.Context, place, id string) error {
	a := d.agent(id)
	if a == nil {
		return nil
	}
	a.mu.Lock()
	g := a.live()
	here := a.place == place
	a.mu.Unlock()
	if g == nil || !here {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-g.done:
		return nil
	}
}

// Logs implements runtime.Driver. At least the last 10,000 lines are kept.
func (d *Driver) Logs(ctx context.Context, _, id string, tail int, follow bool) (io.ReadCloser, error) {
	return d.agentOrNew(id).lines().read(ctx, tail, follow), nil
}

// Dial implements runtime.Driver.
func (d *Driver) Dial(ctx context.Context, place, id string) (net.Conn, error) {
	if a := d.agent(id); a != nil {
		a.mu.Lock()
		g, here := a.live(), a.place == place
		a.mu.Unlock()
		if g != nil && here {
			return g.dial(ctx)
		}
	}
	return nil, fmt.Errorf("dial %s: %w", id, runtime.ErrNotRunning)
}

// Home implements runtime.Driver.
func (d *Driver) Home(_ context.Context, _, id string) (runtime.Home, error) {
	d.agentOrNew(id)
	return d.openHome(id)
}

func (d *Driver) openHome(id string) (*home.Dir, error) {
	return home.Open(home.Settings{Dir: d.homeDir(id), Trash: filepath.Join(d.set.Dir, ".trash")})
}

func (d *Driver) homeDir(id string) string { return filepath.Join(d.set.Dir, id) }

// PutSecrets implements runtime.Driver.
func (d *Driver) PutSecrets(_ context.Context, place, id string, secrets []byte) error {
	if a := d.agent(id); a != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		if g := a.live(); g != nil && a.place == place {
			g.putSecrets(secrets)
			return nil
		}
	}
	return fmt.Errorf("put secrets of %s: %w", id, runtime.ErrNotRunning)
}

// Remove implements runtime.Driver.
func (d *Driver) Remove(_ context.Context, _, id string) error {
	a := d.agent(id)
	if a == nil {
		return home.Purge(d.homeDir(id))
	}
	a.one.Lock()
	defer a.one.Unlock()
	a.stop(137)
	a.clear()
	return home.Purge(d.homeDir(id))
}

// clear makes an agent as if it had never been. It stays in the map, since a
// Start may be waiting for its lock.
func (a *agent) clear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.log.close()
	a.log, a.gateway, a.place, a.placed = newLines(), nil, "", nil
}

func (a *agent) lines() *lines {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.log
}

// List implements runtime.Driver.
func (d *Driver) List(context.Context) ([]runtime.Found, error) {
	var out []runtime.Found
	for _, a := range d.all() {
		_, err := os.Stat(d.homeDir(a.id))
		a.mu.Lock()
		if a.gateway != nil || err == nil {
			out = append(out, runtime.Found{ID: a.id, Place: a.place, Running: a.live() != nil})
		}
		a.mu.Unlock()
	}
	return out, nil
}

func (d *Driver) all() []*agent {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]*agent, 0, len(d.agents))
	for _, a := range d.agents {
		out = append(out, a)
	}
	return out
}

func pause(ctx context.Context, t time.Duration) error {
	if t <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
