// Package databasetest provides tests with a real, empty, migrated database.
package databasetest

import (
	"path/filepath"
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
	if _, err := database.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	db, err := database.Open(t.Context(), database.Settings{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	return db
}
