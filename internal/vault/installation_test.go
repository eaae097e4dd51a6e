package vault_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

// operator is the actor of these tests.
var operator = identity.ByOperator("")

func newInstallation(db *database.DB, v *vault.Vault) *vault.Installation {
	return vault.NewInstallation(db, v, event.NewLog(db))
}

func count(t *testing.T, db *database.DB, table string) int {
	t.Helper()
	n, err := database.One(t.Context(), db, database.Scalar[int], `SELECT count(*) FROM `+table)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestInstallationSecretIsSetReplacedAndDeleted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agento.db")
	var dbs []*database.DB // two processes on one database
	for range 2 {
		db := databasetest.Open(t, path)
		defer func() { _ = db.Close() }()
		dbs = append(dbs, db)
	}
	command, server := newInstallation(dbs[0], newVault(t)), newInstallation(dbs[1], newVault(t))

	for _, value := range []string{"", "the-first", "the-second"} {
		if value != "" {
			// The event has no account even if the actor has one.
			if err := command.Set(t.Context(), identity.ByOperator("a"), vault.EmbedderAPIKey, vault.NewSecret(value)); err != nil {
				t.Fatal(err)
			}
		}
		got, err := server.Read(t.Context(), vault.EmbedderAPIKey)
		if err != nil || got.Reveal() != value {
			t.Fatalf("after %q: %v", value, err)
		}
		all, err := server.List(t.Context())
		if err != nil || len(all) != 3 || all[0].Name != vault.EmbedderAPIKey || all[0].SetAt.IsZero() != (value == "") {
			t.Fatalf("after %q: %+v, %v", value, all, err)
		}
	}
	for range 2 { // the second time there is nothing to delete
		if err := command.Delete(t.Context(), operator, vault.EmbedderAPIKey); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := server.Read(t.Context(), vault.EmbedderAPIKey); err != nil || !got.Empty() {
		t.Fatal("a deleted secret is still there", err)
	}
	if n := count(t, dbs[1], "data_keys"); n != 0 {
		t.Errorf("%d data keys are left", n)
	}
	events, err := event.NewLog(dbs[1]).List(t.Context(), vault.InstallationAccount, event.Filter{Limit: 10})
	if err != nil || len(events) != 3 {
		t.Fatalf("the audit log is %+v, %v", events, err)
	}
	for i, want := range []string{"map[deleted:[EMBEDDER_API_KEY]]", "map[set:[EMBEDDER_API_KEY]]", "map[set:[EMBEDDER_API_KEY]]"} {
		if e := events[i]; fmt.Sprint(e.Data) != want || e.Actor != operator || e.Kind != "installation.secrets_updated" {
			t.Errorf("the audit log has %+v, want %s", e, want)
		}
	}
}

func TestInstallationRefusesInvalidSecrets(t *testing.T) {
	db := databasetest.New(t)
	in := newInstallation(db, newVault(t))
	for name, c := range map[string]struct {
		name        provider.SecretName
		value, want string
	}{
		"unknown name": {"sk-hidden", "x", "EMBEDDER_API_KEY"},
		"empty":        {vault.EmbedderAPIKey, "", "empty"},
		"too long":     {vault.EmbedderAPIKey, strings.Repeat("x", vault.MaxInstallationSecret+1), "longer than"},
		"two lines":    {vault.EmbedderAPIKey, "sk-hidden\nx", "character 10"},
		"not ASCII":    {vault.EmbedderAPIKey, "sk-hidden-é", "character 11"},
	} {
		t.Run(name, func(t *testing.T) {
			err := in.Set(t.Context(), operator, c.name, vault.NewSecret(c.value))
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.want) {
				t.Fatal(err)
			}
			if strings.Contains(err.Error(), "sk-hidden") {
				t.Errorf("the error repeats it: %v", err)
			}
		})
	}
	if err := in.Delete(t.Context(), operator, "sk-hidden"); !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), "sk-hidden") {
		t.Error(err)
	}
	if n := count(t, db, "secrets") + count(t, db, "data_keys") + count(t, db, "events"); n != 0 {
		t.Errorf("refused calls wrote %d rows", n)
	}
}

func TestNoAccountCanUseInstallationSecrets(t *testing.T) {
	db, v := databasetest.New(t), newVault(t)
	in := newInstallation(db, v)
	if err := in.Set(t.Context(), operator, vault.EmbedderAPIKey, vault.NewSecret("x")); err != nil {
		t.Fatal(err)
	}
	for _, account := range []identity.AccountID{vault.InstallationAccount, "a", identity.AccountID(vault.InstallationOwner)} {
		origins, err := v.Origins(t.Context(), db, account, vault.InstallationOwner)
		if len(origins[vault.InstallationOwner]) != 0 || (err == nil) != (account != "") {
			t.Errorf("account %q lists %v, %v", account, origins, err)
		}
		secrets, err := v.Read(t.Context(), db, account, vault.InstallationOwner)
		if len(secrets) != 0 || (err == nil) != (account != "") {
			t.Errorf("account %q reads %v, %v", account, secrets, err)
		}
		if token, err := v.Token(t.Context(), db, account, vault.InstallationOwner, "x"); err == nil || !token.Empty() {
			t.Errorf("account %q has a token", account)
		}
	}
	for what, change := range map[string]func(*database.Tx) error{
		"put": func(tx *database.Tx) error {
			return v.Put(t.Context(), tx, vault.InstallationAccount, vault.InstallationOwner, map[provider.SecretName]vault.Secret{vault.EmbedderAPIKey: vault.NewSecret("y")})
		},
		"delete": func(tx *database.Tx) error {
			return v.Delete(t.Context(), tx, vault.InstallationAccount, vault.InstallationOwner, vault.EmbedderAPIKey)
		},
		"shred": func(tx *database.Tx) error {
			return v.Shred(t.Context(), tx, vault.InstallationAccount, vault.InstallationOwner)
		},
	} {
		if err := db.Tx(t.Context(), "vault.test", func(_ context.Context, tx *database.Tx) error { return change(tx) }); err == nil {
			t.Errorf("%s without an account succeeds", what)
		}
	}
	if got, err := in.Read(t.Context(), vault.EmbedderAPIKey); err != nil || got.Reveal() != "x" {
		t.Error("the secret was changed", err)
	}
}
