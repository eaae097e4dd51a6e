package api_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
)

// An installation that was restored can be read, and keys of it revoked. Nothing else is
// changed until it is activated.
func TestQuietInstallationIsReadOnly(t *testing.T) {
	path, secrets := filepath.Join(t.TempDir(), "agento.db"), apitest.NewVault(t)
	db := databasetest.Open(t, path)
	env := newEnv(t, options{DB: db, Vault: secrets})
	mine := env.newFixture("mine")
	env.Close()
	inTx(t, db, func(ctx context.Context, tx *database.Tx) error {
		_, err := database.MakeRestored(ctx, tx, time.Now())
		return err
	})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = databasetest.Open(t, path)
	t.Cleanup(func() { _ = db.Close() })
	env = newEnv(t, options{DB: db, Vault: secrets})
	mine.env, mine.caller = env, &caller{env: env, account: mine.account, key: mine.caller.key}
	for _, row := range env.Server.Table() {
		switch {
		case row.Stream && row.Method == "GET":
		case row.Method == "GET":
			if a := mine.do(row.Method, mine.path(row), nil); a.status != 200 && a.status != 404 {
				t.Errorf("%s: %d %s", a.request, a.status, a.body)
			}
		case row.Path != "/v1/keys/{id}" || row.Method != "DELETE":
			a := mine.do(row.Method, mine.path(row), mine.body(row), "Idempotency-Key", "one").expectError(503, "unavailable")
			if !strings.Contains(a.field("error.message"), "until its operator activates it") {
				t.Errorf("%s: %s", a.request, a.body)
			}
		}
	}
	mine.do("DELETE", "/v1/keys/"+mine.key, nil).expect(200)
	mine.do("GET", "/v1/agents/"+mine.agent, nil).expect(200)
	inTx(t, db, func(ctx context.Context, tx *database.Tx) error {
		_, err := db.Activate(ctx, tx)
		return err
	})
	mine.do("PATCH", "/v1/agents/"+mine.agent, `{"name":"B"}`).expect(200)
}

func inTx(t *testing.T, db *database.DB, f func(context.Context, *database.Tx) error) {
	t.Helper()
	if err := db.Tx(t.Context(), "api.test", f); err != nil {
		t.Fatal(err)
	}
}
