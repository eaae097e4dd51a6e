package database_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
)

// groupTest runs transactions of GroupTx that have waited for the write lock together.
type groupTest struct {
	*testing.T
	db   *database.DB
	path string
}

func newGroupTest(t *testing.T) *groupTest {
	path := filepath.Join(t.TempDir(), "agento.db")
	db := databasetest.Open(t, path)
	t.Cleanup(func() { _ = db.Close() })
	return &groupTest{t, db, path}
}

// together runs the functions as transactions that begin in this order, after one that
// has the write lock until all of them wait, and returns their errors.
func (t *groupTest) together(all ...func(context.Context, *database.Tx) error) []error {
	t.Helper()
	errs := make([]error, len(all))
	var ended sync.WaitGroup
	t.transaction(func(ctx context.Context, tx *database.Tx) error {
		for i, f := range all {
			ended.Go(func() {
				defer func() {
					if p := recover(); p != nil {
						errs[i] = fmt.Errorf("panic: %v", p)
					}
				}()
				errs[i] = t.db.GroupTx(context.Background(), fmt.Sprint("test.", i), f)
			})
			t.await(i) // the first waits for the writer, not for its turn
		}
		return nil
	})
	ended.Wait()
	return errs
}

func (t *groupTest) transaction(f func(context.Context, *database.Tx) error) {
	t.Helper()
	if err := t.db.Tx(t.Context(), "test", f); err != nil {
		t.Fatal(err)
	}
}

func (t *groupTest) await(waiting int) {
	t.Helper()
	for began := time.Now(); t.db.Waiting() != waiting || waiting == 0 && !t.db.GroupBusy(); time.Sleep(100 * time.Microsecond) {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("%d transactions wait, want %d", t.db.Waiting(), waiting)
		}
	}
}

func (t *groupTest) count() int { return count(t.T, t.db) }

// walSize returns the length of the write-ahead log.
func (t *groupTest) walSize() int64 {
	t.Helper()
	info, err := os.Stat(t.path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func insertEvent(ctx context.Context, tx *database.Tx) error {
	_, err := tx.ExecContext(ctx, insert)
	return err
}

func TestGroupedTransactionsSucceedAndFailAlone(t *testing.T) {
	env := newGroupTest(t)
	errRefused := errors.New("refused")
	var mu sync.Mutex
	var hooks []int
	var all []func(context.Context, *database.Tx) error
	const n = 50
	for i := range n {
		all = append(all, func(ctx context.Context, tx *database.Tx) error {
			tx.AfterCommit(func() {
				mu.Lock()
				defer mu.Unlock()
				hooks = append(hooks, i)
				if env.count() == 0 { // as other connections see it
					t.Error("a hook ran before the commit")
				}
			})
			if err := insertEvent(ctx, tx); err != nil {
				return err
			}
			switch i % 5 {
			case 1:
				return errRefused
			case 2:
				panic("x")
			case 3:
				return env.db.GroupTx(ctx, "test.inner", insertEvent)
			}
			return nil
		})
	}
	for i, err := range env.together(all...) {
		var want bool
		switch i % 5 {
		case 1:
			want = errors.Is(err, errRefused)
		case 2:
			want = err != nil && err.Error() == "panic: x"
		case 3:
			want = errors.Is(err, database.ErrNested)
		default:
			want = err == nil
		}
		if !want {
			t.Errorf("transaction %d: %v", i, err)
		}
	}
	if got := env.count(); got != 2*n/5 || len(hooks) != 2*n/5 {
		t.Errorf("%d rows and %d hooks of %d transactions that succeed", got, len(hooks), 2*n/5)
	}
}

// TestGroupedTransactionsWriteAPageOnce: that is what the group is for.
func TestGroupedTransactionsWriteAPageOnce(t *testing.T) {
	env := newGroupTest(t)
	before := env.walSize()
	env.transaction(insertEvent)
	one := env.walSize() - before
	var all []func(context.Context, *database.Tx) error
	for range 20 {
		all = append(all, insertEvent)
	}
	before = env.walSize()
	if err := errors.Join(env.together(all...)...); err != nil {
		t.Fatal(err)
	}
	if got := env.walSize() - before; got > 5*one {
		t.Errorf("20 transactions add %d bytes to the log, one alone %d", got, one)
	}
	if got := env.count(); got != 21 {
		t.Errorf("%d rows", got)
	}
}

// TestGroupFailsWithItsTransaction: after some errors SQLite rolls back all that was not
// committed. No transaction that was part of it succeeds, and the others do not notice.
func TestGroupFailsWithItsTransaction(t *testing.T) {
	for name, ignored := range map[string]bool{"the error is returned": false, "the error is ignored": true} {
		t.Run(name, func(t *testing.T) {
			env := newGroupTest(t)
			hooks := 0
			ok := func(ctx context.Context, tx *database.Tx) error {
				tx.AfterCommit(func() { hooks++ })
				return insertEvent(ctx, tx)
			}
			errs := env.together(ok, ok, func(ctx context.Context, tx *database.Tx) error {
				_, err := tx.ExecContext(ctx, `INSERT OR ROLLBACK INTO installation (id, created_at) VALUES ($1, 1)`, env.db.Installation())
				if ignored {
					return nil
				}
				return err
			}, ok)
			for i, err := range errs {
				if (err != nil) != (i < 3) {
					t.Errorf("transaction %d: %v", i, err)
				}
			}
			if got := env.count(); got != 1 || hooks != 1 {
				t.Errorf("%d rows, %d hooks", got, hooks)
			}
			env.transaction(insertEvent)
		})
	}
}

func TestGroupedTransactionWhoseContextEnds(t *testing.T) {
	env := newGroupTest(t)
	waiting, cancel := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	env.transaction(func(context.Context, *database.Tx) error {
		ended.Go(func() {
			if err := env.db.GroupTx(context.Background(), "test", insertEvent); err != nil {
				t.Error(err)
			}
		})
		env.await(0)
		ended.Go(func() {
			if err := env.db.GroupTx(waiting, "test", insertEvent); !errors.Is(err, context.Canceled) {
				t.Errorf("its context ends while it waits: %v", err)
			}
		})
		env.await(1)
		cancel()
		env.await(0) // it does not wait for the write lock
		return nil
	})
	ended.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	var err error
	errs := env.together(insertEvent, insertEvent, func(context.Context, *database.Tx) error {
		ended.Go(func() { // it begins in the group of the others
			err = env.db.GroupTx(ctx, "test", func(ctx context.Context, tx *database.Tx) error {
				defer cancel()
				return insertEvent(ctx, tx)
			})
		})
		env.await(1)
		return nil
	})
	ended.Wait()
	if !errors.Is(err, context.Canceled) || errors.Join(errs...) != nil {
		t.Errorf("its context ends while it runs: %v, the others: %v", err, errs)
	}
	if got := env.count(); got != 3 {
		t.Errorf("%d rows", got)
	}
}

func TestGroupTxFailsOnceTheDatabaseIsClosed(t *testing.T) {
	env := newGroupTest(t)
	if err := env.db.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := env.db.GroupTx(t.Context(), "test", insertEvent); err == nil {
			t.Error("a transaction of a closed database succeeds")
		}
	}
}
