package vault_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

func textKey(t *testing.T, v *vault.Vault, q database.Reader, account identity.AccountID, owner vault.OwnerID) vault.TextKey {
	t.Helper()
	key, err := v.TextKey(t.Context(), q, account, owner)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sealText(t *testing.T, key vault.TextKey, text string, place ...string) vault.Text {
	t.Helper()
	sealed, err := key.Seal(text, place...)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// stored returns a text as a column has it.
func stored(t *testing.T, text vault.Text) any {
	t.Helper()
	value, err := text.Value()
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestSealedTextOpensInItsPlaceOnly(t *testing.T) {
	db, v := databasetest.New(t), newVault(t)
	put(t, v, db, "a", "1", "token", "x")
	put(t, v, db, "a", "2", "token", "x")
	put(t, v, db, "b", "1", "token", "x")
	key := textKey(t, v, db, "a", "1")
	sealed := sealText(t, key, "Good morning", "message", "1")
	column, _ := stored(t, sealed).([]byte)
	if len(column) != len("Good morning")+vault.TextOverhead || column[0] != 1 || bytes.Contains(column, []byte("morning")) {
		t.Errorf("the column has %q", column)
	}
	var read vault.Text
	if err := read.Scan(column); err != nil {
		t.Fatal(err)
	}
	other := newVault(t) // after a restart
	for _, k := range []vault.TextKey{key, textKey(t, other, db, "a", "1")} {
		if text, err := k.Open(read, "message", "1"); err != nil || text != "Good morning" {
			t.Errorf("%q, %v", text, err)
		}
	}
	for name, open := range map[string]func() (string, error){
		"another row":     func() (string, error) { return key.Open(read, "message", "2") },
		"another column":  func() (string, error) { return key.Open(read, "context", "1") },
		"another agent":   func() (string, error) { return textKey(t, v, db, "a", "2").Open(read, "message", "1") },
		"another account": func() (string, error) { return textKey(t, v, db, "b", "1").Open(read, "message", "1") },
	} {
		if text, err := open(); err == nil || text != "" {
			t.Errorf("%s opens %q", name, text)
		}
	}
	for _, damaged := range [][]byte{nil, {}, {1}, {2, 3}, column[:len(column)-1], append([]byte{2}, column[1:]...), bytes.Repeat([]byte{1}, 100)} {
		var d vault.Text
		if err := d.Scan(damaged); err != nil {
			t.Fatal(err)
		}
		if text, err := key.Open(d, "message", "1"); err == nil {
			t.Errorf("%q opens as %q", damaged, text)
		}
	}
	if column := stored(t, sealText(t, key, "", "message", "1")); column != "" {
		t.Errorf("an empty text is stored as %q", column)
	}
}

// Texts that were stored before sealing was turned on or off stay readable.
func TestTextsAreReadWhateverTheSetting(t *testing.T) {
	db, sealing, leaving := databasetest.New(t), newVault(t), newVault(t)
	leaving.LeaveTextsPlain()
	put(t, sealing, db, "a", "1", "token", "x")
	plain := sealText(t, textKey(t, leaving, db, "a", "1"), "Hello", "place")
	if column := stored(t, plain); column != "Hello" {
		t.Errorf("with sealing off, the column has %q", column)
	}
	sealed := sealText(t, textKey(t, sealing, db, "a", "1"), "Hello", "place")
	for _, v := range []*vault.Vault{sealing, leaving} {
		for _, text := range []vault.Text{plain, sealed} {
			if got, err := textKey(t, v, db, "a", "1").Open(text, "place"); err != nil || got != "Hello" {
				t.Errorf("%q, %v", got, err)
			}
		}
	}
}

// A key that was used before ends with the data key: texts neither open nor are sealed.
// Plain ones still can be read.
func TestTextKeyEndsWithTheDataKey(t *testing.T) {
	db, v := databasetest.New(t), newVault(t)
	put(t, v, db, "a", "1", "token", "x")
	sealed := sealText(t, textKey(t, v, db, "a", "1"), "Hello", "place")
	tx(t, db, func(tx *database.Tx) error { return v.Shred(t.Context(), tx, "a", "1") })
	key := textKey(t, v, db, "a", "1")
	if text, err := key.Open(sealed, "place"); !errors.Is(err, vault.ErrNoKey) {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := key.Seal("Hello", "place"); !errors.Is(err, vault.ErrNoKey) {
		t.Error(err)
	}
	var plain vault.Text
	if err := plain.Scan("Hello"); err != nil {
		t.Fatal(err)
	}
	if text, err := key.Open(plain, "place"); err != nil || text != "Hello" {
		t.Errorf("%q, %v", text, err)
	}
	put(t, v, db, "a", "1", "token", "x") // a new data key
	if text, err := textKey(t, v, db, "a", "1").Open(sealed, "place"); err == nil {
		t.Errorf("another data key opens %q", text)
	}
}

func TestTextKeyOfADamagedDataKey(t *testing.T) {
	db, v := databasetest.New(t), newVault(t)
	put(t, v, db, "a", "1", "token", "x")
	sealed := sealText(t, textKey(t, v, db, "a", "1"), "Hello", "place")
	execute(t, db, `UPDATE data_keys SET sealed = x'00'`)
	var unreadable *vault.UnreadableError
	if _, err := textKey(t, newVault(t), db, "a", "1").Open(sealed, "place"); !errors.As(err, &unreadable) {
		t.Error(err)
	}
	put(t, v, db, "a", "1", "token", "y") // replaces the data key, which v has used before
	again := sealText(t, textKey(t, v, db, "a", "1"), "Hello", "place")
	if text, err := textKey(t, newVault(t), db, "a", "1").Open(again, "place"); err != nil || text != "Hello" {
		t.Errorf("what is sealed with the new data key: %q, %v", text, err)
	}
}

func TestKeptTextKeysAreBounded(t *testing.T) {
	db, v := databasetest.New(t), newVault(t)
	tx(t, db, func(tx *database.Tx) error {
		for i := range vault.MaxTextKeys + 100 {
			owner := vault.OwnerID(fmt.Sprint(i))
			if err := v.Put(t.Context(), tx, "a", owner, nil); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range vault.MaxTextKeys + 100 {
		textKey(t, v, db, "a", vault.OwnerID(fmt.Sprint(i)))
	}
	if n := v.KeptTextKeys(); n != vault.MaxTextKeys {
		t.Errorf("%d keys are kept", n)
	}
}
