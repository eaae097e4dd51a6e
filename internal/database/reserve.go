package database

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// The reserve is reserveFiles files beside the database, 16 MiB. A delete needs a few
// pages in the WAL, about 1 MiB for an agent with long documents.
const (
	reserveFiles = 32 // also as many inodes
	reserveSize  = 512 << 10
)

// reserve is room on the disk of the database for what must also work on a full disk:
// files without contents, which are deleted when a transaction of UseReserve finds no
// room, and made again as soon as it has ended.
type reserve struct {
	mu  sync.Mutex // serialises release and fill
	dir string
}

func newReserve(database string) *reserve {
	return &reserve{dir: filepath.Join(filepath.Dir(database), "reserve")}
}

// MakeRoom gives the room that is reserved beside a database file back to a full disk, so
// that a server can open the database and start. Monitor reserves it again.
func MakeRoom(path string) {
	if p := inspectDisk(filepath.Dir(path)); p == DiskFull || p == NoInodes {
		newReserve(path).release()
	}
}

// useReserve is the context key of transactions that may use the reserve.
type useReserve struct{}

// UseReserve returns a context whose transactions use the room that is reserved for a
// full disk. It is for what ends or deletes something, and for the little that is
// written to keep track of gateways. A transaction that finds the disk full runs its
// function a second time.
func UseReserve(ctx context.Context) context.Context {
	return context.WithValue(ctx, useReserve{}, true)
}

func mayUseReserve(ctx context.Context) bool {
	may, _ := ctx.Value(useReserve{}).(bool)
	return may
}

// open makes the reserve.
func (r *reserve) open() error {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return fmt.Errorf("reserve room on the disk: %w", err)
	}
	return r.fill()
}

// fill reserves what is not reserved. It leaves the disk as much free room as it takes.
func (r *reserve) fill() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range reserveFiles {
		path := filepath.Join(r.dir, strconv.Itoa(i))
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := allocate(path); err != nil {
			return fmt.Errorf("reserve room on the disk: %w", errors.Join(err, os.Remove(path)))
		}
	}
	return nil
}

// allocate makes a file that has its blocks on the disk.
func allocate(path string) error {
	f, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = fallocate(int(f.Fd()), reserveSize)
	if errors.Is(err, unix.EOPNOTSUPP) { // a file system without it: write the blocks
		_, err = f.Write(make([]byte, reserveSize))
	}
	return errors.Join(err, f.Close())
}

// release gives the reserved room back to the disk. It reports whether there was some.
func (r *reserve) release() (released bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range reserveFiles {
		if os.Remove(filepath.Join(r.dir, strconv.Itoa(i))) == nil {
			released = true
		}
	}
	return released
}
