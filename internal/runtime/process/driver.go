// Package process runs each gateway as a process of this machine, in a sandbox. Where
// that is impossible it starts none. All its state is in the files below Settings.Dir: a new
// driver finds every gateway that an earlier one started.
package process

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/home"
	"agento.host/agento/internal/vault"
)

// Driver implements runtime.Driver, runtime.Watcher, runtime.Runner, runtime.Suspender and
// runtime.Freezer. Gateways outlive it. Run must run while the driver is in use.
type Driver struct {
	settings  Settings
	isolation isolation
	cgroup    cgroup
	secrets   secretStore
	users     userRange
	assignMu  sync.Mutex // serialises assignUser
	sockets   socketPool
	criu      criu
	canFreeze func() error // tests it once

	checkpoints checkpointStore
	compaction  *compaction

	hasDiscarded atomic.Bool // there may be something for purgeDiscarded
	purging      sync.Mutex  // held while discarded directories are purged: two purges of one would disturb each other

	mu         sync.Mutex
	locks      map[identity.AgentID]*agentLock    // guarded by mu
	logs       map[identity.AgentID]*gatewayLog   // guarded by mu
	reported   map[string]bool                    // the strangers that were logged, by nonce; guarded by mu
	disks      map[identity.AgentID]diskUse       // guarded by mu
	supervised map[identity.AgentID]bool          // the agents that Run maintains; guarded by mu
	children   map[int]bool                       // our child processes not yet reaped; guarded by mu
	discards   map[identity.AgentID]chan struct{} // checkpoints that are being deleted after their resume; guarded by mu
}

// New returns a driver for this machine. It tests what the machine supports and
// creates missing directories.
func New(s Settings) (*Driver, error) {
	if err := s.complete(); err != nil {
		return nil, err
	}
	d := &Driver{
		settings: s, users: findUserRange(), compaction: newCompaction(),
		locks: map[identity.AgentID]*agentLock{}, logs: map[identity.AgentID]*gatewayLog{},
		disks: map[identity.AgentID]diskUse{}, supervised: map[identity.AgentID]bool{}, children: map[int]bool{}, discards: map[identity.AgentID]chan struct{}{}, reported: map[string]bool{},
	}
	if err := removeUnfinishedDirs(s.Dir); err != nil {
		return nil, err
	}
	name, err := shortName(s.Dir, s.Installation)
	if err != nil {
		return nil, err
	}
	if d.secrets, err = openSecretStore(s.RunDir, s.Dir, name); err != nil {
		return nil, err
	}
	d.criu, d.checkpoints = findCRIU(s), openCheckpointStore(d.secrets, newCheckpointDisk(s))
	MarkCloseOnExec()
	_, probeErr := d.probe()
	d.cgroup = noCgroup{cause: "they are switched off"}
	if !s.NoGroups {
		d.cgroup = probeCgroup(name)
	}
	d.canFreeze = sync.OnceValue(d.tryFreeze)
	d.logRestrictions(probeErr)
	return d, nil
}

func (d *Driver) logRestrictions(probeErr error) {
	if probeErr != nil {
		d.settings.Log.Error("no agent is started until agents can be isolated", "error", probeErr)
	}
	if d.settings.NoSandbox {
		d.settings.Log.Warn("agents run without a sandbox and can read what this user can read")
	}
	if kind, reason := d.Limits(); reason != "" {
		d.settings.Log.Warn("the kernel does not enforce the limits of agents", "instead", kind, "reason", reason)
	}
	if path, inMemory := d.SecretsDir(); !inMemory {
		d.settings.Log.Warn("no memory file system here: the secrets files of running agents are on a disk", "path", path)
	}
}

// Limits returns what enforces the limits of memory and processes: "cgroup v1",
// "cgroup v2" or "watch" (Run measures and kills). If it is "watch", reason says
// why.
func (d *Driver) Limits() (kind, reason string) { return d.cgroup.kind(), d.cgroup.reason() }

// SecretsDir returns the directory of the secrets files, and reports whether it is
// on a memory file system.
func (d *Driver) SecretsDir() (path string, inMemory bool) {
	return d.secrets.dir, d.secrets.inMemory
}

var validID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

