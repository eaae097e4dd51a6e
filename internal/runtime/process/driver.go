// Package process runs each gateway as a process of this machine, in a sandbox
// where the machine offers one. The files below Settings.Dir are the whole
// truth: a driver made anew finds every gateway that an earlier one started.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/home"
)

const (
	defaultLogBytes = 8 << 20
	defaultLogKeep  = 3
	// The ports lie below the usual ephemeral range, from which outgoing
	// connections take theirs, and below the node ports of Kubernetes.
	defaultPortFrom = 20000
	defaultPortTo   = 29999
)

// Settings of a Driver.
type Settings struct {
	Dir            string   // holds everything of every agent; made if missing
	RunDir         string   // memory file system for secrets; empty: $XDG_RUNTIME_DIR/agento or /dev/shm/agento-<uid>
	Command        []string // what runs a gateway; Spec.Args follow
	ReadOnly       []string // files and directories that gateways may read, besides the system's
	RequireSandbox bool     // New fails where there is no sandbox
	NoSandbox      bool     // do not use one
	NoGroups       bool     // do not use control groups
	LogMaxBytes    int64    // a log longer than this is rotated; 0: 8 MiB
	LogKeep        int      // rotated logs kept; 0: 3
	PortFrom       int      // first port for gateways; 0: 20000
	PortTo         int      // last port for gateways; 0: 29999
	Log            *slog.Logger
}

// Driver implements runtime.Driver and runtime.Watcher. Gateways outlive it;
// run Run while it is in use.
type Driver struct {
	set     Settings
	box     sandbox
	limits  limiter
	secrets secretStore
	users   userRange
	ports   *portBook

	mu    sync.Mutex
	locks map[string]*idLock  // one at a time for what changes an agent; guarded by mu
	logs  map[string]*logbook // guarded by mu
	busy  map[string]bool     // ids that Run looks after; guarded by mu
	kids  map[int]bool        // our children not yet reaped; guarded by mu
}

// New probes what the machine can do and opens the directories.
func New(s Settings) (*Driver, error) {
	if err := s.complete(); err != nil {
		return nil, err
	}
	d := &Driver{
		set: s, users: usableUsers(), ports: newPortBook(s.PortFrom, s.PortTo),
		locks: map[string]*idLock{}, logs: map[string]*logbook{}, busy: map[string]bool{}, kids: map[int]bool{},
	}
	var err error
	if d.secrets, err = openSecretStore(s.RunDir, s.Dir); err != nil {
		return nil, err
	}
	d.box = probeSandbox(s, d.users)
	d.limits = limiter{reason: "they are switched off"}
	if !s.NoGroups {
		d.limits = probeLimits(s.Dir)
	}
	if s.RequireSandbox && d.box.reason != "" {
		return nil, fmt.Errorf("a sandbox is required: %s", d.box.reason)
	}
	d.say()
	return d, nil
}

func (s *Settings) complete() (err error) {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if len(s.Command) == 0 {
		return errors.New("no command to run gateways with")
	}
	if s.Dir, err = ownDir(s.Dir); err != nil {
		return err
	}
	program, err := exec.LookPath(s.Command[0])
	if err == nil {
		program, err = filepath.Abs(program)
	}
	if err != nil {
		return fmt.Errorf("find the gateway's command: %w", err)
	}
	s.Command = append([]string{program}, s.Command[1:]...)
	if s.ReadOnly, err = readable(s.ReadOnly, s.Dir); err != nil {
		return err
	}
	s.LogMaxBytes = orElse(s.LogMaxBytes, defaultLogBytes)
	s.LogKeep = orElse(s.LogKeep, defaultLogKeep)
	s.PortFrom = orElse(s.PortFrom, defaultPortFrom)
	s.PortTo = orElse(s.PortTo, max(defaultPortTo, s.PortFrom))
	return nil
}

// readable makes the paths that agents may read absolute, and refuses those
// that hold the agents themselves.
func readable(paths []string, dir string) ([]string, error) {
	out := make([]string, len(paths))
	for i, path := range paths {
		var err error
		if out[i], err = filepath.Abs(path); err != nil {
			return nil, err
		}
	}
	for _, path := range append([]string{"/usr"}, out...) {
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			return nil, fmt.Errorf("what agents may read: %w", err)
		}
		if within(dir, real) {
			return nil, fmt.Errorf("every agent may read %s, but it holds their homes: move one of the two", path)
		}
	}
	return out, nil
}

