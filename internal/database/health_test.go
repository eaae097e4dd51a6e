package database_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/logtest"
)

func TestDiagnose(t *testing.T) {
	for _, row := range []struct {
		err  error
		want database.Problem
	}{
		{nil, ""},
		{fs.ErrNotExist, ""},
		{context.Canceled, ""},
		{&fs.PathError{Op: "write", Path: "f", Err: syscall.ENOSPC}, database.DiskFull},
		{syscall.EDQUOT, database.DiskFull},
		{fmt.Errorf("open: %w", syscall.EROFS), database.ReadOnly},
		{syscall.EIO, database.DiskError},
		{fmt.Errorf("again: %w", database.Locked), database.Locked},
	} {
		got, ok := database.Diagnose(row.err)
		if got != row.want || ok != (row.want != "") {
			t.Errorf("%v: %q, %v", row.err, got, ok)
		}
		explained := database.Explain(row.err)
		if fault.Is(explained, fault.Unavailable) != ok || !errors.Is(explained, row.err) {
			t.Errorf("%v is explained as %v", row.err, explained)
		}
		if f := fault.From(explained); ok && (f.Message != string(row.want) || f.RetryAfter <= 0) {
			t.Errorf("the caller of %v sees %q, %s", row.err, f.Message, f.RetryAfter)
		}
	}
	known := fault.New(fault.NotFound, "There is none.").Because(syscall.EIO)
	if got := database.Explain(known); !errors.Is(got, known) || fault.From(got) != known {
		t.Errorf("a fault became %v", got)
	}
}

// write stores a row of a size.
func write(ctx context.Context, db *database.DB, size int) error {
	return db.Tx(ctx, "database.test", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO events (account_id, topic, kind, actor, data, at) VALUES ('a', 't', 'k', '', $1, 1)`, string(bytes.Repeat([]byte{'x'}, size)))
		return err
	})
}

func checkProblem(t *testing.T, err error, want database.Problem) {
	t.Helper()
	if p, _ := database.Diagnose(err); p != want || fault.From(err).Message != string(want) {
		t.Errorf("%v, want %q", err, want)
	}
}

// monitor runs Monitor until the end of the test, and returns its log once the reserve
// is made.
func monitor(t *testing.T, db *database.DB, dir string) *logtest.Buffer {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	log := &logtest.Buffer{}
	var running sync.WaitGroup
	running.Go(func() { _ = db.Monitor(ctx, slog.New(slog.NewTextHandler(log, nil))) })
	t.Cleanup(func() { stop(); running.Wait() })
	await(t, "room is reserved", func() bool { return reserved(t, dir) == 32 })
	return log
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline, tick := time.After(30*time.Second), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-deadline:
			t.Fatalf("not within 30 s: %s", what)
		case <-tick.C:
		}
	}
}

// reserved counts the files of the reserve.
func reserved(t *testing.T, dir string) int {
	t.Helper()
	files, err := os.ReadDir(filepath.Join(dir, "reserve"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return len(files)
}

// TestFullDisk: what may use the reserve works, other transactions say what to do, and
// nothing of them is stored in part.
func TestFullDisk(t *testing.T) {
	disk := databasetest.NewDisk(t, "size=64m")
	db := databasetest.OpenIn(t, disk.Dir)
	log := monitor(t, db, disk.Dir)
	disk.Fill()
	checkProblem(t, write(t.Context(), db, 8<<20), database.DiskFull)
	if n := count(t, db); n != 0 {
		t.Errorf("%d rows of a transaction that failed", n)
	}
	for i := range 3 {
		if err := write(database.UseReserve(t.Context()), db, 1<<20); err != nil {
			t.Fatalf("with the reserve: %v", err)
		}
		if n := count(t, db); n != i+1 {
			t.Errorf("%d rows after %d transactions", n, i+1)
		}
	}
	checkProblem(t, write(t.Context(), db, 8<<20), database.DiskFull)
	await(t, "the log says what to do", func() bool { return strings.Contains(log.String(), string(database.DiskFull)) })
	await(t, "the database is not healthy", func() bool { return db.Health(t.Context()) != nil })
	disk.Free()
	await(t, "the database is healthy", func() bool { return db.Health(t.Context()) == nil })
	await(t, "room is reserved again", func() bool { return reserved(t, disk.Dir) == 32 })
	await(t, "the log says that it is over", func() bool { return strings.Contains(log.String(), "takes writes again") })
	if err := write(t.Context(), db, 8<<20); err != nil {
		t.Error(err)
	}
}

// TestFullDiskThatStillTakesAPage: SQLite overwrites its WAL, so a write alone does not
// show that the disk is full.
func TestFullDiskThatStillTakesAPage(t *testing.T) {
	disk := databasetest.NewDisk(t, "size=64m")
	db := databasetest.OpenIn(t, disk.Dir)
	if err := db.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := write(t.Context(), db, 1<<20); err != nil { // the WAL has room now
		t.Fatal(err)
	}
	if db.Space() == "" {
		t.Error("64 MiB are enough")
	}
	disk.Fill()
	await(t, "the database is not healthy", func() bool { return db.Health(t.Context()) != nil })
	checkProblem(t, db.Health(t.Context()), database.DiskFull)
}

func TestNoInodes(t *testing.T) {
	disk := databasetest.NewDisk(t, "size=64m,nr_inodes=100")
	db := databasetest.OpenIn(t, disk.Dir)
	monitor(t, db, disk.Dir)
	disk.UseInodes()
	if err := write(t.Context(), db, 100); err != nil {
		t.Errorf("a transaction needs no inode: %v", err)
	}
	await(t, "the database is not healthy", func() bool { return db.Health(t.Context()) != nil })
	checkProblem(t, db.Health(t.Context()), database.NoInodes)
	disk.Free()
	await(t, "the database is healthy", func() bool { return db.Health(t.Context()) == nil })
}

func TestReadOnlyDisk(t *testing.T) {
	disk := databasetest.NewFailingDisk(t, 64)
	db := databasetest.OpenIn(t, disk.Dir)
	log := monitor(t, db, disk.Dir)
	if err := write(t.Context(), db, 100); err != nil {
		t.Fatal(err)
	}
	disk.Fail()
	checkProblem(t, write(t.Context(), db, 100), database.ReadOnly)
	checkProblem(t, db.Health(t.Context()), database.ReadOnly)
	if n := count(t, db); n != 1 {
		t.Errorf("%d rows can be read", n)
	}
	await(t, "the log says what to do", func() bool { return strings.Contains(log.String(), string(database.ReadOnly)) })
}

// TestLockedDatabase: transactions that wait for another program all give up within one
// busy timeout, not one after the other; reads go on.
func TestLockedDatabase(t *testing.T) {
	dir := t.TempDir()
	db := databasetest.OpenIn(t, dir)
	if err := write(t.Context(), db, 100); err != nil {
		t.Fatal(err)
	}
	unlock := databasetest.Lock(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second) // one after the other would take 20 s
	defer cancel()
	var waiting sync.WaitGroup
	for range 5 {
		waiting.Go(func() { checkProblem(t, write(ctx, db, 100), database.Locked) })
	}
	if n := count(t, db); n != 1 {
		t.Errorf("%d rows can be read", n)
	}
	waiting.Wait()
	checkProblem(t, db.Health(t.Context()), database.Locked)
	unlock()
	await(t, "the database takes writes", func() bool { return write(t.Context(), db, 100) == nil })
	await(t, "the database is healthy", func() bool { return db.Health(t.Context()) == nil })
}