// agent is an agent's id with its paths.
type agent struct {
	id           identity.AgentID
	installation string // to which the directory should belong; empty: any
	dir          string // Dir/<id>; everything in it except home belongs to the server
	home         string
	owner        home.Owner
}

func (d *Driver) agent(id identity.AgentID) (agent, error) {
	if !validID.MatchString(string(id)) {
		return agent{}, fmt.Errorf("not an agent id: %q", id)
	}
	dir := filepath.Join(d.settings.Dir, string(id))
	return agent{id: id, installation: d.settings.Installation, dir: dir, home: filepath.Join(dir, "home"), owner: d.users.ownerOf(id, dir)}, nil
}

func (a agent) path(name string) string { return filepath.Join(a.dir, name) }

// agentLock is the lock of one agent, with the number of goroutines that hold it or
// wait for it.
type agentLock struct {
	sync.Mutex
	users int // guarded by Driver.mu
}

// lock serialises the changes of one agent within this process. Between processes
// the lock file does (see lockForStart).
func (d *Driver) lock(id identity.AgentID) (unlock func()) {
	d.mu.Lock()
	l := d.locks[id]
	if l == nil {
		l = &agentLock{}
		d.locks[id] = l
	}
	l.users++
	d.mu.Unlock()
	l.Lock()
	return func() {
		l.Unlock()
		d.mu.Lock()
		defer d.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(d.locks, id)
		}
	}
}

// Place implements runtime.Driver.
func (d *Driver) Place(ctx context.Context, s runtime.Spec) (runtime.Place, error) {
	if _, err := d.agent(s.ID); err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	return newPlace(), nil
}

// Inspect implements runtime.Driver.
func (d *Driver) Inspect(ctx context.Context, place runtime.Place, id identity.AgentID) (runtime.State, error) {
	a, err := d.agent(id)
	if err != nil {
		return runtime.State{}, err
	}
	rec, err := a.record()
	if err != nil {
		return runtime.State{}, fmt.Errorf("inspect %s: %w", id, err)
	}
	if rec.Checkpoint != "" || !rec.FrozenAt.IsZero() {
		if rec, err = d.settled(ctx, a); err != nil {
			return runtime.State{}, fmt.Errorf("inspect %s: %w", id, err)
		}
	}
	if rec.Place != place || rec.isMoved(a) {
		return runtime.State{Phase: runtime.Gone, ExitCode: -1}, nil
	}
	return d.state(a, rec), nil
}

func (d *Driver) state(a agent, rec record) runtime.State {
	_, alive := d.alive(a, rec)
	switch {
	case alive:
		d.supervise(a.id, true)
		s := d.runningState(a, rec)
		if !rec.FrozenAt.IsZero() {
			s.Phase = runtime.Frozen
		}
		return s
	case d.isSuspended(a, rec):
		s := d.checkpoints.state(a.id)
		s.Disk = d.disk(a.id).used
		return s
	case rec.Nonce != "" && a.shimRan(rec):
		code := a.exitCode(rec)
		oom := rec.OOMKilled || mayBeKilled(code) && d.cgroup.oomKilled(rec.Groups)
		use := d.disk(a.id)
		return runtime.State{Phase: runtime.Exited, ExitCode: code, OOMKilled: oom, OverDisk: use.ended == rec.Nonce, Disk: use.used}
	case rec.Nonce != "" && a.isLocked(): // the shim has not written its pid yet
		return runtime.State{Phase: runtime.Running, ExitCode: -1, MemoryLimit: rec.MemoryLimit, StartedAt: rec.At}
	}
	return runtime.State{Phase: runtime.Gone, ExitCode: -1}
}

func (d *Driver) runningState(a agent, rec record) runtime.State {
	s := runtime.State{Phase: runtime.Running, ExitCode: -1, MemoryLimit: rec.MemoryLimit, StartedAt: rec.At}
	u, err := d.cgroup.usage(rec.Groups)
	if err != nil {
		u = usageOf(d.processes(a, rec))
	}
	s.MemoryBytes, s.CPU, s.Processes = u.memory, u.cpu, u.processes
	s.LoggedAt, s.Disk = a.loggedAt(), d.disk(a.id).used
	if rec.Suspendable && d.CheckSuspend() == nil {
		s.ExtraBytes = s.MemoryBytes
	}
	return s
}

