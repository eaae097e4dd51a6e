package vault_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

// putOne stores one secret and returns the error.
func putOne(ctx context.Context, v *vault.Vault, db *database.DB, account identity.AccountID, owner vault.OwnerID, name provider.SecretName, value string) error {
	return db.Tx(ctx, "vault.test", func(ctx context.Context, tx *database.Tx) error {
		return v.Put(ctx, tx, account, owner, map[provider.SecretName]vault.Secret{name: vault.NewSecret(value)})
	})
}

func TestATokenHasOneOwner(t *testing.T) {
	db := databasetest.New(t)
	v, ctx := newVault(t), t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	taken := func(err error, by vault.OwnerID) {
		t.Helper()
		if other := (*vault.TakenError)(nil); !errors.As(err, &other) || other.Owner != by {
			t.Errorf("%v, want taken by %s", err, by)
		}
	}
	must(putOne(ctx, v, db, "a", "1", provider.TelegramToken, "7:token"))
	must(putOne(ctx, v, db, "a", "1", provider.TelegramToken, "7:token")) // its own
	taken(putOne(ctx, v, db, "a", "2", provider.TelegramToken, "7:token"), "1")
	taken(putOne(ctx, v, db, "b", "3", provider.TelegramToken, "7:token"), "1")
	must(putOne(ctx, v, db, "b", "3", provider.SlackBotToken, "7:token")) // another kind
	must(putOne(ctx, v, db, "b", "3", provider.AnthropicKey, "sk-ant-x"))
	must(putOne(ctx, v, db, "b", "4", provider.AnthropicKey, "sk-ant-x")) // any number of agents share a provider's key

	must(putOne(ctx, v, db, "a", "1", provider.TelegramToken, "7:renewed"))
	must(putOne(ctx, v, db, "a", "2", provider.TelegramToken, "7:token")) // no longer anybody's
	tx(t, db, func(tx *database.Tx) error { return v.Delete(ctx, tx, "a", "2", provider.TelegramToken) })
	must(putOne(ctx, v, db, "b", "3", provider.TelegramToken, "7:token"))
	tx(t, db, func(tx *database.Tx) error { return v.Release(ctx, tx, "b", "3") })
	must(putOne(ctx, v, db, "b", "4", provider.TelegramToken, "7:token"))
	tx(t, db, func(tx *database.Tx) error { return v.Shred(ctx, tx, "b", "4") })
	must(putOne(ctx, v, db, "b", "5", provider.TelegramToken, "7:token"))
}

// Of requests at the same time one gets the token.
func TestATokenHasOneOwnerAtTheSameTime(t *testing.T) {
	db := databasetest.New(t)
	v := newVault(t)
	var mu sync.Mutex
	var stored int
	var all sync.WaitGroup
	for _, owner := range []vault.OwnerID{"1", "2", "3", "4"} {
		all.Go(func() {
			err := putOne(t.Context(), v, db, "a", owner, provider.SlackAppToken, "xapp-1")
			mu.Lock()
			defer mu.Unlock()
			if other := (*vault.TakenError)(nil); err == nil {
				stored++
			} else if !errors.As(err, &other) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if stored != 1 {
		t.Errorf("%d owners have the token", stored)
	}
}

// Of the owners that had one token before there were claims, the first keeps it. The second
// gets it when the first has gone.
func TestOldTokensAreClaimed(t *testing.T) {
	db := databasetest.New(t)
	v, ctx := newVault(t), t.Context()
	for _, owner := range []vault.OwnerID{"1", "2", "3"} {
		put(t, v, db, "a", owner, provider.TelegramToken, "7:token")
		tx(t, db, func(tx *database.Tx) error { return v.Release(ctx, tx, "a", owner) }) // as from before
	}
	claim := func() {
		t.Helper()
		unclaimed, err := v.ListUnclaimed(ctx, db)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range unclaimed {
			tx(t, db, func(tx *database.Tx) error { return v.Claim(ctx, tx, u.Account, u.Owner) })
		}
	}
	has := func(owner vault.OwnerID) bool {
		t.Helper()
		all, err := v.ReadMany(ctx, db, "a", owner)
		if err != nil {
			t.Fatal(err)
		}
		return all[owner].HasClaim(provider.TelegramToken)
	}
	claim()
	if !has("1") || has("2") || has("3") {
		t.Errorf("claims: %v, %v, %v", has("1"), has("2"), has("3"))
	}
	tx(t, db, func(tx *database.Tx) error { return v.Delete(ctx, tx, "a", "1", provider.TelegramToken) })
	claim()
	if has("1") || !has("2") || has("3") {
		t.Errorf("claims: %v, %v, %v", has("1"), has("2"), has("3"))
	}
}
