package database_test

import (
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
)

// TestIsolationIsDecidedOnce: what the first server stores stays, whatever a later one
// wants.
func TestIsolationIsDecidedOnce(t *testing.T) {
	for _, first := range []database.Isolation{database.Isolated, database.Development} {
		db := databasetest.New(t)
		for _, wanted := range []database.Isolation{first, database.Development, database.Isolated} {
			if got, err := db.DecideIsolation(t.Context(), wanted); err != nil || got != first {
				t.Errorf("%s first, then %s: %s, %v", first, wanted, got, err)
			}
		}
	}
}