// Home implements runtime.Driver.
func (d *Driver) Home(ctx context.Context, _ runtime.Place, id identity.AgentID) (runtime.Home, error) {
	a, err := d.agent(id)
	if err != nil {
		return nil, err
	}
	return a.openHome(ctx)
}

func (a agent) openHome(ctx context.Context) (*home.Dir, error) {
	if err := a.makeDir(); err != nil {
		return nil, err
	}
	return home.Open(ctx, home.Settings{Dir: a.home, Trash: a.path("trash"), Owner: a.owner})
}

// PutSecrets implements runtime.Driver.
func (d *Driver) PutSecrets(_ context.Context, place runtime.Place, id identity.AgentID, secrets []byte) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	defer d.lock(id)()
	rec, err := a.record()
	if err != nil {
		return err
	}
	if _, alive := d.alive(a, rec); !alive && !d.isSuspended(a, rec) || rec.Place != place {
		return fmt.Errorf("put secrets of %s: %w", id, runtime.ErrNotRunning)
	}
	return d.secrets.write(a, rec, secrets)
}

// Logs implements runtime.Driver.
func (d *Driver) Logs(ctx context.Context, _ runtime.Place, id identity.AgentID, tail int, follow bool) (io.ReadCloser, error) {
	a, err := d.agent(id)
	if err != nil {
		return nil, err
	}
	return d.log(a).read(ctx, tail, follow)
}

func (d *Driver) log(a agent) *gatewayLog {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.logs[a.id]
	if l == nil {
		l = &gatewayLog{dir: a.path("log"), maxBytes: d.settings.LogMaxBytes, keep: d.settings.LogKeep}
		if key := d.settings.LogKey; key != nil {
			l.key = func(ctx context.Context) (vault.TextKey, error) { return key(ctx, a.id) }
		}
		d.logs[a.id] = l
	}
	return l
}

// List implements runtime.Driver.
func (d *Driver) List(ctx context.Context) ([]runtime.Found, error) {
	entries, err := os.ReadDir(d.settings.Dir)
	if err != nil {
		return nil, fmt.Errorf("list agents: %w", err)
	}
	hasGroup := map[identity.AgentID]bool{}
	for _, e := range entries {
		if e.IsDir() {
			hasGroup[identity.AgentID(e.Name())] = false
		}
	}
	for _, id := range d.secrets.ids() {
		hasGroup[id] = false
	}
	for _, id := range d.cgroup.ids() {
		hasGroup[id] = true
	}
	out := make([]runtime.Found, 0, len(hasGroup))
	for id, grouped := range hasGroup {
		a, err := d.agent(id)
		if err != nil {
			continue // not a directory of this driver
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		found, err := d.found(a, grouped)
		if err != nil {
			return nil, err
		}
		out = append(out, found)
	}
	return out, nil
}

func (d *Driver) found(a agent, hasGroup bool) (runtime.Found, error) {
	found := runtime.Found{ID: a.id}
	var err error
	if found.Owner, err = a.whose(); err != nil || found.Owner == runtime.Foreign {
		return found, err
	}
	rec, err := a.record()
	if err != nil {
		return found, fmt.Errorf("list %s: %w", a.id, err)
	}
	if rec.Nonce == "" {
		others, err := a.strangers()
		if err != nil {
			return found, fmt.Errorf("list %s: %w", a.id, err)
		}
		d.reportStrangers(a.id, others)
	}
	found.Place, found.Running = rec.Place, d.anyRuns(a, rec, hasGroup)
	if !found.Running {
		return found, nil
	}
	d.supervise(a.id, true)
	return found, nil
}

// anyRuns reports whether any process of an agent runs. For stopped agents, which
// may be many, it reads as few files as possible.
func (d *Driver) anyRuns(a agent, rec record, hasGroup bool) bool {
	if hasGroup || len(rec.Groups) > 0 && fileExists(rec.Groups[0], "cgroup.procs") {
		return len(d.cgroup.pids(d.groups(a, rec))) > 0 || a.isLocked()
	}
	if _, ended := a.readShimFile("end", rec); ended || rec.Nonce == "" {
		return false
	}
	_, alive := d.alive(a, rec)
	return alive || a.isLocked()
}
