// Package databasetest provides tests with a real, empty, migrated database.
package databasetest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"agento.host/agento/internal/database"
)

// fileName is the name of the database in its directory, as a server has it.
const fileName = "agento.db"

// New opens a new database, and closes it at the end of the test.
func New(t testing.TB) *database.DB {
	t.Helper()
	db := Open(t, filepath.Join(t.TempDir(), fileName))
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// Open opens a database file, and creates it if it is missing. The caller closes the
// database.
func Open(t testing.TB, path string) *database.DB {
	t.Helper()
	err := create(t.Context(), path)
	if errors.Is(err, fs.ErrExist) {
		_, err = database.Migrate(t.Context(), path)
	}
	if err != nil {
		t.Fatal(err)
	}
	db, err := database.Open(t.Context(), database.Settings{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// template is the file of a new database. The migrations take half of the time of a test that
// needs nothing else, so they run once in a process.
var template = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "agento-database-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, fileName)
	if _, err := database.Migrate(context.Background(), path); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// create makes a new database of an installation of its own, as Migrate does. The error is
// fs.ErrExist if the file exists.
func create(ctx context.Context, path string) (err error) {
	content, err := template()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, `UPDATE installation SET id = $1`, "inst_"+strings.ToLower(rand.Text()))
	return errors.Join(err, db.Close())
}
