// Package runtime is the contract between agento and the drivers that run
// gateways: as processes, containers or pods. A driver knows only the id of an
// agent, and of OpenClaw only a command line and an environment.
package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime/home"
	"agento.host/agento/internal/vault"
)

// Place is where a driver runs a gateway. Only the driver that returned it can
// read it.
type Place string

// Driver runs gateways, at most one for each agent id.
//
// The order of calls for one agent is Place, Start, then any of Inspect, Logs,
// Dial, Network and PutSecrets, then Stop; Remove deletes everything. The caller saves the
// place before it calls Start, so that a crash between the two loses nothing.
// Every method may be repeated and called concurrently, for one agent too. A
// driver keeps the home of an agent between Stop and the next Start, and writes
// only Spec.Files into it.
type Driver interface {
	// Place chooses where the next gateway of s.ID runs. Errors: ErrNoCapacity.
	Place(ctx context.Context, s Spec) (Place, error)

	// CheckIsolation returns nil if gateways can be isolated from each other and from
	// the server, as the driver's last test of that found. It does not block: the
	// driver repeats the test by itself. Errors: *IsolationError.
	CheckIsolation() error

	// Start starts the gateway. It returns when the process exists, which is
	// before the gateway is ready. If the gateway of this place already runs,
	// Start does nothing; if one runs at another place, it fails. A gateway that
	// cannot be isolated, or whose files exceed the limits, is not started. Errors:
	// *IsolationError, *DiskError.
	Start(ctx context.Context, place Place, s Spec) error

	// Stop asks the gateway to end, waits for the grace period, and then kills
	// the gateway and all its children. It succeeds if no gateway runs.
	Stop(ctx context.Context, place Place, id identity.AgentID, grace time.Duration) error

	// Inspect returns the present state of the gateway. A gateway that does not
	// exist is a State, not an error.
	Inspect(ctx context.Context, place Place, id identity.AgentID) (State, error)

	// Logs returns the output of the gateway: the last tail lines, or everything
	// that is kept if tail is negative, oldest first. With follow the reader
	// continues, over restarts too, until ctx ends or it is closed. Logs works
	// for stopped gateways.
	Logs(ctx context.Context, place Place, id identity.AgentID, tail int, follow bool) (io.ReadCloser, error)

	// Dial connects to the gateway's port. Errors: ErrNotRunning.
	Dial(ctx context.Context, place Place, id identity.AgentID) (net.Conn, error)

	// Network opens the server's end of a running gateway's network. One server at a
	// time has it open; the caller closes it when the gateway has ended. Errors:
	// ErrNotRunning.
	Network(ctx context.Context, place Place, id identity.AgentID) (*Network, error)

	// Home opens the agent's directory, whether or not the gateway runs. The
	// caller closes it. When ctx ends, all methods of the home fail.
	Home(ctx context.Context, place Place, id identity.AgentID) (Home, error)

	// PutSecrets replaces the secrets file of a running or suspended gateway atomically.
	// Errors: ErrNotRunning.
	PutSecrets(ctx context.Context, place Place, id identity.AgentID, secrets []byte) error

	// Remove kills the gateway if it runs, and deletes home, logs and secrets. It
	// succeeds without doing anything for an agent of another installation.
	Remove(ctx context.Context, place Place, id identity.AgentID) error

	// Quarantine kills the gateway if it runs and deletes its secrets. It keeps the
	// home and the logs where no other method finds them: for all other methods the
	// agent is removed. It succeeds if there is nothing of the agent. Errors:
	// ErrForeign, unless the agent is this installation's own.
	Quarantine(ctx context.Context, id identity.AgentID) error

	// List returns every agent of which this driver holds anything, running or
	// not.
	List(ctx context.Context) ([]Found, error)
}

