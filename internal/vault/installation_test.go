package vault_test

import (
	"agento.host/agento/internal/identity"

	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/vault"
)

func newInstallation(db *database.DB, v *vault.Vault) *vault.Installation {
	return &vault.Installation{DB: db, Vault: v, Events: event.NewLog(db)}
}

func count(t *testing.T, db *database.DB, table string) int {
	t.Helper()
	n, err := database.One(t.Context(), db, database.Scalar[int], `SELECT count(*) FROM `+table)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestASecretOfTheInstallationIsSetReplacedAndDeleted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agento.db")
	var seen []*vault.Installation // two processes on one database
	for range 2 {
		db, err := database.Open(t.Context(), database.Settings{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		seen = append(seen, newInstallation(db, newVault(t)))
	}
	operator, server := seen[0], seen[1]

	for _, value := range []string{"", "the-first", "the-second"} {
		if value != "" {
			if err := operator.Set(t.Context(), vault.EmbedderAPIKey, vault.NewSecret(value), "operator"); err != nil {
				t.Fatal(err)
			}
		}
		got, err := server.Read(t.Context(), vault.EmbedderAPIKey)
		if err != nil || got.Reveal() != value {
			t.Fatalf("after %q: %v", value, err)
		}
		all, err := server.List(t.Context())
		if err != nil || len(all) != 1 || all[0].Name != vault.EmbedderAPIKey || all[0].SetAt.IsZero() != (value == "") {
			t.Fatalf("after %q: %+v, %v", value, all, err)
		}
	}
	for range 2 { // the second time there is nothing to delete
		if err := operator.Delete(t.Context(), vault.EmbedderAPIKey, "operator"); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := server.Read(t.Context(), vault.EmbedderAPIKey); err != nil || !got.Empty() {
		t.Fatal("a deleted secret is still there", err)
	}
	if n := count(t, server.DB, "data_keys"); n != 0 {
		t.Errorf("%d data keys are left", n)
	}
	told, err := server.Events.List(t.Context(), identity.AccountID(vault.InstallationAccount), event.Filter{Limit: 10})
	if err != nil || len(told) != 3 {
		t.Fatalf("the audit log is %+v, %v", told, err)
	}
	for i, want := range []string{"map[deleted:[EMBEDDER_API_KEY]]", "map[set:[EMBEDDER_API_KEY]]", "map[set:[EMBEDDER_API_KEY]]"} {
		if e := told[i]; fmt.Sprint(e.Data) != want || e.Actor.String() != "operator" || e.Kind != "installation.secrets_updated" {
			t.Errorf("the audit log has %+v, want %s", e, want)
		}
	}
}

func TestTheInstallationRefusesWhatItCannotUse(t *testing.T) {
	in := newInstallation(databasetest.New(t), newVault(t))
	for name, c := range map[string]struct{ name, value, says string }{
		"unknown name": {"sk-hidden", "x", "EMBEDDER_API_KEY"},
		"empty":        {vault.EmbedderAPIKey, "", "empty"},
		"too long":     {vault.EmbedderAPIKey, strings.Repeat("x", vault.MaxInstallationSecret+1), "longer than"},
		"two lines":    {vault.EmbedderAPIKey, "sk-hidden\nx", "one line"},
		"not ASCII":    {vault.EmbedderAPIKey, "sk-hidden-é", "ASCII"},
	} {
		t.Run(name, func(t *testing.T) {
			err := in.Set(t.Context(), c.name, vault.NewSecret(c.value), "operator")
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.says) {
				t.Fatal(err)
			}
			if strings.Contains(err.Error(), "sk-hidden") {
				t.Errorf("the error repeats it: %v", err)
			}
		})
	}
	if err := in.Delete(t.Context(), "sk-hidden", "operator"); !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), "sk-hidden") {
		t.Error(err)
	}
	if n := count(t, in.DB, "secrets") + count(t, in.DB, "data_keys") + count(t, in.DB, "events"); n != 0 {
		t.Errorf("refusals left %d rows", n)
	}
}

func TestNoAccountReachesTheInstallation(t *testing.T) {
	db, v := databasetest.New(t), newVault(t)
	in := newInstallation(db, v)
	if err := in.Set(t.Context(), vault.EmbedderAPIKey, vault.NewSecret("x"), "operator"); err != nil {
		t.Fatal(err)
	}
	for _, account := range []string{vault.InstallationAccount, "a", vault.InstallationOwner} {
		names, err := v.Names(t.Context(), db, account, vault.InstallationOwner)
		if len(names) != 0 || (err == nil) != (account != "") {
			t.Errorf("account %q lists %v, %v", account, names, err)
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
			return v.Put(t.Context(), tx, vault.InstallationAccount, vault.InstallationOwner, map[string]vault.Secret{vault.EmbedderAPIKey: vault.NewSecret("y")})
		},
		"delete": func(tx *database.Tx) error {
			return v.Delete(t.Context(), tx, vault.InstallationAccount, vault.InstallationOwner, vault.EmbedderAPIKey)
		},
		"shred": func(tx *database.Tx) error {
			return v.Shred(t.Context(), tx, vault.InstallationAccount, vault.InstallationOwner)
		},
	} {
		if err := db.Tx(t.Context(), change); err == nil {
			t.Errorf("%s without an account works", what)
		}
	}
	if got, err := in.Read(t.Context(), vault.EmbedderAPIKey); err != nil || got.Reveal() != "x" {
		t.Error("the secret was changed", err)
	}
}

func TestTheInstallationHasTheMasterKeyOfItsDatabase(t *testing.T) {
	db := databasetest.New(t)
	put(t, newVault(t), db, "a", "1", "token", "x")
	stranger, err := vault.New(bytes.Repeat([]byte{8}, 32))
	if err != nil {
		t.Fatal(err)
	}
	err = newInstallation(db, stranger).Set(t.Context(), vault.EmbedderAPIKey, vault.NewSecret("x"), "operator")
	if err == nil || !strings.Contains(err.Error(), "master key") {
		t.Fatal(err)
	}
	if n := count(t, db, "data_keys"); n != 1 {
		t.Errorf("%d data keys", n)
	}
}
