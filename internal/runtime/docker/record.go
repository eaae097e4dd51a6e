package docker

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/runtime"
)

const (
	recordName = "place.json"
	filesName  = "files.json"
	lockName   = "lock"
	// lockInterval is the pause between two attempts to take the lock of an agent.
	lockInterval = 5 * time.Millisecond
)

// record is what the driver writes before it makes a container, so that none can exist to whose
// relay it cannot connect.
type record struct {
	Installation string             `json:"installation"`
	Place        runtime.Place      `json:"place"`
	Epoch        int64              `json:"epoch"` // rises with every container of the agent
	Key          ed25519.PrivateKey `json:"key"`   // to which the container's relay listens
	Container    string             `json:"container,omitempty"`
	Launched     bool               `json:"launched,omitempty"` // the gateway was started in it; false: a start is under way or was interrupted
	DiskLimit    int64              `json:"diskLimit,omitempty"`
	FileLimit    int64              `json:"fileLimit,omitempty"`
}

func (a agent) path(name string) string { return filepath.Join(a.dir, name) }

// record returns the record of the last start, or the zero record if there is none.
func (a agent) record() (record, error) {
	var r record
	if err := readJSON(a.path(recordName), &r); err != nil {
		return record{}, err
	}
	if r.Installation != a.installation || len(r.Key) != ed25519.PrivateKeySize {
		return record{}, nil // it came with a copy of the directory, or is damaged
	}
	return r, nil
}

func (a agent) saveRecord(r record) error { return a.save(recordName, r) }

// save writes a file of the agent's directory atomically, so that a crash leaves the old one or the
// new one.
func (a agent) save(name string, content any) error {
	data, err := json.Marshal(content)
	if err != nil {
		return err
	}
	temp := a.path(name) + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(temp, a.path(name))
}

// readJSON reads a file. A file that is missing or damaged is like an empty one.
func readJSON(path string, to any) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_ = json.Unmarshal(data, to) // files are replaced atomically, so only a crash of the machine can damage one
	return nil
}

// forgetRecords deletes all that the directory has of the agent.
func (a agent) forgetRecords() error {
	var err error
	for _, name := range []string{recordName, filesName, recordName + ".new", filesName + ".new"} {
		if e := os.Remove(a.path(name)); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// lock takes the lock of an agent, which all drivers of the directory share, in other processes too.
func (a agent) lock(ctx context.Context) (unlock func(), err error) {
	for {
		f, err := a.tryLock()
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", a.id, err)
		}
		if f != nil {
			return func() { a.unlock(f) }, nil
		}
		if err := pause(ctx, lockInterval); err != nil {
			return nil, err
		}
	}
}

// tryLock returns nil without an error if the lock is held.
func (a agent) tryLock() (*os.File, error) {
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(a.path(lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // unlock has just removed the directory
	}
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
	return nil, err
}

// unlock releases the lock. It removes the directory if nothing else is in it.
func (a agent) unlock(f *os.File) {
	entries, err := os.ReadDir(a.dir)
	if err == nil && len(entries) == 1 {
		_, _ = os.Remove(a.path(lockName)), os.Remove(a.dir) // whoever waits finds that the file is not the current one
	}
	_ = f.Close()
}

// isLocked reports whether a driver is changing something of the agent.
func (a agent) isLocked() bool {
	f, err := os.OpenFile(a.path(lockName), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
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
