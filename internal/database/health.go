package database

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	probeInterval = 5 * time.Second // between probes of Monitor
	probeAge      = time.Second     // how old a result of Health may be

	lockMemory = time.Second // how long a transaction that waited in vain makes others fail at once

	// fullBytes is less free room than a transaction may need: SQLite overwrites its WAL,
	// so that a probe can succeed on a full disk.
	fullBytes = 1 << 20
	// lowBytes and lowInodes are when Space warns.
	lowBytes  = 256 << 20
	lowInodes = 1000
)

// health is what is known about whether the database takes writes.
type health struct {
	mu       sync.Mutex
	failed   error         // why the last write or probe failed; nil: it did not; guarded by mu
	probed   time.Time     // when the last probe ended; guarded by mu
	lockedAt time.Time     // when a transaction last waited in vain for another program; guarded by mu
	lockErr  error         // of that transaction; guarded by mu
	changed  chan struct{} // has an element if Monitor should look

	probing sync.Mutex // one probe at a time
}

// noteFailure records that a transaction failed, if that is a problem of the disk or of
// another program. It returns the error as the caller gets it.
func (db *DB) noteFailure(err error) error {
	p, ok := Diagnose(err)
	if !ok {
		return err
	}
	if p == DiskFull || p == DiskError { // the file system knows more than SQLite's code says
		if found := inspectDisk(filepath.Dir(db.path)); found != "" {
			p = found
		}
	}
	err = p.fault(err)
	db.health.mu.Lock()
	db.health.failed = err
	db.health.mu.Unlock()
	select {
	case db.health.changed <- struct{}{}:
	default:
	}
	return err
}

// isFull reports whether err comes from a full disk. SQLite reports some failures to
// extend a file as errors of the disk.
func (db *DB) isFull(err error) bool {
	p, ok := Diagnose(err)
	if ok && p == DiskError {
		p = inspectDisk(filepath.Dir(db.path))
	}
	return p == DiskFull || p == NoInodes
}

// noteLock records that a transaction waited in vain for another program.
func (h *health) noteLock(err error) {
	if p, _ := Diagnose(err); p != Locked {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lockedAt, h.lockErr = time.Now(), err
}

// lockedSince returns an error if a transaction has waited in vain for another program
// since lockMemory before a time. Those that waited behind it, or come a moment later,
// then need not wait as long again, one after the other.
func (h *health) lockedSince(at time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lockedAt.After(at.Add(-lockMemory)) {
		return h.lockErr
	}
	return nil
}

// Health returns why the database takes no writes, or nil if it does. It writes, unless
// another call has done so a moment ago. The error is a *fault.Fault whose message says
// what to do, if that is known.
func (db *DB) Health(ctx context.Context) error {
	db.health.probing.Lock()
	defer db.health.probing.Unlock()
	db.health.mu.Lock()
	failed, age := db.health.failed, time.Since(db.health.probed)
	db.health.mu.Unlock()
	if age < probeAge {
		return failed
	}
	err := db.probe(ctx)
	if ctx.Err() != nil {
		return err
	}
	db.health.mu.Lock()
	defer db.health.mu.Unlock()
	db.health.probed, db.health.failed = time.Now(), err
	return err
}

// probe writes one page and looks at the disk.
func (db *DB) probe(ctx context.Context) error {
	err := db.Tx(ctx, "database.probe", func(ctx context.Context, tx *Tx) error {
		for range 2 { // to and fro: SQLite writes no page that did not change
			if _, err := tx.ExecContext(ctx, `UPDATE installation SET created_at = -created_at`); err != nil {
				return fmt.Errorf("probe the database: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if p := inspectDisk(filepath.Dir(db.path)); p != "" {
		return p.fault(errors.New("the file system says so"))
	}
	return nil
}

// inspectDisk returns the problem that the file system of a directory has, or "".
func inspectDisk(dir string) Problem {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return DiskError
	}
	switch {
	case s.Flags&readOnlyFlag != 0:
		return ReadOnly
	case s.Files > 0 && s.Ffree == 0:
		return NoInodes
	case s.Bavail*uint64(s.Bsize) < fullBytes:
		return DiskFull
	}
	// After an error, a file system can be read-only without saying so.
	p, _ := Diagnose(tryFile(dir))
	return p
}

// Space returns a sentence if the disk of the database is almost full, and otherwise "".
func (db *DB) Space() string {
	var s unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(db.path), &s); err != nil {
		return ""
	}
	free := s.Bavail * uint64(s.Bsize)
	switch {
	case free < lowBytes:
		return fmt.Sprintf("The disk of the server is almost full: %d MiB are free. Delete what is not needed, or make it larger.", free>>20)
	case s.Files > 0 && s.Ffree < lowInodes:
		return fmt.Sprintf("The disk of the server has only %d inodes left. Delete agents or files that are not needed.", s.Ffree)
	}
	return ""
}

// Monitor reserves room for a full disk, and watches whether the database takes writes,
// until ctx ends. It logs when that changes. Only the server that owns the data
// directory calls it.
func (db *DB) Monitor(ctx context.Context, log *slog.Logger) error {
	if err := db.reserve.open(); err != nil {
		log.WarnContext(ctx, "no room is reserved for a full disk", "error", err)
	}
	var shown Problem
	var warned bool
	ticks := time.NewTicker(probeInterval)
	defer ticks.Stop()
	for ctx.Err() == nil {
		err := db.Health(ctx)
		p, failed := Diagnose(err)
		switch {
		case ctx.Err() != nil:
		case failed && p != shown:
			log.ErrorContext(ctx, string(p), "database", db.path, "error", err)
		case err != nil && !failed:
			log.ErrorContext(ctx, "probing the database failed", "error", err)
		case err == nil && shown != "":
			log.WarnContext(ctx, "the database takes writes again")
		}
		shown = p
		space := db.Space()
		if space != "" && !warned {
			log.WarnContext(ctx, space, "database", db.path)
		}
		warned = space != ""
		if err == nil {
			_ = db.reserve.fill() // the next time, if there is no room yet
		}
		select {
		case <-ctx.Done():
		case <-ticks.C:
		case <-db.health.changed:
		}
	}
	return nil
}
