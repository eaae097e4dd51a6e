package vault_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/vault"
)

// keyText returns a master key as files and flags have it.
func keyText(b byte) string { return hex.EncodeToString(bytes.Repeat([]byte{b}, 32)) }

// keyFile returns the path of a key file with this text; an empty text makes no file.
func keyFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "master.key")
	if text == "" {
		return path
	}
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func fingerprint(t *testing.T, b byte) string {
	t.Helper()
	v, err := vault.New(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return v.Fingerprint()
}

func execute(t *testing.T, db *database.DB, statement string) {
	t.Helper()
	tx(t, db, func(tx *database.Tx) error {
		_, err := tx.ExecContext(t.Context(), statement)
		return err
	})
}

func TestNewDatabaseGetsOnePrivateMasterKey(t *testing.T) {
	db, path := databasetest.New(t), keyFile(t, "")
	vaults := make([]*vault.Vault, 8)
	var all sync.WaitGroup
	for i := range vaults {
		all.Go(func() {
			v, err := vault.Open(t.Context(), db, vault.KeySource{File: path})
			if err != nil {
				t.Error(err)
			}
			vaults[i] = v
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	for _, v := range vaults {
		if v.Fingerprint() != vaults[0].Fingerprint() {
			t.Fatal("two processes that started at the same time have two keys")
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info, err)
	}
	if n := count(t, db, "master_key"); n != 1 {
		t.Errorf("%d check values", n)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := vault.Open(t.Context(), db, vault.KeySource{File: path}); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Fatal(err)
	}
}

// The file is written before the database knows the key. After a crash between the two,
// the file is used.
func TestMasterKeyOfAnInterruptedFirstStartIsUsed(t *testing.T) {
	db := databasetest.New(t)
	v, err := vault.Open(t.Context(), db, vault.KeySource{File: keyFile(t, keyText(7))})
	if err != nil || v.Fingerprint() != fingerprint(t, 7) || count(t, db, "master_key") != 1 {
		t.Fatal(err)
	}
}

// A database from before check values remembers the key that opens one of its data keys,
// also if others are damaged.
func TestDatabaseFromBeforeCheckValues(t *testing.T) {
	db := databasetest.New(t)
	put(t, newVault(t), db, "a", "1", "token", "x")
	put(t, newVault(t), db, "a", "2", "token", "x")
	execute(t, db, `UPDATE data_keys SET sealed = x'00' WHERE owner_id = '1'`)
	for _, key := range []string{"", keyText(8)} {
		path := keyFile(t, key)
		if _, err := vault.Open(t.Context(), db, vault.KeySource{File: path}); err == nil || !strings.Contains(err.Error(), fingerprint(t, 7)) {
			t.Errorf("key %.2s: %v", key, err)
		}
		if _, err := os.Stat(path); key == "" && err == nil {
			t.Error("a new key was made")
		}
	}
	if n := count(t, db, "master_key"); n != 0 {
		t.Fatal("a refused key was recorded")
	}
	if _, err := vault.Open(t.Context(), db, vault.KeySource{File: keyFile(t, keyText(7))}); err != nil {
		t.Fatal(err)
	}
	if n := count(t, db, "master_key"); n != 1 {
		t.Error("the key was not recorded")
	}
}

// A server that started with another key made data keys beside those of the first. Both
// keys fit; what the other one sealed is unreadable.
func TestDatabaseOfTwoMasterKeys(t *testing.T) {
	db := databasetest.New(t)
	other, err := vault.New(bytes.Repeat([]byte{8}, 32))
	if err != nil {
		t.Fatal(err)
	}
	put(t, newVault(t), db, "a", "1", "token", "x")
	put(t, other, db, "a", "2", "token", "y")
	_, err = vault.Open(t.Context(), db, vault.KeySource{File: keyFile(t, keyText(9))})
	for _, want := range []string{fingerprint(t, 7), fingerprint(t, 8)} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	v, err := vault.Open(t.Context(), db, vault.KeySource{File: keyFile(t, keyText(8))})
	if err != nil {
		t.Fatal(err)
	}
	owned, err := v.ReadMany(t.Context(), db, "a", "1", "2")
	if err != nil || owned["1"].Unreadable() == nil || !strings.Contains(owned["1"].Unreadable().Error(), fingerprint(t, 7)) || owned["2"].Secrets["token"].Reveal() != "y" {
		t.Error(owned["1"].Unreadable(), err)
	}
	if _, err := vault.Open(t.Context(), db, vault.KeySource{File: keyFile(t, keyText(7))}); err == nil {
		t.Error("the database takes both keys in turn")
	}
}

func TestOpenRefusesWhatIsNotTheMasterKeyOfTheData(t *testing.T) {
	db := databasetest.New(t)
	if _, err := vault.Open(t.Context(), db, vault.KeySource{File: keyFile(t, keyText(7))}); err != nil {
		t.Fatal(err)
	}
	wanted, other := fingerprint(t, 7), fingerprint(t, 8)
	for name, c := range map[string]struct {
		file, given string
		want        []string
	}{
		"missing":             {"", "", []string{"is missing", wanted, "master.key", "AGENTO_MASTER_KEY", "put the file back"}},
		"another in the file": {keyText(8), "", []string{wanted, "master.key has the one with fingerprint " + other}},
		"another in the flag": {"", keyText(8), []string{wanted, "put the right key into", "AGENTO_MASTER_KEY has the one with fingerprint " + other}},
		"file is wrong":       {keyText(8), keyText(7), []string{"two master keys", wanted, other, "remove the wrong one"}},
		"flag is wrong":       {keyText(7), keyText(8), []string{"two master keys", wanted, other, "remove the wrong one"}},
		"no key in the file":  {"nothing", keyText(7), []string{"master.key", "64 hex digits"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := keyFile(t, c.file)
			_, err := vault.Open(t.Context(), db, vault.KeySource{File: path, Given: vault.NewSecret(c.given)})
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want %q", err, want)
				}
			}
			if err != nil && (strings.Contains(err.Error(), keyText(7)) || strings.Contains(err.Error(), keyText(8))) {
				t.Errorf("the error has the key: %v", err)
			}
			if text, _ := os.ReadFile(path); strings.TrimSpace(string(text)) != c.file {
				t.Error("the file was changed")
			}
		})
	}
	for name, s := range map[string]vault.KeySource{
		"in the file": {File: keyFile(t, keyText(7))},
		"in the flag": {File: keyFile(t, ""), Given: vault.NewSecret(keyText(7))},
		"in both":     {File: keyFile(t, keyText(7)), Given: vault.NewSecret(keyText(7))},
	} {
		if v, err := vault.Open(t.Context(), db, s); err != nil || v.Fingerprint() != wanted {
			t.Errorf("the right key %s: %v", name, err)
		}
	}
}

// The fingerprint and a data key prove the key too, so that a damaged check value does
// not keep the server from starting.
func TestDamagedCheckValue(t *testing.T) {
	db, source := databasetest.New(t), vault.KeySource{File: keyFile(t, keyText(7))}
	v, err := vault.Open(t.Context(), db, source)
	if err != nil {
		t.Fatal(err)
	}
	execute(t, db, `UPDATE master_key SET sealed = x'00'`)
	if _, err := vault.Open(t.Context(), db, source); err == nil {
		t.Fatal("a key that nothing proves is taken")
	}
	put(t, v, db, "a", "1", "token", "x")
	if _, err := vault.Open(t.Context(), db, source); err != nil {
		t.Fatal(err)
	}
}

func TestCheckMasterKeySeesAReplacedDatabase(t *testing.T) {
	db, v := databasetest.New(t), newVault(t)
	if err := v.CheckMasterKey(t.Context(), db); err == nil || !strings.Contains(err.Error(), "replaced") {
		t.Error(err)
	}
	if _, err := vault.Open(t.Context(), db, vault.KeySource{File: keyFile(t, keyText(8))}); err != nil {
		t.Fatal(err)
	}
	if err := v.CheckMasterKey(t.Context(), db); err == nil || !strings.Contains(err.Error(), fingerprint(t, 8)) {
		t.Error(err)
	}
}
