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
)

// killed is the exit code of what died of SIGKILL.
const killed = 128 + 9

// record is what the server notes before it starts a gateway, so that no
// gateway can exist of which nothing is known. The shim adds two files: pid as
// its first act, end as its last.
type record struct {
	Place       string    `json:"place"`
	Nonce       string    `json:"nonce"` // names this start; it is on the shim's command line
	At          time.Time `json:"at"`
	MemoryLimit int64     `json:"memoryLimit,omitempty"`
	Groups      []string  `json:"groups,omitempty"` // directories of its control groups
	Sandboxed   bool      `json:"sandboxed,omitempty"`
	OOMKilled   bool      `json:"oomKilled,omitempty"` // noted when the group is taken down
}

// record returns what is noted of the last start; the zero record if nothing.
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
		// Replaced in one step, so only a crash of the machine leaves half of
		// it, and then nothing runs.
		return record{}, nil //nolint:nilerr // it is as if there were none
	}
	return r, nil
}

func (a agent) note(r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return replaceFile(a.path("gateway.json"), data)
}

// replaceFile writes a file, 0600, in one step.
func replaceFile(path string, data []byte) error {
	temp := path + ".new"
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// shimNote reads a file of the shim: a number and the nonce of its start.
func (a agent) shimNote(name string, r record) (int, bool) {
	data, err := os.ReadFile(a.path(name))
	if err != nil || r.Nonce == "" {
		return 0, false
	}
	number, nonce, _ := strings.Cut(string(data), " ")
	// The newline says that the line was written whole.
	if nonce != r.Nonce+"\n" {
		return 0, false
	}
	n, err := strconv.Atoi(number)
	return n, err == nil
}

// endedOrBegan says whether the shim of this start has ever run.
func (a agent) endedOrBegan(r record) bool {
	_, began := a.shimNote("pid", r)
	_, ended := a.shimNote("end", r)
	return began || ended
}

// ending returns the exit code of a gateway that has ended, -1 if not known.
func (a agent) ending(r record) (code int, oom bool) {
	code, ok := a.shimNote("end", r)
	if !ok {
		code = -1
	}
	return code, r.OOMKilled
}

// alive says whether the gateway of a record lives, and under which shim.
func (d *Driver) alive(a agent, r record) (pid int, alive bool) {
	pid, ok := a.shimNote("pid", r)
	if !ok {
		return 0, false
	}
	d.reap(pid)
	return pid, isShim(pid, r.Nonce)
}

// reap takes our child off the process table if it has ended. What we did not
// start is not ours to reap.
func (d *Driver) reap(pid int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.kids[pid] {
		return
	}
	got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
	if got == pid || errors.Is(err, unix.ECHILD) {
		delete(d.kids, pid)
	}
}

// tryLock takes the lock file of an agent: whoever holds it may start its
// gateway, and the gateway holds it for as long as it lives, whatever becomes
// of the server. Nil without an error: somebody else holds it.
func (a agent) tryLock() (*os.File, error) {
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(a.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil && sameFile(f) {
		return f, nil
	}
	_ = f.Close()
	if err == nil || errors.Is(err, unix.EWOULDBLOCK) {
		return nil, nil
	}
	return nil, fmt.Errorf("lock %s: %w", a.id, err)
}

// sameFile says whether a locked file has not been deleted meanwhile.
func sameFile(f *os.File) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(f.Name())
	return err == nil && os.SameFile(mine, named)
}

// held says whether somebody holds the lock file.
func (a agent) held() bool {
	f, err := os.OpenFile(a.path("lock"), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// removeStale deletes what the shim of an earlier start left.
func (a agent) removeStale() error {
	for _, name := range []string{"pid", "end"} {
		if err := os.Remove(a.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (a agent) logFile() (*os.File, error) {
	if err := os.MkdirAll(a.path("log"), 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join(a.path("log"), liveLog), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
}

func has(dir, file string) bool {
	_, err := os.Stat(filepath.Join(dir, file))
	return err == nil
}
