package vault_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

func newVault(t *testing.T) *vault.Vault {
	t.Helper()
	v, err := vault.New(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func tx(t *testing.T, db *database.DB, f func(*database.Tx) error) {
	t.Helper()
	if err := db.Tx(t.Context(), "vault.test", func(_ context.Context, tx *database.Tx) error { return f(tx) }); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, v *vault.Vault, db *database.DB, account identity.AccountID, owner vault.OwnerID, name provider.SecretName, value string) {
	t.Helper()
	tx(t, db, func(tx *database.Tx) error {
		return v.Put(t.Context(), tx, account, owner, map[provider.SecretName]vault.Secret{name: vault.NewSecret(value)})
	})
}

func TestReadReturnsTheSecretsOfItsOwnerOnly(t *testing.T) {
	v, db := newVault(t), databasetest.New(t)
	put(t, v, db, "a", "1", "token", "old")
	put(t, v, db, "a", "1", "token", "new")
	put(t, v, db, "a", "2", "other", "else")
	got, err := v.Read(t.Context(), db, "a", "1")
	if err != nil || len(got) != 1 || got["token"].Reveal() != "new" {
		t.Fatalf("%d secrets, %v", len(got), err)
	}
	if got, err := v.Read(t.Context(), db, "b", "1"); err != nil || len(got) != 0 {
		t.Fatalf("another account reads %d secrets, %v", len(got), err)
	}
}

func TestSecretCopiedToAnotherOwnerCannotBeOpened(t *testing.T) {
	v, db := newVault(t), databasetest.New(t)
	put(t, v, db, "a", "1", "token", "mine")
	tx(t, db, func(tx *database.Tx) error {
		for _, move := range []string{
			`INSERT INTO data_keys SELECT 'b', '9', master_id, sealed, created_at, revision, 0, 0, 0, 0 FROM data_keys`,
			`INSERT INTO secrets (account_id, owner_id, name, sealed, updated_at, origin) SELECT 'b', '9', name, sealed, updated_at, origin FROM secrets`,
		} {
			if _, err := tx.ExecContext(t.Context(), move); err != nil {
				return err
			}
		}
		return nil
	})
	if _, err := v.Read(t.Context(), db, "b", "9"); err == nil {
		t.Fatal("a copied row was opened")
	}
}

func TestSecretsAreEncryptedOnDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agento.db")
	db := databasetest.Open(t, path)
	defer func() { _ = db.Close() }()
	put(t, newVault(t), db, "a", "1", "token", "plain-as-day")
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(content, []byte("plain-as-day")) {
			t.Errorf("%s contains the secret", f)
		}
	}
}

func TestShredInvalidatesSecretsAndTokens(t *testing.T) {
	v, db := newVault(t), databasetest.New(t)
	put(t, v, db, "a", "1", "token", "x")
	token, err := v.Token(t.Context(), db, "a", "1", "gateway")
	if err != nil || len(token.Reveal()) != 64 {
		t.Fatal(err)
	}
	other, err := v.Token(t.Context(), db, "a", "1", "model")
	if err != nil || other == token {
		t.Fatal("two purposes share a token", err)
	}
	tx(t, db, func(tx *database.Tx) error { return v.Shred(t.Context(), tx, "a", "1") })
	if _, err := v.Token(t.Context(), db, "a", "1", "gateway"); !errors.Is(err, vault.ErrNoKey) {
		t.Fatal(err)
	}
	put(t, v, db, "a", "1", "token", "x")
	if again, _ := v.Token(t.Context(), db, "a", "1", "gateway"); again == token {
		t.Fatal("the token is the same after a shred")
	}
}

func TestReadWithAnotherMasterKeyNamesIt(t *testing.T) {
	db := databasetest.New(t)
	put(t, newVault(t), db, "a", "1", "token", "x")
	other, err := vault.New(bytes.Repeat([]byte{8}, 32))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Read(t.Context(), db, "a", "1"); err == nil || !strings.Contains(err.Error(), "master key") {
		t.Fatal(err)
	}
}

