package vault_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

const (
	damageSecret = `UPDATE secrets SET sealed = x'00' WHERE owner_id = '1' AND name = 'b'`
	damageKey    = `UPDATE data_keys SET sealed = x'00' WHERE owner_id = '1'`
)

// newOwners returns a database in which owner 1 has the secrets a, b and c, and owner 2
// has one.
func newOwners(t *testing.T, v *vault.Vault) *database.DB {
	t.Helper()
	db := databasetest.New(t)
	for _, name := range []provider.SecretName{"a", "b", "c"} {
		put(t, v, db, "acc", "1", name, "value of "+string(name))
	}
	put(t, v, db, "acc", "2", "a", "of another")
	return db
}

func readOwned(t *testing.T, v *vault.Vault, db *database.DB, owner vault.OwnerID) vault.Owned {
	t.Helper()
	all, err := v.ReadMany(t.Context(), db, "acc", "1", "2")
	if err != nil {
		t.Fatal(err)
	}
	return all[owner]
}

func tryPut(t *testing.T, v *vault.Vault, db *database.DB, names ...provider.SecretName) error {
	t.Helper()
	secrets := map[provider.SecretName]vault.Secret{}
	for _, n := range names {
		secrets[n] = vault.NewSecret("new")
	}
	return db.Tx(t.Context(), "vault.test", func(ctx context.Context, tx *database.Tx) error { return v.Put(ctx, tx, "acc", "1", secrets) })
}

func TestOneDamagedSecretIsNamedAndReplaced(t *testing.T) {
	v := newVault(t)
	db := newOwners(t, v)
	execute(t, db, damageSecret)
	o := readOwned(t, v, db, "1")
	if u := o.Unreadable(); u == nil || u.Key || fmt.Sprint(u.Names) != "[b]" {
		t.Fatalf("unreadable: %v", u)
	}
	if len(o.Secrets) != 2 || o.Secrets["c"].Reveal() != "value of c" {
		t.Errorf("%d secrets can be read", len(o.Secrets))
	}
	if _, err := o.Token("x"); err != nil {
		t.Error(err)
	}
	if u := readOwned(t, v, db, "2").Unreadable(); u != nil {
		t.Errorf("another owner: %v", u)
	}
	_, err := v.Read(t.Context(), db, "acc", "1")
	if unreadable := (*vault.UnreadableError)(nil); !errors.As(err, &unreadable) || strings.Contains(err.Error(), "value of") {
		t.Error(err)
	}
	if err := tryPut(t, v, db, "b"); err != nil {
		t.Fatal(err)
	}
	if o := readOwned(t, v, db, "1"); o.Unreadable() != nil || o.Secrets["b"].Reveal() != "new" || o.Secrets["a"].Reveal() != "value of a" {
		t.Errorf("after it is set again: %v", o.Unreadable())
	}
}

// A damaged data key is replaced only if nothing that it sealed is left.
func TestDamagedDataKeyIsReplacedWithAllOfItsSecrets(t *testing.T) {
	v := newVault(t)
	for name, damage := range map[string]string{"damaged": damageKey, "missing": `DELETE FROM data_keys WHERE owner_id = '1'`} {
		t.Run(name, func(t *testing.T) {
			db := newOwners(t, v)
			before, err := v.Revisions(t.Context(), db, "acc", "1")
			if err != nil {
				t.Fatal(err)
			}
			execute(t, db, damage)
			o := readOwned(t, v, db, "1")
			if u := o.Unreadable(); u == nil || !u.Key || fmt.Sprint(u.Names) != "[a b c]" || len(o.Secrets) != 0 {
				t.Fatalf("unreadable: %v", u)
			}
			if _, err := o.Token("x"); err == nil {
				t.Error("there is a token")
			}
			err = tryPut(t, v, db, "a", "b")
			if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "a, b, c") || !strings.Contains(err.Error(), "in one request") {
				t.Fatal(err)
			}
			if count(t, db, "data_keys") != map[string]int{"damaged": 2, "missing": 1}[name] {
				t.Error("the data key was changed")
			}
			tx(t, db, func(tx *database.Tx) error { return v.Delete(t.Context(), tx, "acc", "1", "c") })
			if err := tryPut(t, v, db, "a", "b", "d"); err != nil {
				t.Fatal(err)
			}
			if o := readOwned(t, v, db, "1"); o.Unreadable() != nil || len(o.Secrets) != 3 {
				t.Errorf("%d secrets, unreadable: %v", len(o.Secrets), o.Unreadable())
			}
			if after, err := v.Revisions(t.Context(), db, "acc", "1"); err != nil || name == "damaged" && after["1"] <= before["1"] {
				t.Errorf("revision %d after %d, %v", after["1"], before["1"], err)
			}
		})
	}
}

func TestDamagedDataKeyCanBeShredded(t *testing.T) {
	v := newVault(t)
	db := newOwners(t, v)
	execute(t, db, damageKey)
	tx(t, db, func(tx *database.Tx) error { return v.Shred(t.Context(), tx, "acc", "1") })
	if o := readOwned(t, v, db, "1"); o.Unreadable() != nil || count(t, db, "secrets") != 1 {
		t.Error(o.Unreadable())
	}
}

func TestDamagedInstallationSecretIsShown(t *testing.T) {
	db, v := databasetest.New(t), newVault(t)
	in := newInstallation(db, v)
	for _, damage := range []string{`UPDATE secrets SET sealed = x'00'`, `UPDATE data_keys SET sealed = x'00'`} {
		if err := in.Set(t.Context(), operator, vault.EmbedderAPIKey, vault.NewSecret("x")); err != nil {
			t.Fatal(err)
		}
		if all, err := in.List(t.Context()); err != nil || all[0].Unreadable {
			t.Fatal(all, err)
		}
		execute(t, db, damage)
		if all, err := in.List(t.Context()); err != nil || !all[0].Unreadable || all[0].SetAt.IsZero() {
			t.Error(all, err)
		}
		if _, err := in.Read(t.Context(), vault.EmbedderAPIKey); err == nil || !strings.Contains(err.Error(), "agento installation secrets set") {
			t.Error(err)
		}
	}
}

func TestKeyStateListsWhatCannotBeDecrypted(t *testing.T) {
	v := newVault(t)
	db := newOwners(t, v)
	execute(t, db, damageSecret)
	state, err := vault.KeySource{File: keyFile(t, keyText(7))}.Check(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	found, total, err := state.Unreadable(t.Context(), db)
	if err != nil || total != 6 || len(found) != 1 || !slices.ContainsFunc(found, func(f string) bool { return strings.HasPrefix(f, "1: secrets cannot be decrypted: b") }) {
		t.Error(found, total, err)
	}
}
