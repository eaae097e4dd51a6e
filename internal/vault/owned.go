package vault

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"agento.host/agento/internal/database"
)

// Owned is what one owner has in the vault: its opened secrets, and its data key,
// which its tokens are derived from.
type Owned struct {
	Secrets map[string]Secret // by name; empty if it has none
	key     []byte            // nil if it has none
}

// Token returns the owner's token for a purpose, as Vault.Token does.
// Errors: ErrNoKey.
func (o Owned) Token(purpose string) (Secret, error) {
	if o.key == nil {
		return Secret{}, ErrNoKey
	}
	return deriveToken(o.key, purpose)
}

// maxOwners bounds how many owners one query names. SQLite allows 32,766
// parameters, PostgreSQL 65,535.
const maxOwners = 512

// ReadMany opens everything that the owners have. The result holds each of them. It
// needs two queries for every 512 owners.
func (v *Vault) ReadMany(ctx context.Context, q database.Querier, accountID string, ownerIDs ...string) (map[string]Owned, error) {
	if err := tenant(accountID); err != nil {
		return nil, err
	}
	all := make(map[string]Owned, len(ownerIDs))
	for some := range slices.Chunk(ownerIDs, maxOwners) {
		if err := v.readSome(ctx, q, accountID, some, all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (v *Vault) readSome(ctx context.Context, q database.Querier, accountID string, ownerIDs []string, into map[string]Owned) error {
	in, args := inOwners(accountID, ownerIDs)
	keys, err := database.All(ctx, q, scanSealedKey, `SELECT owner_id, master_id, sealed FROM data_keys WHERE `+in, args...)
	if err != nil {
		return fmt.Errorf("read data keys: %w", err)
	}
	for _, id := range ownerIDs {
		into[id] = Owned{Secrets: map[string]Secret{}}
	}
	for _, k := range keys {
		key, err := v.openKey(k.box, k.masterID, accountID, k.ownerID)
		if err != nil {
			return err
		}
		into[k.ownerID] = Owned{Secrets: into[k.ownerID].Secrets, key: key}
	}
	secrets, err := database.All(ctx, q, scanOwnedSecret, `SELECT owner_id, name, sealed FROM secrets WHERE `+in, args...)
	if err != nil {
		return fmt.Errorf("read secrets: %w", err)
	}
	for _, s := range secrets {
		if err := openInto(into[s.ownerID], accountID, s); err != nil {
			return err
		}
	}
	return nil
}

func openInto(o Owned, accountID string, s ownedSecret) error {
	if o.key == nil {
		return ErrNoKey
	}
	aead, err := newAEAD(o.key)
	if err != nil {
		return err
	}
	plain, err := open(aead, s.box, accountID, s.ownerID, s.name)
	if err != nil {
		return fmt.Errorf("open secret %s: %w", s.name, err)
	}
	o.Secrets[s.name] = NewSecret(string(plain))
	return nil
}

// inOwners repeats the last owner until there is a power of two of them: the
// database keeps a prepared statement of each query, and so there are only ten.
func inOwners(accountID string, ownerIDs []string) (condition string, args []any) {
	args = []any{accountID}
	var parameters []string
	for n := 1; len(parameters) < n; {
		args = append(args, ownerIDs[min(len(parameters), len(ownerIDs)-1)])
		parameters = append(parameters, fmt.Sprintf("$%d", len(args)))
		if len(parameters) == n && n < len(ownerIDs) {
			n *= 2
		}
	}
	return `account_id = $1 AND owner_id IN (` + strings.Join(parameters, ", ") + `)`, args
}

type sealedKey struct {
	ownerID, masterID string
	box               []byte
}

func scanSealedKey(r database.Row) (sealedKey, error) {
	var k sealedKey
	err := r.Scan(&k.ownerID, &k.masterID, &k.box)
	return k, err
}

type ownedSecret struct {
	ownerID, name string
	box           []byte
}

func scanOwnedSecret(r database.Row) (ownedSecret, error) {
	var s ownedSecret
	err := r.Scan(&s.ownerID, &s.name, &s.box)
	return s, err
}