// Network is the server's end of the network of one gateway. A gateway has a network of
// its own: nothing in it reaches the machine, another agent or anything else, except
// through these listeners, and nothing else reaches them. So the listener tells whose a
// connection is.
type Network struct {
	// Server listens at ServerAddr. What the gateway calls there is the server's.
	Server net.Listener

	// FromGateway reports whether the gateway itself has opened a connection that Server has
	// accepted, and not a program that the agent has started. It reports true if that cannot be
	// told. Nil if it never can.
	FromGateway func(net.Conn) bool

	// Out gets every other TCP connection to a route that the agent opens, whatever its
	// destination, which is the SO_ORIGINAL_DST of the connection. If DNS is nil, the agent's
	// programs name the destination to a proxy instead, and connections of Out are Outgoing.
	// DNS gets the agent's queries. Both are nil if gateways use the machine's own network, in
	// development.
	Out net.Listener
	DNS net.PacketConn

	// SetRoutes replaces the IPv4 networks to which the agent can connect: connections to
	// them come to Out, all others fail at once. There are none before the first call of
	// a gateway's life. Nil if DNS is: then every connection comes to Out.
	SetRoutes func(ctx context.Context, routes []netip.Prefix) error
}

// Close closes the listeners. Connections that were accepted stay open.
// It may be called again.
func (n *Network) Close() error {
	listeners := []io.Closer{n.Server}
	if n.Out != nil {
		listeners = append(listeners, n.Out)
	}
	if n.DNS != nil {
		listeners = append(listeners, n.DNS)
	}
	var err error
	for _, l := range listeners {
		if e := l.Close(); !errors.Is(e, net.ErrClosed) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// Outgoing is a connection of an agent to the outside that names where it goes. Nothing can be
// read from it or written to it before Accept has returned nil. Closing it without an answer
// tells the agent that the proxy has failed.
type Outgoing interface {
	net.Conn
	// CloseWrite tells the agent that nothing more will be written. Reads go on.
	CloseWrite() error
	// Destination returns where the agent wants to connect: a name or an IP address, neither of
	// which was looked up or judged, and a port.
	Destination() (host string, port uint16)
	// Accept answers that the connection is made.
	Accept() error
	// Refuse answers that it is not made, with a reason for the agent to read, and closes the
	// connection.
	Refuse(reason string) error
}

// Watcher is implemented by drivers that can report the end of a gateway at once.
// With other drivers the caller polls Inspect.
type Watcher interface {
	// Watch returns nil when the gateway of this place has ended, immediately if
	// none runs. It returns ctx's error if ctx ends first.
	Watch(ctx context.Context, place Place, id identity.AgentID) error
}

// Suspender is implemented by drivers that can write a running gateway to a checkpoint, end
// its processes, and continue them later. Everything in memory is kept: a resumed gateway
// does not notice, except that its connections are closed and that the time of day has moved
// on. With other drivers a gateway can only be stopped.
//
// Suspend is called between Start and Stop, and Resume after Suspend. A suspended gateway is
// not running for every method but Inspect, which returns Suspended, and PutSecrets, which
// replaces its secrets: the resumed gateway has the new ones. Start discards the checkpoint and
// starts another gateway; so do Stop, Remove and Quarantine, without starting one.
type Suspender interface {
	// CheckSuspend returns nil if gateways that are started now can be suspended.
	// Errors: *SuspendError.
	CheckSuspend() error

	// Suspend writes the gateway to a checkpoint and ends it. Nothing may connect to the
	// gateway meanwhile. If Suspend fails, the gateway runs on, or has ended as Inspect
	// says. Errors: ErrNotRunning; *SuspendError, for a gateway that cannot be suspended.
	Suspend(ctx context.Context, place Place, id identity.AgentID) error

	// Resume continues the gateway from its checkpoint, and returns when its processes
	// run. It uses the checkpoint up, whatever it returns: a checkpoint is never continued
	// twice. If it fails, no gateway runs. Errors: ErrNoCheckpoint, if there is none, or
	// none that fits the machine and the home any more.
	Resume(ctx context.Context, place Place, id identity.AgentID) error

	// MoveToDisk moves the checkpoint of a suspended gateway from memory to a disk, from where a
	// resume takes longer. It returns when that is under way; Inspect says when it is done. Until
	// then the checkpoint is in memory, and whatever fails leaves it there. A Resume does not wait
	// for it. If the last move of the checkpoint has failed, MoveToDisk returns why, once.
	// Errors: ErrNoCheckpoint; ErrNoDiskRoom.
	MoveToDisk(ctx context.Context, place Place, id identity.AgentID) error

	// AwaitDiscard waits until the checkpoint that the last Resume has used up takes no memory any
	// more, which Resume does not wait for. Errors: ctx's.
	AwaitDiscard(ctx context.Context, id identity.AgentID) error

	// DiskRoom returns how many bytes of checkpoints can be added on the disk; a negative number
	// says how many are too much.
	DiskRoom(ctx context.Context) (bytes int64, err error)

	// Checkpoints returns what the checkpoints of all agents take.
	Checkpoints(ctx context.Context) (CheckpointUse, error)
}

// CheckpointUse is what checkpoints take, by their form.
type CheckpointUse struct {
	Fresh, Compressed CheckpointForm // in memory
	OnDisk            CheckpointForm
	Budget            int64 // bytes that those on the disk may take together; 0: all stay in memory
	Plain             bool  // whoever reads the disk reads those that are there
}

// CheckpointForm is what the checkpoints of one form take.
type CheckpointForm struct {
	Count int
	Bytes int64
}

// Freezer is implemented by drivers that can let the processes of a running gateway stand still, and
// go on later. They stay in memory, or in the machine's swap if it has some. A frozen gateway notices
// nothing but that time has passed, also for its timers.
//
// Freeze is called between Start and Stop, and Thaw after Freeze. A frozen gateway is not running for
// every method but Inspect, which returns Frozen, PutSecrets, which replaces its secrets, and Watch and
// List, for which it runs. Start ends it and starts another gateway; Stop, Remove and Quarantine end it
// without a grace period.
type Freezer interface {
	// CheckFreeze returns nil if gateways can be frozen. Errors: *SuspendError.
	CheckFreeze() error

	// Freeze lets all processes of the gateway stand still, and gives their memory to the swap of
	// the machine. Nothing may connect to the gateway meanwhile. If Freeze fails, the gateway runs
	// on, or has ended as Inspect says. Errors: ErrNotRunning; *SuspendError, for a gateway that
	// cannot be frozen.
	Freeze(ctx context.Context, place Place, id identity.AgentID) error

	// Thaw lets the processes go on, and returns when each of them may run. If it fails, the
	// gateway may still be frozen. Errors: ErrNotRunning, if it is not frozen.
	Thaw(ctx context.Context, place Place, id identity.AgentID) error
}

// SuspendError means that a gateway cannot be suspended, or cannot be frozen.
type SuspendError struct {
	Missing string // a clause without paths
	Fix     string // what the operator can do; empty: nothing
	Cause   error  // for the log; nil: Missing says all
}

// Error implements error.
func (e *SuspendError) Error() string {
	if e.Cause == nil {
		return "gateways cannot sleep: " + e.Missing
	}
	return fmt.Sprintf("gateways cannot sleep: %s: %v", e.Missing, e.Cause)
}

// Unwrap returns the cause.
func (e *SuspendError) Unwrap() error { return e.Cause }

// CheckSleep returns nil if the gateways of a driver can be suspended or frozen. Errors:
// *SuspendError.
func CheckSleep(d Driver) error {
	cannot := &SuspendError{Missing: "the driver can neither suspend nor freeze gateways"}
	if s, ok := d.(Suspender); ok {
		if err := s.CheckSuspend(); err == nil || !errors.As(err, &cannot) {
			return err
		}
	}
	f, ok := d.(Freezer)
	if !ok {
		return cannot
	}
	err := f.CheckFreeze()
	if freeze := (*SuspendError)(nil); errors.As(err, &freeze) {
		return &SuspendError{Missing: cannot.Missing + "; and they cannot be frozen: " + freeze.Missing, Fix: cannot.Fix, Cause: errors.Join(cannot.Cause, freeze.Cause)}
	}
	return err
}

// Examiner is implemented by drivers that can check what running gateways really have.
type Examiner interface {
	// Examine checks that the processes of every running gateway are isolated as the
	// driver promises.
	Examine(ctx context.Context) ([]Examination, error)
}

// Examination is the result of the checks of one running gateway.
type Examination struct {
	ID     identity.AgentID
	Checks []Check
}

// Runner is implemented by drivers that have regular work to do.
type Runner interface {
	// Run does the driver's regular work until ctx ends. The server calls it
	// once.
	Run(ctx context.Context) error
}

// Settings are what the server passes to the driver that it uses, whichever it
// is. What only one driver needs comes from the driver's own flags.
type Settings struct {
	Installation string   // whose agents these are; what the driver makes carries it. Empty: any, for programs that only look or stop
	Dir          string   // everything that the driver stores; created if missing
	Command      []string // starts a gateway; Spec.Args are appended
	ReadOnly     []string // files and directories that gateways may read
	Log          *slog.Logger

	// LogKey returns the key that seals the older part of an agent's log. nil: it is not
	// sealed, as in programs that only look or stop.
	LogKey func(context.Context, identity.AgentID) (vault.TextKey, error)

	// Suspend starts gateways so that they can be suspended, if the driver is a Suspender.
	Suspend bool

	// Development runs gateways without isolation, as processes of the server's user,
	// which must not be root.
	Development bool
}

// IsolationError means that the machine cannot isolate gateways at the moment.
type IsolationError struct {
	Missing string // a clause without paths, which callers see
	Cause   error  // for the log; nil: Missing says all
}

// Error implements error.
func (e *IsolationError) Error() string {
	if e.Cause == nil {
		return "gateways cannot be isolated: " + e.Missing
	}
	return fmt.Sprintf("gateways cannot be isolated: %s: %v", e.Missing, e.Cause)
}

// Unwrap returns the cause.
func (e *IsolationError) Unwrap() error { return e.Cause }

// UnreachableError means that the server of a gateway cannot be reached: what runs there is not known, and
// goes on.
type UnreachableError struct {
	Server string
	Cause  error // for the log
}

// Error implements error.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("the server %s cannot be reached: %v", e.Server, e.Cause)
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Cause }

// Disk is what the files of an agent use.
type Disk struct {
	Bytes  int64 // on the disk, so a file with holes has less than its size
	Files  int64 // files and directories
	Hidden bool  // there may be more: a directory is unreadable, or nested too deeply to be measured
}

// Exceeds reports whether the files exceed limits.
func (d Disk) Exceeds(l Limits) bool {
	return l.DiskBytes > 0 && d.Bytes > l.DiskBytes || l.Files > 0 && d.Files > l.Files || d.Hidden && (l.DiskBytes > 0 || l.Files > 0)
}

// DiskError means that the files of an agent exceed its limits.
type DiskError struct{ Used Disk }

// Error implements error.
func (e *DiskError) Error() string {
	return fmt.Sprintf("the agent's files exceed its limits: %d bytes in %d files", e.Used.Bytes, e.Used.Files)
}

// Check is the result of one check of the machine that a driver is to use, or of a running
// gateway.
type Check struct {
	Name  string // what was checked
	State string
	OK    bool   // gateways can run, perhaps with a restriction that State names
	Fix   string // what the operator can do; empty if nothing is missing
}

// Home is an agent's directory. Paths are relative and have slashes. Symbolic
// links that the agent has created never lead outside of the directory.
type Home interface {
	// ReadFile returns the content of a file. Errors: ErrTooLarge if the file is
	// longer than limit bytes, fs.ErrNotExist if it is missing.
	ReadFile(path string, limit int64) ([]byte, error)
	// WriteFile replaces a file atomically. It creates missing directories, and moves
	// aside what of the agent's is in the way.
	WriteFile(path string, data []byte) error
	// ReadDir returns the entries of a directory, sorted by name. A missing
	// directory has none.
	ReadDir(path string) ([]Entry, error)
	// RemoveAll deletes a file or a tree. It succeeds if there is none. A tree disappears
	// at once, however large it is or whatever the agent does with it; its space is free
	// when the gateway has ended.
	RemoveAll(path string) error
	Close() error
}

// Entry is a file or directory of a Home.
type Entry = home.Entry

// Spec describes a gateway. In Args, in the values of Env and in Files the driver replaces
// HomePath, Port, SecretsPath and ServerAddr by the values that hold inside the
// gateway, which may see other paths and another network than the server does.
type Spec struct {
	ID      identity.AgentID
	Args    []string                // follow the command of the driver
	Env     map[string]vault.Secret // the whole environment except PATH, HOME and TMPDIR
	Files   map[string][]byte       // written into the home before the start
	Secrets []byte                  // content of the secrets file, mode 0600, on a memory file system
	Limits  Limits
	Server  string // where the gateway is to run, for drivers over several servers; empty: where the home is
}

// Placeholders in Spec.Args, Spec.Env and Spec.Files. Some values of Env come from users, so
// the placeholders are texts that nobody writes by accident.
const (
	HomePath    = "{agento:home}"
	Port        = "{agento:port}"
	SecretsPath = "{agento:secrets}"
	ServerAddr  = "{agento:server}" // host and port of Network.Server
)

// Limits are the limits of a gateway with all its children, and of the agent's files.
// Zero means no limit.
type Limits struct {
	MemoryBytes int64
	Processes   int64   // includes threads, as the kernel counts
	CPUs        float64 // processor cores that it may use at once
	CPUWeight   int64   // its share beside other gateways where there is not enough for all: 1 to 10,000; 0 means 100
	DiskBytes   int64
	Files       int64 // files and directories
}

// Phase says what a gateway is doing, as far as the driver can see.
type Phase string

// The phases of a gateway.
const (
	Gone      Phase = "gone"      // no process runs, and no exit is recorded
	Running   Phase = "running"   // its process runs
	Exited    Phase = "exited"    // its process has run and ended
	Suspended Phase = "suspended" // a checkpoint has its processes; see Suspender
	Frozen    Phase = "frozen"    // its processes stand still; see Freezer
)

// State is the state of a gateway at one moment.
type State struct {
	Phase       Phase
	ExitCode    int       // if Exited and known, else -1; 128+n for signal n
	OOMKilled   bool      // if Exited: killed because of its memory limit
	OverDisk    bool      // if Exited: ended because the agent's files exceeded a limit
	Disk        Disk      // what the agent's files used when they were last measured; zero: not measured yet
	StartedAt   time.Time // if Running
	MemoryBytes int64     // resident memory, including all children, also if Frozen; if Suspended, what its checkpoint takes of the memory
	StoredBytes int64     // if Suspended: what its checkpoint takes of the disk; 0: it is in memory
	ExtraBytes  int64     // memory that a suspend, if Running, or a resume, if Suspended, takes for a while beside MemoryBytes, at most
	MemoryLimit int64     // 0: none
	CPU         time.Duration
	Processes   int64
	LoggedAt    time.Time // if Running: when it last wrote to its log
	UsageAt     time.Time // when MemoryBytes, CPU and Processes were measured, if that was not just now; zero: it was
}

// Sleeps reports whether the gateway goes on when it is resumed or thawed.
func (s State) Sleeps() bool { return s.Phase == Suspended || s.Phase == Frozen }

// Found is an agent of which the driver holds something. The server may not know
// it.
type Found struct {
	ID      identity.AgentID
	Place   Place // empty if not known
	Running bool
	Owner   Owner
	Shared  bool // if Foreign: it is on something that several installations use, such as a container engine
}

// Owner says which installation an agent of a driver belongs to.
type Owner string

// The owners.
const (
	Own      Owner = "own"     // the driver's installation
	Foreign  Owner = "foreign" // another one; no method but List does anything with it
	Unmarked Owner = ""        // nothing says which; it becomes this installation's own when it is used
)

// Errors that callers distinguish.
var (
	// ErrNoCapacity means that no machine can run another gateway.
	ErrNoCapacity = errors.New("no capacity for another gateway")
	// ErrNotRunning means that the gateway does not run.
	ErrNotRunning = errors.New("the gateway is not running")
	// ErrNoCheckpoint means that a gateway cannot be resumed: it has to be started.
	ErrNoCheckpoint = errors.New("there is no checkpoint of the gateway that can be used")
	// ErrNoDiskRoom means that there is no room for a checkpoint on the disk.
	ErrNoDiskRoom = errors.New("there is no room for a checkpoint on the disk")
	// ErrForeign means that what the driver has of an agent belongs to another
	// installation, or that nothing says whose it is.
	ErrForeign = errors.New("it is not known to be this installation's own")
	// ErrTooLarge means that a file is larger than the limit.
	ErrTooLarge = home.ErrTooLarge
)