func orElse[T int | int64](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// ownDir makes a directory that nobody else can enter, and returns its path
// without links.
func ownDir(dir string) (string, error) {
	if dir == "" {
		return "", errors.New("no directory for the agents")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the agents' directory: %w", err)
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}

// within says whether path is dir or below it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

func (d *Driver) say() {
	if d.box.reason != "" {
		d.set.Log.Warn("agents run without a sandbox and can read what this user can read", "reason", d.box.reason)
	}
	if kind, reason := d.Limits(); reason != "" {
		d.set.Log.Warn("limits of agents are not kept by the kernel", "instead", kind, "reason", reason)
	}
	if path, inMemory := d.SecretsDir(); !inMemory {
		d.set.Log.Warn("no memory file system here: agents' secrets files lie on a disk while they run", "path", path)
	}
}

// Sandbox says what agents are confined by, "bubblewrap" or "none"; and if none,
// why.
func (d *Driver) Sandbox() (kind, reason string) {
	if d.box.reason != "" {
		return "none", d.box.reason
	}
	return "bubblewrap", ""
}

// Limits says what keeps memory and processes in bounds: "cgroup v1", "cgroup
// v2" or "watch" (Run measures and kills); and if watch, why.
func (d *Driver) Limits() (kind, reason string) { return d.limits.describe() }

// SecretsDir says where the secrets files lie, and whether that is memory.
func (d *Driver) SecretsDir() (path string, inMemory bool) {
	return d.secrets.dir, d.secrets.inMemory
}

var goodID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

// agent is one id with its paths.
type agent struct {
	id    string
	dir   string // Dir/<id>, all of it the server's but home
	home  string
	owner home.Owner
}

func (d *Driver) agent(id string) (agent, error) {
	if !goodID.MatchString(id) {
		return agent{}, fmt.Errorf("not an agent id: %q", id)
	}
	dir := filepath.Join(d.set.Dir, id)
	a := agent{id: id, dir: dir, home: filepath.Join(dir, "home")}
	if d.box.reason == "" {
		a.owner = d.users.ownerOf(id)
	}
	return a, nil
}

func (a agent) path(name string) string { return filepath.Join(a.dir, name) }

// idLock is one agent's lock, and how many hold it or wait for it.
type idLock struct {
	sync.Mutex
	users int // guarded by Driver.mu
}

// lock serialises what changes one agent, within this process. What holds
// between processes is the lock file (see claim).
func (d *Driver) lock(id string) (unlock func()) {
	d.mu.Lock()
	l := d.locks[id]
	if l == nil {
		l = &idLock{}
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

// Place implements runtime.Driver: a free port of the loopback address.
func (d *Driver) Place(ctx context.Context, s runtime.Spec) (string, error) {
	if _, err := d.agent(s.ID); err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	return d.ports.take(s.ID)
}

// Inspect implements runtime.Driver.
func (d *Driver) Inspect(_ context.Context, place, id string) (runtime.State, error) {
	a, err := d.agent(id)
	if err != nil {
		return runtime.State{}, err
	}
	rec, err := a.record()
	if err != nil {
		return runtime.State{}, fmt.Errorf("inspect %s: %w", id, err)
	}
	if rec.Place != place {
		return runtime.State{Phase: runtime.Gone, ExitCode: -1}, nil
	}
	return d.state(a, rec), nil
}

func (d *Driver) state(a agent, rec record) runtime.State {
	_, alive := d.alive(a, rec)
	switch {
	case alive:
		d.watchOver(a.id, true)
		return d.running(a, rec)
	case rec.Nonce != "" && a.endedOrBegan(rec):
		code, oom := a.ending(rec)
		oom = oom || wasKilled(code) && d.limits.oomKilled(rec)
		return runtime.State{Phase: runtime.Exited, ExitCode: code, OOMKilled: oom}
	case rec.Nonce != "" && a.held():
		return runtime.State{Phase: runtime.Running, ExitCode: -1, MemoryLimit: rec.MemoryLimit, StartedAt: rec.At}
	}
	return runtime.State{Phase: runtime.Gone, ExitCode: -1}
}

func (d *Driver) running(a agent, rec record) runtime.State {
	s := runtime.State{Phase: runtime.Running, ExitCode: -1, MemoryLimit: rec.MemoryLimit, StartedAt: rec.At}
	u, err := d.limits.usage(rec)
	if err != nil {
		u = usageOf(d.members(a, rec))
	}
	s.MemoryBytes, s.CPU, s.Processes = u.memory, u.cpu, u.processes
	return s
}

// Dial implements runtime.Driver.
func (d *Driver) Dial(ctx context.Context, place, id string) (net.Conn, error) {
	a, err := d.agent(id)
	if err != nil {
		return nil, err
	}
	rec, err := a.record()
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", id, err)
	}
	pid, alive := d.alive(a, rec)
	if rec.Place != place || !alive {
		return nil, fmt.Errorf("dial %s: %w", id, runtime.ErrNotRunning)
	}
	port, err := portOf(place)
	if err != nil {
		return nil, err
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", id, err)
	}
	if err := d.ports.verify(port, id, rec.Nonce, func() []int { return tree(pid) }); err != nil {
		return nil, errors.Join(fmt.Errorf("dial %s: %w", id, err), conn.Close())
	}
	return conn, nil
}

// Home implements runtime.Driver.
func (d *Driver) Home(_ context.Context, _, id string) (runtime.Home, error) {
	a, err := d.agent(id)
	if err != nil {
		return nil, err
	}
	return a.openHome()
}

func (a agent) openHome() (*home.Dir, error) {
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return nil, err
	}
	return home.Open(home.Settings{Dir: a.home, Trash: a.path("trash"), Owner: a.owner})
}

// PutSecrets implements runtime.Driver.
func (d *Driver) PutSecrets(_ context.Context, place, id string, secrets []byte) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	defer d.lock(id)()
	rec, err := a.record()
	if err != nil {
		return err
	}
	if _, alive := d.alive(a, rec); !alive || rec.Place != place {
		return fmt.Errorf("put secrets of %s: %w", id, runtime.ErrNotRunning)
	}
	return d.secrets.put(a, secrets)
}

// Logs implements runtime.Driver.
func (d *Driver) Logs(ctx context.Context, _, id string, tail int, follow bool) (io.ReadCloser, error) {
	a, err := d.agent(id)
	if err != nil {
		return nil, err
	}
	return d.logbook(a).read(ctx, tail, follow)
}

func (d *Driver) logbook(a agent) *logbook {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.logs[a.id]
	if b == nil {
		b = &logbook{dir: a.path("log"), max: d.set.LogMaxBytes, keep: d.set.LogKeep}
		d.logs[a.id] = b
	}
	return b
}

// List implements runtime.Driver.
func (d *Driver) List(ctx context.Context) ([]runtime.Found, error) {
	entries, err := os.ReadDir(d.set.Dir)
	if err != nil {
		return nil, fmt.Errorf("list agents: %w", err)
	}
	ids := map[string]bool{} // whether it has control groups
	for _, e := range entries {
		if e.IsDir() {
			ids[e.Name()] = false
		}
	}
	for _, id := range d.secrets.ids() {
		ids[id] = false
	}
	for _, id := range d.limits.ids() {
		ids[id] = true
	}
	out := make([]runtime.Found, 0, len(ids))
	for id, grouped := range ids {
		a, err := d.agent(id)
		if err != nil {
			continue // not ours
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

func (d *Driver) found(a agent, grouped bool) (runtime.Found, error) {
	rec, err := a.record()
	if err != nil {
		return runtime.Found{}, fmt.Errorf("list %s: %w", a.id, err)
	}
	if d.exists(a, rec, grouped) {
		d.watchOver(a.id, true)
		if port, err := portOf(rec.Place); err == nil {
			d.ports.keep(port, a.id)
		}
		return runtime.Found{ID: a.id, Place: rec.Place, Running: true}, nil
	}
	return runtime.Found{ID: a.id, Place: rec.Place}, nil
}

// exists says whether anything of a gateway runs. Of stopped agents, which may
// be many, it reads as little as it can.
func (d *Driver) exists(a agent, rec record, grouped bool) bool {
	if grouped || len(rec.Groups) > 0 && has(rec.Groups[0], "cgroup.procs") {
		return len(d.limits.members(a.id, rec)) > 0 || a.held()
	}
	if _, ended := a.shimNote("end", rec); ended || rec.Nonce == "" {
		return false
	}
	_, alive := d.alive(a, rec)
	return alive || a.held()
}

func (d *Driver) watchOver(id string, on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if on {
		d.busy[id] = true
	} else {
		delete(d.busy, id)
	}
}

// housekeeping is how often Run looks; source: a gateway that prints 100 MB/s
// overshoots its log by 200 MB, which fits the disks gateways run on.
const housekeeping = 2 * time.Second

// Run rotates logs and, where the kernel does not keep limits, keeps them,
// until ctx ends.
func (d *Driver) Run(ctx context.Context) error {
	tick := time.NewTicker(housekeeping)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			d.keepHouse()
		}
	}
}

func (d *Driver) keepHouse() {
	d.mu.Lock()
	ids := make([]string, 0, len(d.busy))
	for id := range d.busy {
		ids = append(ids, id)
	}
	d.mu.Unlock()
	for _, id := range ids {
		a, err := d.agent(id)
		if err != nil {
			continue
		}
		if err := d.keepAgent(a); err != nil {
			d.set.Log.Error("look after agent", "agent", id, "error", err)
		}
	}
}

func (d *Driver) keepAgent(a agent) error {
	if err := d.logbook(a).rotate(); err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	rec, err := a.record()
	if err != nil {
		return err
	}
	if _, alive := d.alive(a, rec); !alive {
		d.watchOver(a.id, false)
		return nil
	}
	if rec.MemoryLimit == 0 || len(rec.Groups) > 0 {
		return nil
	}
	if used := usageOf(d.members(a, rec)).memory; used > rec.MemoryLimit {
		d.set.Log.Warn("agent killed: over its memory limit", "agent", a.id, "bytes", used, "limit", rec.MemoryLimit)
		return d.overLimit(a, rec)
	}
	return nil
}
