package database

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"
)

// Restored is where an installation comes from that was restored from a backup.
type Restored struct {
	From       string    // the id of the installation that the backup is of; empty: this one was not restored
	BackupAt   time.Time // when the backup was made
	QuietSince time.Time // zero: the installation is active
}

// newInstallationID returns an id that no other installation has.
func newInstallationID() string { return "inst_" + strings.ToLower(rand.Text()) }

// MakeRestored makes the database that of a new installation, which is quiet: it was restored
// from a backup that was made at a time. It returns the id of the new installation. The
// database must be opened anew before it is used: nothing else may hold its id.
func MakeRestored(ctx context.Context, tx *Tx, backupAt time.Time) (id string, err error) {
	id = newInstallationID()
	_, err = Exec(ctx, tx, `UPDATE installation SET id = $1, restored_from = id, backup_at = $2, quiet_since = $3`, id, Millis(backupAt), Millis(time.Now()))
	if err != nil {
		return "", fmt.Errorf("store the id of the restored installation: %w", err)
	}
	return id, nil
}

// Restored returns where the installation comes from.
func (db *DB) Restored(ctx context.Context) (Restored, error) {
	r, err := One(ctx, db, func(r Row) (Restored, error) {
		var found Restored
		var backup, quiet int64
		err := r.Scan(&found.From, &backup, &quiet)
		found.BackupAt, found.QuietSince = Time(backup), Time(quiet)
		return found, err
	}, `SELECT restored_from, backup_at, quiet_since FROM installation`)
	if err != nil {
		return Restored{}, fmt.Errorf("read where the installation comes from: %w", err)
	}
	return r, nil
}

// Active returns a channel that is closed when the installation is not quiet, or not any more.
// Whatever acts on the outside waits for it: starts a gateway, calls somebody, or removes
// something.
func (db *DB) Active() <-chan struct{} { return db.active }

// IsQuiet reports whether the installation is quiet: the one that it is a copy of may run, so
// it must not act on the outside.
func (db *DB) IsQuiet() bool {
	select {
	case <-db.active:
		return false
	default:
		return true
	}
}

// Activate ends that the installation is quiet, for ever. It reports whether it was. The
// caller has the lock of the data directory, so that no other process has to learn of it.
func (db *DB) Activate(ctx context.Context, tx *Tx) (wasQuiet bool, err error) {
	n, err := Exec(ctx, tx, `UPDATE installation SET quiet_since = 0 WHERE quiet_since <> 0`)
	if err != nil {
		return false, fmt.Errorf("activate the installation: %w", err)
	}
	tx.AfterCommit(db.endQuiet)
	return n > 0, nil
}
