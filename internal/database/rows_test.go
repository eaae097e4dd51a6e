package database_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/logtest"
)

type account struct {
	id, name string
	created  int64
}

func scanAccount(r database.Row) (account, error) {
	var a account
	err := r.Scan(&a.id, &a.name, &a.created)
	if a.name == "unknown" {
		err = errors.Join(err, &database.ColumnError{Column: "name", Err: errors.New("is no name")})
	}
	return a, err
}

const accounts = `SELECT id, name, created_at FROM accounts ORDER BY id`

// newDamaged returns a database whose accounts b and c cannot be decoded wholly.
func newDamaged(t *testing.T, log *slog.Logger) *database.DB {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agento.db")
	if _, err := database.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	db, err := database.Open(t.Context(), database.Settings{Path: path, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	err = db.Tx(t.Context(), "database.test", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO accounts (id, name, plan_id, created_at) VALUES
			('a', 'first', '', 1), ('b', 'second', '', 'the-value'), ('c', 'unknown', '', 3), ('d', 'last', '', 4)`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func TestAllReadableReturnsTheOtherRowsAndColumns(t *testing.T) {
	log := &logtest.Buffer{}
	db := newDamaged(t, slog.New(slog.NewTextHandler(log, nil)))
	problems := map[string]string{}
	damaged := func(a *account, err error) (string, bool) {
		problems[a.id] = database.DescribeDamage(err)
		return "account " + a.id, a.id != "c"
	}
	for range 3 {
		all, err := database.AllReadable(t.Context(), db, scanAccount, damaged, accounts)
		if err != nil || fmt.Sprint(all) != "[{a first 1} {b second 0} {d last 4}]" {
			t.Fatal(all, err)
		}
	}
	err := db.Tx(t.Context(), "database.test", func(ctx context.Context, tx *database.Tx) error {
		_, err := database.AllReadable(ctx, tx, scanAccount, damaged, accounts)
		return err
	})
	if err != nil || fmt.Sprint(problems) != "map[b:created_at cannot be decoded c:name cannot be decoded]" {
		t.Error(problems, err)
	}
	text := log.String()
	for _, want := range []string{`row="account b"`, `row="account c"`, "created_at cannot be decoded", "the-value", "is no name"} {
		if n := strings.Count(text, want); n != 1 {
			t.Errorf("%q is logged %d times:\n%s", want, n, text)
		}
	}
}

func TestOneReadable(t *testing.T) {
	db := newDamaged(t, nil)
	damaged := func(a *account, _ error) (string, bool) { return a.id, a.id != "c" }
	one := func(id string) (account, error) {
		return database.OneReadable(t.Context(), db, scanAccount, damaged, `SELECT id, name, created_at FROM accounts WHERE id = $1`, id)
	}
	for id, want := range map[string]string{"a": "{a first 1}", "b": "{b second 0}"} {
		if got, err := one(id); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: %v, %v", id, got, err)
		}
	}
	for _, id := range []string{"c", "none"} {
		if _, err := one(id); !errors.Is(err, sql.ErrNoRows) {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// An error that is not about a value of the row fails the query.
func TestReadableReturnsOtherErrors(t *testing.T) {
	db := newDamaged(t, nil)
	damaged := func(*account, error) (string, bool) { return "", true }
	broken := errors.New("broken")
	scan := func(database.Row) (account, error) { return account{}, broken }
	if _, err := database.AllReadable(t.Context(), db, scan, damaged, accounts); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := database.AllReadable(t.Context(), db, scanAccount, damaged, `SELECT id FROM accounts`); err == nil {
		t.Error("a row of one column was scanned into three values")
	}
	if _, err := database.AllReadable(t.Context(), db, scanAccount, damaged, `SELECT nothing`); err == nil {
		t.Error("an invalid query succeeds")
	}
}

// View makes no file, and sees what a killed process has written.
func TestViewChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agento.db")
	view := func() (n int, err error) {
		err = database.View(path, func(q database.Reader) error {
			n, err = database.One(t.Context(), q, database.Scalar[int], `SELECT count(*) FROM accounts`)
			return err
		})
		return n, err
	}
	if _, err := view(); err == nil {
		t.Fatal("a database that is missing is viewed")
	}
	db := databasetest.Open(t, path)
	err := db.Tx(t.Context(), "database.test", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO accounts (id, name, plan_id, created_at) VALUES ('a', 'first', '', 1)`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := view(); err != nil || n != 1 { // the row is in the WAL
		t.Error(n, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := view(); err != nil || n != 1 {
		t.Error(n, err)
	}
	if files, err := filepath.Glob(path + "*"); err != nil || len(files) != 1 {
		t.Errorf("the directory has %v, %v", files, err)
	}
}
