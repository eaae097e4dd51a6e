package vault_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/vault"
)

func reveal(secrets []vault.Secret) []string {
	all := make([]string, len(secrets))
	for i, s := range secrets {
		all[i] = s.Reveal()
	}
	return all
}

// Each generation of bearer tokens differs, and the others are valid for a while only if
// a gateway has them.
func TestTokensHaveGenerations(t *testing.T) {
	v, db := newVault(t), databasetest.New(t)
	put(t, v, db, "a", "1", "token", "x")
	raise := func(running bool) (generation int64, err error) {
		t.Helper()
		err = db.Tx(t.Context(), "vault.test", func(ctx context.Context, tx *database.Tx) (err error) {
			generation, err = v.RaiseTokens(ctx, tx, "a", "1", running)
			return err
		})
		return generation, err
	}
	tokens := func() (valid, held []string, newest string) {
		t.Helper()
		b, err := v.BearerTokens(t.Context(), db, "a", "1", "tools")
		h, heldErr := v.HeldTokens(t.Context(), db, "a", "1", "tools")
		all, ownedErr := v.ReadMany(t.Context(), db, "a", "1")
		n, tokenErr := all["1"].BearerToken("tools")
		if err := errors.Join(err, heldErr, ownedErr, tokenErr); err != nil {
			t.Fatal(err)
		}
		return reveal(b), reveal(h), n.Reveal()
	}
	endGrace := func() {
		tx(t, db, func(tx *database.Tx) error {
			_, err := tx.ExecContext(t.Context(), `UPDATE data_keys SET tokens_raised_at = tokens_raised_at - $1`, vault.TokenGrace.Milliseconds())
			return err
		})
	}
	fixed, err := v.Token(t.Context(), db, "a", "1", "tools")
	if err != nil {
		t.Fatal(err)
	}
	first, held, newest := tokens()
	if !slices.Equal(first, []string{newest}) || !slices.Equal(held, first) || newest != fixed.Reveal() {
		t.Errorf("before generations: %v, %v, %s", first, held, newest)
	}
	if n, err := raise(true); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	valid, held, second := tokens()
	if second == newest || !slices.Equal(valid, []string{second, newest}) || !slices.Equal(held, []string{newest, second}) {
		t.Errorf("with a gateway: %v, %v, %s", valid, held, second)
	}
	tx(t, db, func(tx *database.Tx) error { return v.ConfirmTokens(t.Context(), tx, "a", "1", 1) })
	if valid, held, _ = tokens(); !slices.Equal(valid, []string{second, newest}) || !slices.Equal(held, []string{second}) {
		t.Errorf("the gateway has it: %v, %v", valid, held)
	}
	endGrace()
	if valid, _, _ = tokens(); !slices.Equal(valid, []string{second}) {
		t.Errorf("after the grace: %v", valid)
	}
	if _, err := raise(false); err != nil {
		t.Fatal(err)
	}
	valid, held, third := tokens()
	if third == second || !slices.Equal(valid, []string{third}) || !slices.Equal(held, valid) {
		t.Errorf("without a gateway: %v, %v, %s", valid, held, third)
	}
	if again, err := v.Token(t.Context(), db, "a", "1", "tools"); err != nil || again.Reveal() != fixed.Reveal() {
		t.Errorf("what is no bearer token has changed: %v", err)
	}
	for err == nil {
		_, err = raise(true)
	}
	if _, held, _ = tokens(); !errors.Is(err, vault.ErrTokensNotTaken) || len(held) > 10 {
		t.Errorf("a gateway that takes none: %v, %d", err, len(held))
	}
	tx(t, db, func(tx *database.Tx) error {
		if _, err := v.RaiseTokens(t.Context(), tx, "a", "2", true); !errors.Is(err, vault.ErrNoKey) {
			t.Errorf("an owner without a key: %v", err)
		}
		return nil
	})

}

// After a restore no token of before is valid, and none of those that the original makes next.
func TestRaiseAllTokensEndsThoseOfTheOriginalToo(t *testing.T) {
	v, db := newVault(t), databasetest.New(t)
	owners := []vault.OwnerID{"1", "2"}
	var before []string
	for _, o := range owners {
		put(t, v, db, "a", o, "token", "x")
		for range 3 { // the generations that the original may make after its backup
			tx(t, db, func(tx *database.Tx) error {
				_, err := v.RaiseTokens(t.Context(), tx, "a", o, true)
				return err
			})
		}
		held, err := v.HeldTokens(t.Context(), db, "a", o, "tools")
		if err != nil {
			t.Fatal(err)
		}
		before = append(before, reveal(held)...)
		tx(t, db, func(tx *database.Tx) error { // as the backup has it
			_, err := tx.ExecContext(t.Context(), `UPDATE data_keys SET token_generation = 0, held_generation = 0, valid_generation = 0`)
			return err
		})
	}
	tx(t, db, func(tx *database.Tx) error { return vault.RaiseAllTokens(t.Context(), tx) })
	for _, o := range owners {
		valid, err := v.BearerTokens(t.Context(), db, "a", o, "tools")
		held, heldErr := v.HeldTokens(t.Context(), db, "a", o, "tools")
		if err := errors.Join(err, heldErr); err != nil || len(valid) != 1 || len(held) != 1 || slices.Contains(before, valid[0].Reveal()) {
			t.Errorf("of %s %d tokens are valid, %v", o, len(valid), err)
		}
		tx(t, db, func(tx *database.Tx) error {
			_, err := v.RaiseTokens(t.Context(), tx, "a", o, false)
			return err
		})
	}
}
