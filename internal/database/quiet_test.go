package database_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
)

// A restored database is one of a new installation, and quiet until it is activated, once.
func TestRestoredDatabaseIsQuietUntilItIsActivated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agento.db")
	db := databasetest.Open(t, path)
	original := db.Installation()
	if db.IsQuiet() {
		t.Error("a new database is quiet")
	}
	backupAt := time.Now().Add(-time.Hour).UTC().Truncate(time.Millisecond)
	var id string
	inTx(t, db, func(ctx context.Context, tx *database.Tx) (err error) {
		id, err = database.MakeRestored(ctx, tx, backupAt)
		return err
	})
	reopen := func() {
		t.Helper()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		db = databasetest.Open(t, path)
	}
	reopen()
	r, err := db.Restored(t.Context())
	if err != nil || r.From != original || !r.BackupAt.Equal(backupAt) || r.QuietSince.IsZero() {
		t.Errorf("%+v, %v", r, err)
	}
	if id == original || db.Installation() != id || !strings.HasPrefix(id, "inst_") || !db.IsQuiet() {
		t.Errorf("the installation is %s", db.Installation())
	}
	for _, want := range []bool{true, false} {
		inTx(t, db, func(ctx context.Context, tx *database.Tx) error {
			was, err := db.Activate(ctx, tx)
			if was != want {
				t.Errorf("it was quiet: %v", was)
			}
			return err
		})
		if <-db.Active(); db.IsQuiet() {
			t.Error("it is quiet")
		}
	}
	reopen()
	if db.IsQuiet() {
		t.Error("it is quiet again")
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// An activation that is rolled back leaves the installation quiet.
func TestActivationThatFailsChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agento.db")
	db := databasetest.Open(t, path)
	inTx(t, db, func(ctx context.Context, tx *database.Tx) error {
		_, err := database.MakeRestored(ctx, tx, time.Now())
		return err
	})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = databasetest.Open(t, path)
	defer func() { _ = db.Close() }()
	err := db.Tx(t.Context(), "database.test", func(ctx context.Context, tx *database.Tx) error {
		if _, err := db.Activate(ctx, tx); err != nil {
			return err
		}
		return context.Canceled
	})
	if err == nil || !db.IsQuiet() {
		t.Errorf("quiet: %v, %v", db.IsQuiet(), err)
	}
}

func inTx(t *testing.T, db *database.DB, f func(context.Context, *database.Tx) error) {
	t.Helper()
	if err := db.Tx(t.Context(), "database.test", f); err != nil {
		t.Fatal(err)
	}
}
