package database_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
)

func count(t *testing.T, q database.Reader) int {
	t.Helper()
	n, err := database.One(t.Context(), q, database.Scalar[int], `SELECT count(*) FROM events`)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const insert = `INSERT INTO events (account_id, topic, kind, actor, data, at) VALUES ('a', 't', 'k', '', '', 1)`

func TestTxCommitsOrRollsBackEverything(t *testing.T) {
	db := databasetest.New(t)
	calls := 0
	broken := errors.New("broken")
	err := db.Tx(t.Context(), "database.test", func(ctx context.Context, tx *database.Tx) error {
		tx.AfterCommit(func() { calls++ })
		if _, err := tx.ExecContext(t.Context(), insert); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) || count(t, db) != 0 || calls != 0 {
		t.Fatalf("err %v, %d rows, %d calls", err, count(t, db), calls)
	}
	err = db.Tx(t.Context(), "database.test", func(ctx context.Context, tx *database.Tx) error {
		tx.AfterCommit(func() { calls++ })
		_, err := tx.ExecContext(t.Context(), insert)
		return err
	})
	if err != nil || count(t, db) != 1 || calls != 1 {
		t.Fatalf("err %v, %d rows, %d calls", err, count(t, db), calls)
	}
}

// TestTxInsideTxFails: it would wait for itself.
func TestTxInsideTxFails(t *testing.T) {
	db := databasetest.New(t)
	err := db.Tx(t.Context(), "database.outer", func(ctx context.Context, _ *database.Tx) error {
		return db.Tx(ctx, "database.inner", func(context.Context, *database.Tx) error { return nil })
	})
	if !errors.Is(err, database.ErrNested) || !strings.Contains(err.Error(), "database.inner inside database.outer") {
		t.Fatal(err)
	}
}

func TestTransactionsAreObserved(t *testing.T) {
	var kinds []string
	db, err := database.Open(t.Context(), database.Settings{
		Path: filepath.Join(t.TempDir(), "agento.db"),
		Observe: func(kind string, held time.Duration) {
			if held <= 0 {
				t.Errorf("%s held the write lock for %s", kind, held)
			}
			kinds = append(kinds, kind)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	failure := errors.New("rolled back")
	for kind, result := range map[string]error{"test.committed": nil, "test.failed": failure} {
		if err := db.Tx(t.Context(), kind, func(context.Context, *database.Tx) error { return result }); !errors.Is(err, result) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	slices.Sort(kinds)
	if !slices.Equal(kinds, []string{"test.committed", "test.failed"}) {
		t.Errorf("observed %q", kinds)
	}
}

// The admin commands use the same file while the server runs.
func TestProcessesWriteConcurrently(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agento.db")
	var all sync.WaitGroup
	for range 4 {
		db, err := database.Open(t.Context(), database.Settings{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		all.Go(func() {
			for range 25 {
				err := db.Tx(context.Background(), "database.test", func(ctx context.Context, tx *database.Tx) error {
					_, err := tx.ExecContext(context.Background(), insert)
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	db, err := database.Open(t.Context(), database.Settings{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if n := count(t, db); n != 100 {
		t.Fatalf("%d rows of 100", n)
	}
}

func TestOnlyTheOwnerCanReadTheFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agento.db")
	db, err := database.Open(t.Context(), database.Settings{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for _, p := range []string{path, path + "-wal"} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s is %v", p, info.Mode())
		}
	}
}

func TestOneWithoutRowsReturnsErrNoRows(t *testing.T) {
	db := databasetest.New(t)
	_, err := database.One(t.Context(), db, database.Scalar[string], `SELECT id FROM accounts`)
	if !errors.Is(err, sql.ErrNoRows) {
		t.Fatal(err)
	}
}

func TestInstallationIsCreatedWithTheDatabaseAndStays(t *testing.T) {
	ids := map[string]bool{}
	for _, path := range []string{filepath.Join(t.TempDir(), "a.db"), filepath.Join(t.TempDir(), "b.db")} {
		for range 2 {
			db, err := database.Open(t.Context(), database.Settings{Path: path})
			if err != nil {
				t.Fatal(err)
			}
			ids[db.Installation()] = true
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(ids) != 2 || ids[""] {
		t.Errorf("two databases, each opened twice, have the ids %v", ids)
	}
}

func TestTxFailsOnceTheDatabaseIsClosed(t *testing.T) {
	db := databasetest.New(t)
	if err := errors.Join(db.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
	if err := db.Tx(t.Context(), "test", func(context.Context, *database.Tx) error { return nil }); err == nil {
		t.Error("a transaction of a closed database succeeds")
	}
}

func TestTxWorksAfterOnesThatFailed(t *testing.T) {
	db := databasetest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	for name, fail := range map[string]func(context.Context, *database.Tx) error{
		"rolled back by SQLite": func(ctx context.Context, tx *database.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT OR ROLLBACK INTO installation (id, created_at) VALUES ($1, 1)`, db.Installation())
			return err
		},
		"left open": func(ctx context.Context, tx *database.Tx) error {
			rows, err := tx.QueryContext(ctx, `SELECT id FROM installation`) //nolint:sqlclosecheck // what the test is about
			return errors.Join(errors.New("x"), err, rows.Err())
		},
		"cancelled": func(context.Context, *database.Tx) error { cancel(); return nil },
	} {
		if err := db.Tx(ctx, "test", fail); err == nil {
			t.Errorf("%s: no error", name)
		}
		before := count(t, db)
		err := db.Tx(t.Context(), "test", func(ctx context.Context, tx *database.Tx) error {
			_, err := tx.ExecContext(ctx, insert)
			return err
		})
		if err != nil || count(t, db) != before+1 {
			t.Errorf("%s: the next transaction: %v", name, err)
		}
		ctx, cancel = context.WithCancel(t.Context()) //nolint:fatcontext // each from the test's
	}
	cancel()
}

// TestTxWhoseContextEndsAtItsBegin: the connection is not left inside a transaction,
// which would make every later one fail.
func TestTxWhoseContextEndsAtItsBegin(t *testing.T) {
	db := databasetest.New(t)
	for i := range 2000 {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for range i % 50 {
				runtime.Gosched()
			}
			cancel()
		}()
		_ = db.Tx(ctx, "database.test", func(context.Context, *database.Tx) error { return nil }) // it may have ended before
		if err := db.Tx(t.Context(), "database.test", func(context.Context, *database.Tx) error { return nil }); err != nil {
			t.Fatalf("after %d transactions: %v", i, err)
		}
		cancel()
	}
}
