package vault

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
)

// Owned is everything that one owner has in the vault: its decrypted secrets, and the
// data key from which its tokens are derived.
type Owned struct {
	Secrets     map[provider.SecretName]Secret // those that can be decrypted; empty if the owner has none
	key         []byte                         // nil if the owner has none, or it cannot be opened
	generations generations                    // of its bearer tokens
	unreadable  *UnreadableError               // nil: everything can be decrypted
	claims      map[provider.SecretName]bool   // the exclusive secrets that no other owner has
}

// Unreadable returns what cannot be decrypted of the owner, nil if everything can.
func (o Owned) Unreadable() *UnreadableError { return o.unreadable }

// Token returns the owner's token for a purpose, as Vault.Token does.
// Errors: ErrNoKey; *UnreadableError, if the data key cannot be opened.
func (o Owned) Token(purpose string) (Secret, error) {
	if o.unreadable != nil && o.unreadable.Key {
		return Secret{}, o.unreadable
	}
	if o.key == nil {
		return Secret{}, ErrNoKey
	}
	return deriveToken(o.key, purpose)
}

// maxOwners bounds how many owners one query names. SQLite allows 32,766
// parameters, PostgreSQL 65,535.
const maxOwners = 512

// ReadMany decrypts everything that the owners have. The result has an entry for each
// of them. A value that cannot be decrypted is no error: see Owned.Unreadable. It runs two queries for every 512 owners.
func (v *Vault) ReadMany(ctx context.Context, q database.Reader, account identity.AccountID, owners ...OwnerID) (map[OwnerID]Owned, error) {
	if err := checkAccount(account); err != nil {
		return nil, err
	}
	all := make(map[OwnerID]Owned, len(owners))
	for batch := range slices.Chunk(owners, maxOwners) {
		if err := v.readBatch(ctx, q, account, batch, all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Revisions returns a number for each of the owners that grows with every Put and
// Delete. The result has no entry for an owner without a data key. It decrypts
// nothing, and runs one query for every 512 owners.
func (v *Vault) Revisions(ctx context.Context, q database.Reader, account identity.AccountID, owners ...OwnerID) (map[OwnerID]int64, error) {
	if err := checkAccount(account); err != nil {
		return nil, err
	}
	all := make(map[OwnerID]int64, len(owners))
	for batch := range slices.Chunk(owners, maxOwners) {
		in, args := inOwners(account, batch)
		revisions, err := database.All(ctx, q, scanRevision, `SELECT owner_id, revision FROM data_keys WHERE `+in, args...)
		if err != nil {
			return nil, fmt.Errorf("read revisions of secrets: %w", err)
		}
		for _, r := range revisions {
			all[r.owner] = r.number
		}
	}
	return all, nil
}

func (v *Vault) readBatch(ctx context.Context, q database.Reader, account identity.AccountID, owners []OwnerID, all map[OwnerID]Owned) error {
	in, args := inOwners(account, owners)
	keys, err := database.All(ctx, q, scanSealedKey, `SELECT `+keyColumns+` FROM data_keys WHERE `+in, args...)
	if err != nil {
		return fmt.Errorf("read data keys: %w", err)
	}
	for _, owner := range owners {
		all[owner] = Owned{Secrets: map[provider.SecretName]Secret{}, claims: map[provider.SecretName]bool{}}
	}
	for _, k := range keys {
		o := all[k.owner]
		o.generations = k.generations
		if o.key, err = v.openKey(k.box, k.fingerprint, account, k.owner); err != nil {
			o.unreadable = &UnreadableError{Key: true, cause: err}
		}
		all[k.owner] = o
	}
	secrets, err := database.All(ctx, q, scanOwnedSecret, `SELECT owner_id, name, sealed, origin, claim FROM secrets WHERE `+in+` ORDER BY name`, args...)
	if err != nil {
		return fmt.Errorf("read secrets: %w", err)
	}
	for _, s := range secrets {
		o := all[s.owner]
		if err := o.open(account, s); err != nil {
			o.addUnreadable(s.name, err)
		}
		all[s.owner] = o
	}
	return nil
}

// open decrypts a secret and adds it to the owner's.
func (o Owned) open(account identity.AccountID, s ownedSecret) error {
	if o.key == nil {
		return errNoKeyOfSecrets
	}
	aead, err := newAEAD(o.key)
	if err != nil {
		return err
	}
	plain, err := open(aead, s.box, secretData(account, s.owner, s.name, s.origin))
	if err != nil {
		return err
	}
	o.Secrets[s.name] = NewSecret(string(plain)).For(s.origin)
	if s.claim != "" {
		o.claims[s.name] = true
	}
	return nil
}

func (o Owned) isUnreadable(name provider.SecretName) bool {
	return o.unreadable != nil && slices.Contains(o.unreadable.Names, name)
}

func (o *Owned) addUnreadable(name provider.SecretName, cause error) {
	if o.unreadable == nil {
		o.unreadable = &UnreadableError{Key: o.key == nil, cause: cause}
	}
	o.unreadable.Names = append(o.unreadable.Names, name)
}

// inOwners returns the condition of a query, and its arguments. It repeats the last
// owner until their number is a power of two: the database keeps a prepared statement
// for each query, and so there are only ten.
func inOwners(account identity.AccountID, owners []OwnerID) (condition string, args []any) {
	args = []any{account}
	var parameters []string
	for n := 1; len(parameters) < n; {
		args = append(args, owners[min(len(parameters), len(owners)-1)])
		parameters = append(parameters, fmt.Sprintf("$%d", len(args)))
		if len(parameters) == n && n < len(owners) {
			n *= 2
		}
	}
	return `account_id = $1 AND owner_id IN (` + strings.Join(parameters, ", ") + `)`, args
}

type sealedKey struct {
	owner       OwnerID
	fingerprint string
	box         []byte
	generations generations
}

// keyColumns are the columns of data_keys that scanSealedKey reads.
const keyColumns = `owner_id, master_id, sealed, token_generation, held_generation, valid_generation, tokens_raised_at`

func scanSealedKey(r database.Row) (sealedKey, error) {
	var k sealedKey
	var raisedAt int64
	err := r.Scan(&k.owner, &k.fingerprint, &k.box, &k.generations.newest, &k.generations.held, &k.generations.valid, &raisedAt)
	k.generations.raisedAt = database.Time(raisedAt)
	return k, err
}

// revision is how often an owner's secrets have changed.
type revision struct {
	owner  OwnerID
	number int64
}

func scanRevision(r database.Row) (revision, error) {
	var v revision
	err := r.Scan(&v.owner, &v.number)
	return v, err
}

type ownedSecret struct {
	owner  OwnerID
	name   provider.SecretName
	box    []byte
	origin provider.Origin
	claim  string
}

func scanOwnedSecret(r database.Row) (ownedSecret, error) {
	var s ownedSecret
	err := r.Scan(&s.owner, &s.name, &s.box, &s.origin, &s.claim)
	return s, err
}
