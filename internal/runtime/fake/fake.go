// Package fake is a runtime driver for tests. Its gateways are HTTP handlers in
// this process. Tests can make it fail, be slow and crash. It records calls that
// break the contract. A Driver outlives the service under test, as real gateways
// outlive a server.
package fake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/home"
)

// Settings of a Driver.
type Settings struct {
	Dir      string                      // contains the homes
	Handler  func(*Gateway) http.Handler // returns the handler of a gateway; nil: 204 to every request
	Capacity int                         // number of gateways that can run; 0: any number
}

// Driver implements runtime.Driver, runtime.Watcher, runtime.Suspender and runtime.Freezer.
type Driver struct {
	settings Settings

	mu         sync.Mutex
	agents     map[identity.AgentID]*agent // guarded by mu
	violations []string                    // guarded by mu
	aside      []identity.AgentID          // the agents in quarantine; guarded by mu
	starts     map[identity.AgentID]int    // by id; guarded by mu
	resumes    map[identity.AgentID]int    // by id; guarded by mu
	thaws      map[identity.AgentID]int    // by id; guarded by mu
	script     script                      // guarded by mu
	places     int                         // guarded by mu
}

// script is what tests have set with the methods in script.go.
type script struct {
	failPlace, failStart    failures
	failSuspend, failResume failures
	failMove                failures
	checkpointBytes         int64  // what each checkpoint takes, of the memory or of the disk
	diskBudget              int64  // what checkpoints may take of the disk; 0: they stay in memory
	diskFull                int64  // of that, what the disk has no room for
	noSuspend               string // why gateways cannot be suspended; empty: they can
	failFreeze, failThaw    failures
	noFreeze                string // why gateways cannot be frozen; empty: they can
	missing                 string // for isolation; empty: nothing
	startDelay              time.Duration
	stopDelay               time.Duration
	exits                   map[identity.AgentID]exits
}

type failures struct {
	left int
	err  error
}

type exits struct{ left, code int }

// agent has everything that exists for an id.
type agent struct {
	id identity.AgentID
	op sync.Mutex // held by Start, Stop and Remove

	mu      sync.Mutex
	log     *logLines       // guarded by mu
	place   runtime.Place   // guarded by mu
	places  []runtime.Place // every place that Place has returned; guarded by mu
	gateway *Gateway        // the last one; guarded by mu
	owner   runtime.Owner   // guarded by mu
	memory  int64           // guarded by mu
	cpu     time.Duration   // guarded by mu
	hung    bool            // guarded by mu

	suspended bool         // the last gateway can be resumed; guarded by mu
	frozen    bool         // the gateway that runs is frozen; guarded by mu
	stored    int64        // what its checkpoint takes of the disk; 0: it is in memory; guarded by mu
	disk      runtime.Disk // guarded by mu
}

// New returns a driver without agents.
func New(s Settings) *Driver {
	if s.Handler == nil {
		s.Handler = func(*Gateway) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
		}
	}
	return &Driver{settings: s, agents: map[identity.AgentID]*agent{}, starts: map[identity.AgentID]int{}, resumes: map[identity.AgentID]int{}, thaws: map[identity.AgentID]int{}, script: script{exits: map[identity.AgentID]exits{}}}
}

// agent returns the agent with an id, or nil.
func (d *Driver) agent(id identity.AgentID) *agent {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.agents[id]
}

func (d *Driver) addAgent(id identity.AgentID) *agent {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.agents[id]
	if a == nil {
		a = &agent{id: id, log: newLogLines(), owner: runtime.Own}
		d.agents[id] = a
	}
	return a
}

func (d *Driver) recordViolation(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.violations = append(d.violations, fmt.Sprintf(format, args...))
}

// Place implements runtime.Driver.
func (d *Driver) Place(ctx context.Context, s runtime.Spec) (runtime.Place, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := d.checkPlace(); err != nil {
		return "", err
	}
	a := d.addAgent(s.ID)
	d.mu.Lock()
	d.places++
	place := runtime.Place(fmt.Sprintf("fake/%d", d.places))
	d.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.places = append(a.places, place)
	return place, nil
}

func (d *Driver) checkPlace() error {
	running := d.RunningCount()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.script.failPlace.next(); err != nil {
		return err
	}
	if d.settings.Capacity > 0 && running >= d.settings.Capacity {
		return runtime.ErrNoCapacity
	}
	return nil
}

func (f *failures) next() error {
	if f.left == 0 {
		return nil
	}
	f.left--
	return f.err
}

// CheckIsolation implements runtime.Driver.
func (d *Driver) CheckIsolation() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.script.missing == "" {
		return nil
	}
	return &runtime.IsolationError{Missing: d.script.missing}
}

