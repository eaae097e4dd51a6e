package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

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
	Groups      []string      `json:"groups,omitempty"` // directories of its control group
	Sandboxed   bool          `json:"sandboxed,omitempty"`
	OOMKilled   bool          `json:"oomKilled,omitempty"` // written before the control group is removed
}

// record returns the record of the last start, or the zero record if there is none.
func (a agent) record() (record, error) {
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
// the server has ended. tryLock returns nil without an error if the lock is held.
func (a agent) tryLock() (*os.File, error) {
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(a.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil && isCurrentFile(f) {
		return f, nil
	}
	_ = f.Close()
	if err == nil || errors.Is(err, unix.EWOULDBLOCK) {
		return nil, nil
	}
	return nil, fmt.Errorf("lock %s: %w", a.id, err)
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

// isLocked reports whether a process holds the lock file.
func (a agent) isLocked() bool {
	f, err := os.OpenFile(a.path("lock"), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// removeShimFiles deletes the files of the shim of an earlier start.
func (a agent) removeShimFiles() error {
	for _, name := range []string{"pid", "end"} {
		if err := os.Remove(a.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
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

func fileExists(dir, file string) bool {
	_, err := os.Stat(filepath.Join(dir, file))
	return err == nil
}
