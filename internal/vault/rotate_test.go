package vault_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// rotating is a database with secrets, and the file of its master key.
type rotating struct {
	t      *testing.T
	db     *database.DB
	source vault.KeySource
	first  string // fingerprint of the first key
	token  string
}

func newRotating(t *testing.T) *rotating {
	t.Helper()
	r := &rotating{t: t, db: databasetest.New(t), source: vault.KeySource{File: filepath.Join(t.TempDir(), "master.key")}}
	v := r.open()
	r.first = v.Fingerprint()
	put(t, v, r.db, "a", "1", "token", "kept")
	put(t, v, r.db, "b", "2", "token", "kept too")
	token, err := v.Token(t.Context(), r.db, "a", "1", "x")
	if err != nil {
		t.Fatal(err)
	}
	r.token = token.Reveal()
	return r
}

func (r *rotating) open() *vault.Vault {
	r.t.Helper()
	v, err := vault.Open(r.t.Context(), r.db, r.source)
	if err != nil {
		r.t.Fatal(err)
	}
	return v
}

func (r *rotating) rotate(rot vault.Rotation) (vault.Rotated, error) {
	rot.Source = r.source
	return rot.Rotate(r.t.Context(), r.db, event.NewLog(r.db))
}

// check checks that everything can be read with the key that the data want, and that
// nothing of a rotation is left beside it.
func (r *rotating) check() (fingerprint string) {
	r.t.Helper()
	v := r.open()
	for owner, want := range map[vault.OwnerID]string{"1": "kept", "2": "kept too"} {
		account := map[vault.OwnerID]identity.AccountID{"1": "a", "2": "b"}[owner]
		if got, err := v.Read(r.t.Context(), r.db, account, owner); err != nil || got["token"].Reveal() != want {
			r.t.Errorf("%s: %v", owner, err)
		}
	}
	if token, err := v.Token(r.t.Context(), r.db, "a", "1", "x"); err != nil || token.Reveal() != r.token {
		r.t.Errorf("a token has changed: %v", err)
	}
	if info, err := os.Stat(r.source.File); err != nil || info.Mode().Perm() != 0o600 {
		r.t.Errorf("the file of the key: %v, %v", info, err)
	}
	return v.Fingerprint()
}

func TestRotateReplacesTheMasterKey(t *testing.T) {
	r := newRotating(t)
	former, err := os.ReadFile(r.source.File)
	if err != nil {
		t.Fatal(err)
	}
	tx(t, r.db, func(tx *database.Tx) error { // the key of another owner is damaged
		_, err := tx.ExecContext(t.Context(), `INSERT INTO data_keys (account_id, owner_id, master_id, sealed, created_at) VALUES ('c', '3', $1, x'00', 1)`, r.first)
		return err
	})
	kept := filepath.Join(t.TempDir(), "former.key")
	done, err := r.rotate(vault.Rotation{Former: kept})
	if err != nil || done.Former != r.first || done.Keys != 2 || done.Damaged != 1 || !done.InFile {
		t.Fatalf("%+v, %v", done, err)
	}
	if got := r.check(); got != done.Current || got == r.first {
		t.Errorf("the key is %s", got)
	}
	if data, err := os.ReadFile(kept); err != nil || string(data) != string(former) {
		t.Errorf("the former key: %v", err)
	}
	if _, err := os.Stat(r.source.File + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a second key is left: %v", err)
	}
	if _, err := vault.Open(t.Context(), r.db, vault.KeySource{File: kept}); err == nil {
		t.Error("the former key still opens the database")
	}
	if _, err := r.rotate(vault.Rotation{Former: kept}); err == nil {
		t.Error("a file that exists was replaced by the former key")
	}
	if again, err := r.rotate(vault.Rotation{}); err != nil || again.Former != done.Current {
		t.Errorf("again: %+v, %v", again, err)
	}
	r.check()
}

// Whatever step of a rotation is the last, the installation can be used, with one of the
// two keys.
func TestRotationCrashesAtEachStep(t *testing.T) {
	crash := errors.New("crash")
	for step, isNew := range map[string]bool{"written": false, "sealed": false, "committed": true} {
		t.Run(step, func(t *testing.T) {
			r := newRotating(t)
			reached := 0
			_, err := r.rotate(vault.Rotation{}.At(func(s string) error {
				if s == step {
					reached++
					return crash
				}
				return nil
			}))
			if !errors.Is(err, crash) || reached != 1 {
				t.Fatalf("%v, reached %d times", err, reached)
			}
			if v, err := r.source.Existing(t.Context(), r.db); err != nil || (v.Fingerprint() != r.first) != isNew {
				t.Errorf("a reader: %v", err)
			}
			if got := r.check(); (got != r.first) != isNew {
				t.Errorf("the key is %s, the first was %s", got, r.first)
			}
			if done, err := r.rotate(vault.Rotation{}); err != nil || done.Keys != 2 {
				t.Errorf("the next rotation: %+v, %v", done, err)
			}
			r.check()
		})
	}
	t.Run("with a part of the new key", func(t *testing.T) {
		r := newRotating(t)
		if err := os.WriteFile(r.source.File+".new", []byte("0123"), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := r.check(); got != r.first {
			t.Errorf("the key is %s", got)
		}
		if _, err := r.rotate(vault.Rotation{}); err != nil {
			t.Error(err)
		}
		r.check()
	})
}

// A key that was given cannot be replaced where it comes from.
func TestRotateOfAGivenKey(t *testing.T) {
	db, file := databasetest.New(t), filepath.Join(t.TempDir(), "master.key")
	source := vault.KeySource{File: file, Given: vault.NewSecret(keyText(7))}
	v, err := vault.Open(t.Context(), db, source)
	if err != nil {
		t.Fatal(err)
	}
	put(t, v, db, "a", "1", "token", "x")
	rotate := func(next string) (vault.Rotated, error) {
		return vault.Rotation{Source: source, Next: vault.NewSecret(next)}.Rotate(t.Context(), db, event.NewLog(db))
	}
	if _, err := rotate(""); err == nil || !strings.Contains(err.Error(), "AGENTO_NEW_MASTER_KEY") {
		t.Errorf("without a new one: %v", err)
	}
	if _, err := rotate(keyText(7)); err == nil {
		t.Error("the same key was accepted")
	}
	if done, err := rotate(keyText(8)); err != nil || done.InFile || done.Current != fingerprint(t, 8) {
		t.Errorf("%+v, %v", done, err)
	}
	next, err := vault.Open(t.Context(), db, vault.KeySource{File: file, Given: vault.NewSecret(keyText(8))})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := next.Read(t.Context(), db, "a", "1"); err != nil || got["token"].Reveal() != "x" {
		t.Error(err)
	}
	if found, err := os.ReadDir(filepath.Dir(file)); err != nil || len(found) != 0 {
		t.Errorf("files were written: %v, %v", found, err)
	}
}