func TestDeleteRemovesSecrets(t *testing.T) {
	v, db := newVault(t), databasetest.New(t)
	put(t, v, db, "a", "1", "b", "x")
	put(t, v, db, "a", "1", "a", "x")
	tx(t, db, func(tx *database.Tx) error { return v.Delete(context.Background(), tx, "a", "1", "b", "none") })
	if left, err := v.Origins(t.Context(), db, "a", "1"); err != nil || fmt.Sprint(left) != "map[1:map[a:]]" {
		t.Fatal(left, err)
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	s := vault.NewSecret("visible")
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "s", s, "in", map[string]any{"s": s}, "p", &s)
	body, err := json.Marshal(map[string]any{"s": s, "l": []vault.Secret{s}})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		logged.String(), string(body), fmt.Sprintf("%v %+v %#v %s %q %x %d", s, s, s, s, s, s, s),
		fmt.Sprint(struct{ S vault.Secret }{s}), fmt.Errorf("e: %v", s).Error(),
	} {
		if strings.Contains(text, "visible") || strings.Contains(text, "76697369") || !strings.Contains(text, "[secret]") {
			t.Errorf("printed: %s", text)
		}
	}
}

// TestConcurrentPutsShareOneDataKey: with a key each, the first writer's secrets could
// not be decrypted any more.
func TestConcurrentPutsShareOneDataKey(t *testing.T) {
	v, db := newVault(t), databasetest.New(t)
	const writers = 20
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			name := provider.SecretName(fmt.Sprintf("SECRET_%d", i))
			err := db.Tx(t.Context(), "vault.test", func(ctx context.Context, tx *database.Tx) error {
				return v.Put(ctx, tx, "a", "1", map[provider.SecretName]vault.Secret{name: vault.NewSecret("value")})
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	secrets, err := v.Read(t.Context(), db, "a", "1")
	if err != nil || len(secrets) != writers {
		t.Errorf("%d secrets of %d can be read: %v", len(secrets), writers, err)
	}
}

func TestOriginIsStoredAndAuthenticatedWithASecret(t *testing.T) {
	v, db := newVault(t), databasetest.New(t)
	tx(t, db, func(tx *database.Tx) error {
		return v.Put(t.Context(), tx, "a", "1", map[provider.SecretName]vault.Secret{
			provider.OpenAIKey: vault.NewSecret("key").For("https://one.test"), "OTHER": vault.NewSecret("x"),
		})
	})
	got, err := v.Read(t.Context(), db, "a", "1")
	if err != nil || got[provider.OpenAIKey].Origin() != "https://one.test" || got["OTHER"].Origin() != "" {
		t.Fatal(got[provider.OpenAIKey].Origin(), err)
	}
	origins, err := v.Origins(t.Context(), db, "a", "1", "2")
	if err != nil || fmt.Sprint(origins) != "map[1:map[OTHER: openaiApiKey:https://one.test] 2:map[]]" {
		t.Error(origins, err)
	}
	for _, origin := range []string{"https://two.test", ""} {
		tx(t, db, func(tx *database.Tx) error {
			_, err := tx.ExecContext(t.Context(), `UPDATE secrets SET origin = $1 WHERE name = 'openaiApiKey'`, origin)
			return err
		})
		if _, err := v.Read(t.Context(), db, "a", "1"); err == nil {
			t.Errorf("a key whose origin was changed to %q in the database was opened", origin)
		}
	}
}

func TestListUnboundFindsKeysWithoutAnOrigin(t *testing.T) {
	v, db := newVault(t), databasetest.New(t)
	put(t, v, db, "a", "1", provider.GoogleKey, "old")
	put(t, v, db, "a", "2", "CRM_TOKEN", "no key")
	tx(t, db, func(tx *database.Tx) error {
		return v.Put(t.Context(), tx, "a", "3", map[provider.SecretName]vault.Secret{provider.OpenAIKey: vault.NewSecret("key").For("https://one.test")})
	})
	if found, err := v.ListUnbound(t.Context(), db); err != nil || fmt.Sprint(found) != "[{a 1}]" {
		t.Error(found, err)
	}
}