// Start implements runtime.Driver.
func (d *Driver) Start(ctx context.Context, place runtime.Place, s runtime.Spec) error {
	a := d.addAgent(s.ID)
	a.op.Lock()
	defer a.op.Unlock()
	if err := a.use(); err != nil {
		return fmt.Errorf("start %s: %w", s.ID, err)
	}
	a.mu.Lock()
	known, running, frozen, at := slices.Contains(a.places, place), a.running() != nil, a.frozen, a.place
	a.mu.Unlock()
	if running && frozen && at == place {
		a.stop(137)
		running = false
	}
	if !known {
		d.recordViolation("start of %s at place %q, which Place has not returned", s.ID, place)
	}
	if running && at == place {
		return nil
	}
	if err := d.CheckIsolation(); err != nil {
		return fmt.Errorf("start %s: %w", s.ID, err)
	}
	if running {
		d.recordViolation("second start of %s at %s while it runs at %s", s.ID, place, at)
		return fmt.Errorf("start %s: it runs at place %s: stop it first", s.ID, at)
	}
	return d.start(ctx, a, place, s)
}

func (d *Driver) start(ctx context.Context, a *agent, place runtime.Place, s runtime.Spec) error {
	a.mu.Lock()
	disk := a.disk
	a.mu.Unlock()
	if disk.Exceeds(s.Limits) {
		return fmt.Errorf("start %s: %w", s.ID, &runtime.DiskError{Used: disk})
	}
	d.mu.Lock()
	delay := d.script.startDelay
	err := d.script.failStart.next()
	exit := d.script.exits[s.ID]
	if err == nil && exit.left > 0 {
		d.script.exits[s.ID] = lessOne(exit)
	}
	d.mu.Unlock()
	if err := pause(ctx, delay); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	if err := d.writeFiles(ctx, s); err != nil {
		return fmt.Errorf("start %s: %w", s.ID, err)
	}
	g := newGateway(d, a, place, s)
	a.mu.Lock()
	a.place, a.gateway, a.suspended, a.frozen, a.stored = place, g, false, false, 0
	a.mu.Unlock()
	d.mu.Lock()
	d.starts[s.ID]++
	d.mu.Unlock()
	g.handler = d.settings.Handler(g)
	g.serve()
	if exit.left > 0 {
		g.Exit(exit.code)
	}
	return nil
}

func lessOne(e exits) exits { return exits{left: e.left - 1, code: e.code} }

func (d *Driver) writeFiles(ctx context.Context, s runtime.Spec) error {
	h, err := d.openHome(ctx, s.ID)
	if err != nil {
		return err
	}
	for name, data := range s.Files {
		if err := h.WriteFile(name, []byte(d.expand(s.ID, string(data)))); err != nil {
			return errors.Join(err, h.Close())
		}
	}
	return h.Close()
}

// expand replaces the placeholders of a spec.
func (d *Driver) expand(id identity.AgentID, text string) string {
	return strings.NewReplacer(runtime.HomePath, d.homeDir(id), runtime.Port, "1", runtime.SecretsPath, secretsPath, runtime.ServerAddr, serverAddr).Replace(text)
}

// Stop implements runtime.Driver. The gateway ends at once with exit code 0,
// whatever the grace period is, unless DelayStop was called.
func (d *Driver) Stop(ctx context.Context, _ runtime.Place, id identity.AgentID, grace time.Duration) error {
	a := d.agent(id)
	if a == nil || a.currentOwner() == runtime.Foreign {
		return nil
	}
	a.op.Lock()
	defer a.op.Unlock()
	d.mu.Lock()
	delay := min(d.script.stopDelay, grace)
	d.mu.Unlock()
	if a.isFrozen() {
		delay = 0
	}
	if err := pause(ctx, delay); err != nil {
		return err
	}
	a.stop(0)
	return home.Purge(ctx, d.trashDir(id))
}

func (a *agent) stop(code int) {
	a.mu.Lock()
	g := a.running()
	a.suspended, a.frozen, a.stored = false, false, 0
	a.mu.Unlock()
	if g != nil {
		l := g.current()
		g.Exit(code)
		<-l.served
	}
}

// running returns the gateway if it runs, otherwise nil. The caller holds mu.
func (a *agent) running() *Gateway {
	if a.gateway == nil || a.gateway.ended() {
		return nil
	}
	return a.gateway
}

// isFrozen reports whether the agent has a frozen gateway.
func (a *agent) isFrozen() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.frozen && a.running() != nil
}

// Inspect implements runtime.Driver.
func (d *Driver) Inspect(_ context.Context, place runtime.Place, id identity.AgentID) (runtime.State, error) {
	gone := runtime.State{Phase: runtime.Gone, ExitCode: -1}
	a := d.agent(id)
	if a == nil {
		return gone, nil
	}
	d.mu.Lock()
	checkpoint := d.script.checkpointBytes
	d.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.gateway == nil || a.place != place {
		return gone, nil
	}
	if a.suspended {
		s := runtime.State{Phase: runtime.Suspended, ExitCode: -1, MemoryBytes: checkpoint, StoredBytes: a.stored, Disk: a.disk}
		if a.stored > 0 {
			s.MemoryBytes = 0
		}
		return s, nil
	}
	s := a.gateway.state(a.memory, a.cpu, a.hung)
	s.Disk = a.disk
	switch {
	case s.Phase == runtime.Running && a.frozen:
		s.Phase = runtime.Frozen
	case s.Phase == runtime.Running:
		s.ExtraBytes = checkpoint
	}
	s.OverDisk = s.Phase == runtime.Exited && a.disk.Exceeds(a.gateway.Spec.Limits)
	return s, nil
}

