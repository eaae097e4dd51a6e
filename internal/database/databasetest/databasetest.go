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
	db, err := database.Open(t.Context(), database.Settings{Path: filepath.Join(t.TempDir(), fileName)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}
