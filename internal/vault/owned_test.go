package vault_test

import (
	"errors"
	"fmt"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

func TestReadManyReturnsWhatReadAndTokenReturnForEachOwner(t *testing.T) {
	db, v := databasetest.New(t), newVault(t)
	owners := []vault.OwnerID{"none"}
	tx(t, db, func(tx *database.Tx) error {
		for i := range 1100 { // more than one query's worth
			owner := vault.OwnerID(fmt.Sprint("owner-", i))
			owners = append(owners, owner)
			if err := v.Put(t.Context(), tx, "acct", owner, map[provider.SecretName]vault.Secret{"A": vault.NewSecret(string(owner)), "B": vault.NewSecret("b")}); err != nil {
				return err
			}
		}
		return v.Put(t.Context(), tx, "other", "none", map[provider.SecretName]vault.Secret{"A": vault.NewSecret("x")})
	})
	all, err := v.ReadMany(t.Context(), db, "acct", owners...)
	if err != nil || len(all) != len(owners) {
		t.Fatalf("%d owners, %v", len(all), err)
	}
	if _, err := all["none"].Token("model"); !errors.Is(err, vault.ErrNoKey) || len(all["none"].Secrets) != 0 {
		t.Errorf("an owner without anything: %d secrets, %v", len(all["none"].Secrets), err)
	}
	for _, owner := range owners[1:] {
		got := all[owner]
		token, err := got.Token("model")
		want, wantErr := v.Token(t.Context(), db, "acct", owner, "model")
		if err != nil || wantErr != nil || token.Reveal() != want.Reveal() || len(got.Secrets) != 2 || got.Secrets["A"].Reveal() != string(owner) {
			t.Fatalf("%s: %d secrets, %v, %v", owner, len(got.Secrets), err, wantErr)
		}
	}
}
