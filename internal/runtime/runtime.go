// Package runtime is the contract between agento and whatever makes gateways
// exist: processes, containers, pods. A driver knows nothing of agents beyond
// an id, and nothing of OpenClaw beyond a command line and an environment.
package runtime

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"agento.host/agento/internal/vault"
)

// Driver makes gateways exist, one per agent id.
//
// Order for one agent: Place, Start, then any of Inspect, Logs, Dial and
// PutSecrets, then Stop; Remove ends it for good. The caller saves the place
// before Start, so a crash between the two loses nothing. Every method may be
// repeated and called concurrently, for one agent too. A driver keeps the home
// of an id between Stop and the next Start, and writes nothing into it but
// Spec.Files.
type Driver interface {
	// Place chooses where the next gateway of s.ID runs. The answer is opaque to
	// all but the driver. Faults: ErrNoRoom.
	Place(ctx context.Context, s Spec) (place string, err error)

	// Start makes the gateway run. It returns when the process exists, not when
	// it is ready. If the gateway of that place runs already, nothing happens; one
	// that runs at another place is an error. Faults: ErrPlaceTaken.
	Start(ctx context.Context, place string, s Spec) error

	// Stop ends the gateway: asks, waits grace, kills whatever is left of it and
	// of its children. A gateway that is gone is success.
	Stop(ctx context.Context, place, id string, grace time.Duration) error

	// Inspect looks at the gateway now. One that is gone is a State, not an error.
	Inspect(ctx context.Context, place, id string) (State, error)

	// Logs reads what the gateway printed: the last tail lines (all that is kept,
	// if negative), oldest first. With follow the reader goes on, over restarts
	// too, until ctx ends or it is closed. It works for stopped gateways.
	Logs(ctx context.Context, place, id string, tail int, follow bool) (io.ReadCloser, error)

	// Dial connects to the gateway's port.
	Dial(ctx context.Context, place, id string) (net.Conn, error)

	// Home opens the agent's directory, running or not. The caller closes it.
	Home(ctx context.Context, place, id string) (Home, error)

	// PutSecrets replaces the secrets file of a running gateway in one step.
	PutSecrets(ctx context.Context, place, id string, secrets []byte) error

	// Remove stops what still runs at once and deletes home, logs and secrets.
	Remove(ctx context.Context, place, id string) error

	// List names every id of which anything exists here, running or not.
	List(ctx context.Context) ([]Found, error)
}

// Watcher is a driver that knows at once when a gateway ends. Callers of one
// that does not have Inspect.
type Watcher interface {
	// Watch returns nil when the gateway of that place has ended, at once if none
	// runs, or ctx's error.
	Watch(ctx context.Context, place, id string) error
}

// Home is an agent's directory. Paths are relative, with slashes; nothing
// reaches outside, whatever links the agent has planted.
type Home interface {
	// ReadFile returns at most limit bytes; a longer file is ErrTooLarge, a
	// missing one fs.ErrNotExist.
	ReadFile(path string, limit int64) ([]byte, error)
	// WriteFile replaces the file in one step, making its directories.
	WriteFile(path string, data []byte) error
	// ReadDir lists a directory by name; a missing one is empty.
	ReadDir(path string) ([]Entry, error)
	// RemoveAll deletes a file or a tree; a missing one is success.
	RemoveAll(path string) error
	Close() error
}

// Entry is one file or directory of a Home.
type Entry struct {
	Name string
	Dir  bool
	Size int64
	At   time.Time // last modification
}

// Spec is what a gateway needs to exist. In Args and in the values of Env the
// driver replaces HomePath, Port and SecretsPath by what they are for the
// gateway, which may see other paths than the server does.
type Spec struct {
	ID      string
	Args    []string                // after the runtime's own command
	Env     map[string]vault.Secret // the gateway's whole environment but PATH, HOME and TMPDIR
	Files   map[string][]byte       // written into the home before the start
	Secrets []byte                  // content of the secrets file, 0600 on a memory file system
	Limits  Limits
}

// Placeholders in Spec.Args and Spec.Env. Values of Env may be an agent's own, so
// they are what nobody writes by chance.
const (
	HomePath    = "{agento:home}"
	Port        = "{agento:port}"
	SecretsPath = "{agento:secrets}"
)

// Limits bound a gateway and all its children; zero means no limit.
type Limits struct {
	MemoryBytes int64
	Processes   int64 // counts threads too, as the kernel does
}

// Phase is what a gateway is doing, as far as the driver can see.
type Phase string

// The phases of a gateway.
const (
	Gone    Phase = "gone"    // nothing runs and nothing is known of an end
	Running Phase = "running" // its process lives
	Exited  Phase = "exited"  // it ran and ended
)

// State is one look at a gateway.
type State struct {
	Phase       Phase
	ExitCode    int       // if Exited and known, else -1; 128+n for a signal
	OOMKilled   bool      // if Exited: it met its memory limit
	StartedAt   time.Time // if Running
	MemoryBytes int64     // resident, with all children
	MemoryLimit int64     // 0: none
	CPU         time.Duration
	Processes   int64
}

// Found is something that exists for an id, whether or not agento knows it.
type Found struct {
	ID      string
	Place   string // empty if not known
	Running bool
}

var (
	// ErrNoRoom says that no machine can take another gateway.
	ErrNoRoom = errors.New("no room for another gateway")
	// ErrPlaceTaken says that something else has come to the place since it was
	// chosen: choose another.
	ErrPlaceTaken = errors.New("the place is taken by something else")
	// ErrNotRunning says that the gateway is not there to be dialled.
	ErrNotRunning = errors.New("the gateway is not running")
	// ErrTooLarge says that a file exceeds the limit given.
	ErrTooLarge = errors.New("file too large")
)