// Watch implements runtime.Watcher.
func (d *Driver) Watch(ctx context.Context, place runtime.Place, id identity.AgentID) error {
	a := d.agent(id)
	if a == nil {
		return nil
	}
	a.mu.Lock()
	g := a.running()
	atPlace := a.place == place
	a.mu.Unlock()
	if g == nil || !atPlace {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-g.current().done:
		return nil
	}
}

// Logs implements runtime.Driver. At least the last 10,000 lines are kept.
func (d *Driver) Logs(ctx context.Context, _ runtime.Place, id identity.AgentID, tail int, follow bool) (io.ReadCloser, error) {
	return d.addAgent(id).currentLog().read(ctx, tail, follow), nil
}

// Dial implements runtime.Driver.
func (d *Driver) Dial(ctx context.Context, place runtime.Place, id identity.AgentID) (net.Conn, error) {
	if a := d.agent(id); a != nil {
		a.mu.Lock()
		g, here := a.running(), a.place == place && !a.frozen
		a.mu.Unlock()
		if g != nil && here {
			return g.dial(ctx)
		}
	}
	return nil, fmt.Errorf("dial %s: %w", id, runtime.ErrNotRunning)
}

// Home implements runtime.Driver.
func (d *Driver) Home(ctx context.Context, _ runtime.Place, id identity.AgentID) (runtime.Home, error) {
	if err := d.addAgent(id).use(); err != nil {
		return nil, fmt.Errorf("home of %s: %w", id, err)
	}
	return d.openHome(ctx, id)
}

func (d *Driver) openHome(ctx context.Context, id identity.AgentID) (*home.Dir, error) {
	return home.Open(ctx, home.Settings{Dir: d.homeDir(id), Trash: d.trashDir(id)})
}

func (d *Driver) trashDir(id identity.AgentID) string {
	return filepath.Join(d.settings.Dir, ".trash", string(id))
}

func (d *Driver) homeDir(id identity.AgentID) string {
	return filepath.Join(d.settings.Dir, string(id))
}

// PutSecrets implements runtime.Driver.
func (d *Driver) PutSecrets(_ context.Context, place runtime.Place, id identity.AgentID, secrets []byte) error {
	if a := d.agent(id); a != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		if g := a.gateway; g != nil && a.place == place && (a.suspended || !g.ended()) {
			g.putSecrets(secrets)
			return nil
		}
	}
	return fmt.Errorf("put secrets of %s: %w", id, runtime.ErrNotRunning)
}

// Remove implements runtime.Driver.
func (d *Driver) Remove(ctx context.Context, _ runtime.Place, id identity.AgentID) error {
	a := d.agent(id)
	if a == nil {
		return d.purge(ctx, id)
	}
	a.op.Lock()
	defer a.op.Unlock()
	if a.currentOwner() == runtime.Foreign {
		return nil
	}
	a.stop(137)
	a.clear()
	return d.purge(ctx, id)
}

func (d *Driver) purge(ctx context.Context, id identity.AgentID) error {
	return errors.Join(home.Purge(ctx, d.homeDir(id)), home.Purge(ctx, d.trashDir(id)))
}

// Quarantine implements runtime.Driver. It moves the home to ".quarantine" in
// Settings.Dir, under the agent's id and the time.
func (d *Driver) Quarantine(_ context.Context, id identity.AgentID) error {
	a := d.agent(id)
	if a == nil {
		return nil
	}
	a.op.Lock()
	defer a.op.Unlock()
	if a.currentOwner() != runtime.Own {
		return fmt.Errorf("quarantine %s: %w", id, runtime.ErrForeign)
	}
	a.stop(137)
	a.clear()
	if _, err := os.Lstat(d.homeDir(id)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	dir := filepath.Join(d.settings.Dir, ".quarantine")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Rename(d.homeDir(id), filepath.Join(dir, fmt.Sprintf("%s-%d", id, time.Now().UnixNano()))); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.aside = append(d.aside, id)
	return nil
}

// use marks an agent that has no mark. Errors: runtime.ErrForeign.
func (a *agent) use() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.owner == runtime.Foreign {
		return runtime.ErrForeign
	}
	a.owner = runtime.Own
	return nil
}

func (a *agent) currentOwner() runtime.Owner {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.owner
}

// clear resets an agent. It stays in the map, since a Start may be waiting for its
// lock.
func (a *agent) clear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.log.close()
	a.log, a.gateway, a.place, a.places, a.owner = newLogLines(), nil, "", nil, runtime.Own
	a.suspended, a.frozen, a.stored = false, false, 0
}

func (a *agent) currentLog() *logLines {
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
			out = append(out, runtime.Found{ID: a.id, Place: a.place, Running: a.running() != nil, Owner: a.owner})
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
