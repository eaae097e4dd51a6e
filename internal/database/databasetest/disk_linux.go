package databasetest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/database"
)

// Disk is a small file system of its own.
type Disk struct {
	t     testing.TB
	Dir   string
	fills int
}

// NewDisk mounts an empty file system in memory with options of tmpfs, such as
// "size=64m,nr_inodes=500". It is unmounted at the end of the test. The test is skipped
// if the user may not mount.
func NewDisk(t testing.TB, options string) *Disk {
	t.Helper()
	d := &Disk{t: t, Dir: t.TempDir()}
	if err := unix.Mount("tmpfs", d.Dir, "tmpfs", 0, options); err != nil {
		t.Skipf("skipped: it mounts a file system, which needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(d.Dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", d.Dir, err)
		}
	})
	return d
}

// Fill writes until the disk is full. The room is given back by Free.
func (d *Disk) Fill() {
	d.t.Helper()
	d.fills++
	f, err := os.Create(fmt.Sprintf("%s-%d", d.ballast(), d.fills))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, size := range []int{1 << 20, 1 << 12, 1} {
		block := bytes.Repeat([]byte{1}, size)
		for err = nil; err == nil; {
			_, err = f.Write(block)
		}
		if !errors.Is(err, unix.ENOSPC) {
			d.t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		d.t.Fatal(err)
	}
}

// UseInodes makes empty files until the disk takes no more. They are deleted by Free.
func (d *Disk) UseInodes() {
	d.t.Helper()
	for i := 0; ; i++ {
		f, err := os.Create(fmt.Sprintf("%s%d", d.ballast(), i))
		if errors.Is(err, unix.ENOSPC) {
			return
		}
		if err != nil {
			d.t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			d.t.Fatal(err)
		}
	}
}

// Free deletes what Fill and UseInodes have made.
func (d *Disk) Free() {
	d.t.Helper()
	made, err := filepath.Glob(d.ballast() + "*")
	if err != nil {
		d.t.Fatal(err)
	}
	for _, path := range made {
		if err := os.Remove(path); err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *Disk) ballast() string { return filepath.Join(d.Dir, "ballast") }

// FailingDisk is an ext4 file system in a file, which can become read-only under the
// programs that use it, as after an error of the disk.
type FailingDisk struct {
	t     testing.TB
	image string
	Dir   string
}

// NewFailingDisk mounts an empty FailingDisk of so many MiB. It is unmounted at the end
// of the test, which is skipped if the user may not mount.
func NewFailingDisk(t testing.TB, size int64) *FailingDisk {
	t.Helper()
	d := &FailingDisk{t: t, image: filepath.Join(t.TempDir(), "disk.ext4"), Dir: t.TempDir()}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, size<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", d.image).CombinedOutput(); err != nil {
		t.Skipf("skipped: it needs mkfs.ext4: %v %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", d.image, d.Dir).CombinedOutput(); err != nil {
		t.Skipf("skipped: it mounts a file system in a file, which needs root: %v %s", err, out)
	}
	t.Cleanup(d.unmount)
	return d
}

func (d *FailingDisk) unmount() { d.run("umount", "--lazy", d.Dir) }

// Fail makes the file system read-only, whatever is open on it. It keeps what was written
// until now: what a power failure loses is another matter.
func (d *FailingDisk) Fail() {
	d.t.Helper()
	unix.Sync()
	d.run("mount", "-i", "-o", "remount,abort", d.Dir)
}

// Repair makes the file system writable again. It waits until nothing is open on it:
// processes that were killed end a little later.
func (d *FailingDisk) Repair() {
	d.t.Helper()
	deadline, tick := time.Now().Add(time.Minute), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Unmount(d.Dir, 0)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("unmount %s: %v", d.Dir, err)
		}
		<-tick.C
	}
	_ = exec.Command("e2fsck", "-p", d.image).Run() // its status says that it has repaired something
	d.run("mount", "-o", "loop", d.image, d.Dir)
}

func (d *FailingDisk) run(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s %q: %v %s", name, args, err, out)
	}
}

// OpenIn opens the database in a directory, creates it if it is missing, and closes it at
// the end of the test.
func OpenIn(t testing.TB, dir string) *database.DB {
	t.Helper()
	db := Open(t, filepath.Join(dir, fileName))
	t.Cleanup(func() { _ = db.Close() }) // the disk may be broken
	return db
}

// Lock locks the database in a directory as another program does, until unlock is
// called.
func Lock(t testing.TB, dir string) (unlock func()) {
	t.Helper()
	other, err := sql.Open("sqlite", "file:"+filepath.Join(dir, fileName)+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := other.Conn(context.Background())
	if err == nil {
		_, err = conn.ExecContext(context.Background(), `BEGIN EXCLUSIVE`)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		_, err := conn.ExecContext(context.Background(), `ROLLBACK`)
		if err := errors.Join(err, conn.Close(), other.Close()); err != nil {
			t.Error(err)
		}
	}
}
