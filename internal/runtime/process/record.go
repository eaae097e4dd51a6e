package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// exitKilled is the exit code of a process that SIGKILL ended.
const exitKilled = 128 + 9

// record is what the server writes before it starts a gateway, so that no gateway
// can exist without a record. The shim adds two files: "pid" when it starts and
// "end" when the gateway has ended.
type record struct {
	Place       runtime.Place `json:"place"`
	Nonce       string        `json:"nonce"` // identifies this start; it is on the shim's command line
	At          time.Time     `json:"at"`
	MemoryLimit int64         `json:"memoryLimit,omitempty"`
	DiskLimit   int64         `json:"diskLimit,omitempty"`
	FileLimit   int64         `json:"fileLimit,omitempty"`
	Groups      []string      `json:"groups,omitempty"` // directories of its control group
	Sandboxed   bool          `json:"sandboxed,omitempty"`
	Ports       ports         `json:"ports,omitzero"`      // of a gateway without a network of its own
	OOMKilled   bool          `json:"oomKilled,omitempty"` // written before the control group is removed

	Installation string     `json:"installation,omitempty"` // that has started it
	Home         fileID     `json:"home"`
	Path         string     `json:"path"`                // of the home
	Strangers    []stranger `json:"strangers,omitempty"` // that ran when this gateway was started

	// Suspendable says that the gateway was started so that it can be suspended, and Checkpoint
	// is the nonce of the checkpoint that it is being suspended to or is suspended in.
	Suspendable bool   `json:"suspendable,omitempty"`
	Checkpoint  string `json:"checkpoint,omitempty"`

	FrozenAt time.Time `json:"frozenAt,omitzero"` // when the gateway was being frozen that is frozen; zero: it is not

	// The limits of the control group, for a resume.
	ProcessLimit int64   `json:"processLimit,omitempty"`
	CPULimit     float64 `json:"cpuLimit,omitempty"`
	CPUWeight    int64   `json:"cpuWeight,omitempty"`

	// Variant is appended to the id in the names of the control group and of the
	// directory of secrets, because a stranger may have those without.
	Variant identity.AgentID `json:"variant,omitempty"`
}

// record returns the record of the last start, or the zero record if there is none. The
// record of a gateway of another directory is like none: its processes, its control
// group and its port are not this agent's. It comes with a copy of a directory.
func (a agent) record() (record, error) {
	r, err := a.savedRecord()
	if err != nil || r.Nonce == "" {
		return record{}, err
	}
	if !a.owns(r) {
		return record{}, nil
	}
	return r, nil
}

// savedRecord returns the record that is in the directory, whatever it is about.
func (a agent) savedRecord() (record, error) {
	var r record
	data, err := os.ReadFile(a.path("gateway.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		// The file is replaced atomically, so only a crash of the machine can
		// damage it, and after that nothing runs.
		return record{}, nil //nolint:nilerr // a damaged record is like none
	}
	return r, nil
}

// isMoved reports whether the agent's directory was moved since the start, and the
// gateway cannot follow: without a sandbox it uses the path of then.
func (r record) isMoved(a agent) bool { return !r.Sandboxed && r.Path != a.home }

func (a agent) saveRecord(r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return replaceFile(a.path("gateway.json"), data)
}

// replaceFile writes a file atomically, with mode 0600.
func replaceFile(path string, data []byte) error {
	temp := path + ".new"
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// readShimFile returns the number in a file of the shim. It reports false if the
// shim of this start has not written the file.
func (a agent) readShimFile(name string, r record) (int, bool) {
	data, err := os.ReadFile(a.path(name))
	if err != nil || r.Nonce == "" {
		return 0, false
	}
	number, nonce, _ := strings.Cut(string(data), " ")
	// The newline shows that the line is complete.
	if nonce != r.Nonce+"\n" {
		return 0, false
	}
	n, err := strconv.Atoi(number)
	return n, err == nil
}

// shimRan reports whether the shim of this start has run.
func (a agent) shimRan(r record) bool {
	_, began := a.readShimFile("pid", r)
	_, ended := a.readShimFile("end", r)
	return began || ended
}

// exitCode returns the exit code of a gateway that has ended, or -1 if it is not
// known.
func (a agent) exitCode(r record) int {
	code, ok := a.readShimFile("end", r)
	if !ok {
		return -1
	}
	return code
}

// mayBeKilled reports whether an exit code may be that of a killed process. -1 is
// possible if the shim was killed too.
func mayBeKilled(code int) bool { return code == exitKilled || code == -1 }

// alive reports whether the gateway of a record runs, and returns the pid of its
// shim.
func (d *Driver) alive(a agent, r record) (pid int, alive bool) {
	pid, ok := a.readShimFile("pid", r)
	if !ok {
		return 0, false
	}
	d.reap(pid)
	return pid, isShim(pid, r.Nonce)
}

// reap waits for a child process that has ended, so that it leaves the process
// table. Processes that this driver has not started are not its children.
func (d *Driver) reap(pid int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.children[pid] {
		return
	}
	got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
	if got == pid || errors.Is(err, unix.ECHILD) {
		delete(d.children, pid)
	}
}

// tryLock locks the lock file of an agent. The process that holds the lock may start
// the gateway. The gateway inherits the lock and holds it while it runs, also when
// the server has ended. tryLock returns nil without an error if the lock is held. A
// lock file that a stranger holds is replaced.
func (a agent) tryLock() (*os.File, error) {
	f, err := os.OpenFile(a.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil && isCurrentFile(f) {
		return f, nil
	}
	_ = f.Close()
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil, a.takeLockFromStranger()
	case err == nil:
		return nil, nil
	}
	return nil, fmt.Errorf("lock %s: %w", a.id, err)
}

// takeLockFromStranger deletes the lock file if a stranger holds it, so that the next
// one is new. That is so if the directory is a copy by hard links, or if only the home
// was replaced.
func (a agent) takeLockFromStranger() error {
	byStranger, err := a.isLockedByStranger()
	if err != nil || !byStranger {
		return err
	}
	return ignoreMissing(os.Remove(a.path("lock")))
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// isCurrentFile reports whether an open file still exists under its name.
func isCurrentFile(f *os.File) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(f.Name())
	return err == nil && os.SameFile(opened, named)
}

// isLocked reports whether a process that is no stranger holds the lock file.
func (a agent) isLocked() bool {
	f, err := os.OpenFile(a.path("lock"), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	if !errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK) {
		return false
	}
	byStranger, err := a.isLockedByStranger()
	return err != nil || !byStranger
}

func (a agent) isLockedByStranger() (bool, error) {
	found, err := a.strangers()
	return slices.ContainsFunc(found, func(s stranger) bool { return holdsFile(s.PID, a.path("lock")) }), err
}

// removeShimFiles deletes the files of the shim of an earlier start.
func (a agent) removeShimFiles() error {
	for _, name := range []string{"pid", "end"} {
		if err := ignoreMissing(os.Remove(a.path(name))); err != nil {
			return err
		}
	}
	return nil
}

func (a agent) openLog() (*os.File, error) {
	if err := os.MkdirAll(a.path("log"), 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join(a.path("log"), logName), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
}

// loggedAt returns when the gateway last wrote to its log.
func (a agent) loggedAt() time.Time {
	st, err := os.Stat(filepath.Join(a.path("log"), logName))
	if err != nil {
		return time.Time{}
	}
	return st.ModTime()
}

func fileExists(dir, file string) bool {
	_, err := os.Stat(filepath.Join(dir, file))
	return err == nil
}
