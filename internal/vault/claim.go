package vault

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
)

// TakenError means that another owner has the same value of a secret that only one owner of
// an installation may have.
type TakenError struct {
	Name    provider.SecretName
	Account identity.AccountID // of the owner that has it
	Owner   OwnerID            // that has it
}

// Error implements error. It does not name the owner, who may be of another account.
func (e *TakenError) Error() string { return string(e.Name) + " belongs to another owner" }

// claimOf returns what is stored to recognize the value of an exclusive secret; empty for
// any other secret. The tokens have more random bits than can be guessed, so the digest
// needs no key, and stays the same when the master key is replaced.
func claimOf(name provider.SecretName, s Secret) string {
	if !name.IsExclusive() {
		return ""
	}
	sum := sha256.Sum256([]byte("agento claim\x00" + string(name) + "\x00" + s.Reveal()))
	return hex.EncodeToString(sum[:])
}

// CheckClaims returns an error if another owner has one of the secrets that only one owner
// may have. owner is empty for an owner that does not exist yet. Errors: *TakenError.
func (v *Vault) CheckClaims(ctx context.Context, q database.Reader, account identity.AccountID, owner OwnerID, secrets map[provider.SecretName]Secret) error {
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		claim := claimOf(name, secrets[name])
		if claim == "" {
			continue
		}
		others, err := database.All(ctx, q, func(r database.Row) (*TakenError, error) {
			taken := &TakenError{Name: name}
			return taken, r.Scan(&taken.Account, &taken.Owner)
		}, `SELECT account_id, owner_id FROM secrets WHERE claim = $1 AND claim <> '' AND NOT (account_id = $2 AND owner_id = $3)`, claim, account, owner)
		if err != nil {
			return fmt.Errorf("look for the owner of %s: %w", name, err)
		}
		if len(others) > 0 {
			return others[0]
		}
	}
	return nil
}

// lockClaims makes transactions wait for each other that set the same exclusive secret.
func lockClaims(ctx context.Context, tx *database.Tx, secrets map[provider.SecretName]Secret) error {
	var claims []string
	for name, s := range secrets {
		if c := claimOf(name, s); c != "" {
			claims = append(claims, c)
		}
	}
	slices.Sort(claims) // two transactions lock in the same order
	for _, c := range claims {
		if err := tx.Lock(ctx, database.LockClaim, c); err != nil {
			return err
		}
	}
	return nil
}

// Claim makes an owner the one that has its exclusive secrets, as far as no other has them.
// It is for secrets that were stored before there were claims, and for those whose other
// owner has gone; Put claims what it stores.
func (v *Vault) Claim(ctx context.Context, tx *database.Tx, account identity.AccountID, owner OwnerID) error {
	owned, err := v.ReadMany(ctx, tx, account, owner)
	if err != nil {
		return err
	}
	secrets := owned[owner].Secrets
	if err := lockClaims(ctx, tx, secrets); err != nil {
		return err
	}
	for name, s := range secrets {
		claim := claimOf(name, s)
		if claim == "" || owned[owner].HasClaim(name) {
			continue
		}
		_, err := tx.ExecContext(ctx, `UPDATE secrets SET claim = $1 WHERE account_id = $2 AND owner_id = $3 AND name = $4
			AND NOT EXISTS (SELECT 1 FROM secrets WHERE claim = $1 AND claim <> '')`, claim, account, owner, name)
		if err != nil {
			return fmt.Errorf("claim %s: %w", name, err)
		}
	}
	return nil
}

// Release gives up the exclusive secrets of an owner that is being deleted: another owner
// may have them from now on.
func (v *Vault) Release(ctx context.Context, tx *database.Tx, account identity.AccountID, owner OwnerID) error {
	if _, err := tx.ExecContext(ctx, `UPDATE secrets SET claim = '' WHERE account_id = $1 AND owner_id = $2 AND claim <> ''`, account, owner); err != nil {
		return fmt.Errorf("release the claims of an owner: %w", err)
	}
	return nil
}

// Unclaimed is an owner with an exclusive secret that it has not claimed.
type Unclaimed struct {
	Account identity.AccountID
	Owner   OwnerID
}

// ListUnclaimed returns the owners that Claim is for, in the order in which they were made.
func (v *Vault) ListUnclaimed(ctx context.Context, q database.Reader) ([]Unclaimed, error) {
	var parameters []string
	var args []any
	for _, name := range provider.ExclusiveSecrets() {
		args = append(args, name)
		parameters = append(parameters, fmt.Sprintf("$%d", len(args)))
	}
	all, err := database.All(ctx, q, func(r database.Row) (u Unclaimed, err error) { return u, r.Scan(&u.Account, &u.Owner) },
		`SELECT DISTINCT account_id, owner_id FROM secrets WHERE claim = '' AND name IN (`+strings.Join(parameters, ", ")+`) ORDER BY 2, 1`, args...)
	if err != nil {
		return nil, fmt.Errorf("list unclaimed secrets: %w", err)
	}
	return all, nil
}

// UnclaimedOf returns the names of the exclusive secrets of an owner that another owner had
// first. It decrypts nothing.
func (v *Vault) UnclaimedOf(ctx context.Context, q database.Reader, account identity.AccountID, owner OwnerID) ([]provider.SecretName, error) {
	names, err := database.All(ctx, q, database.Scalar[provider.SecretName], `SELECT name FROM secrets WHERE account_id = $1 AND owner_id = $2 AND claim = ''`, account, owner)
	if err != nil {
		return nil, fmt.Errorf("list unclaimed secrets: %w", err)
	}
	return slices.DeleteFunc(names, func(n provider.SecretName) bool { return !n.IsExclusive() }), nil
}

// HasClaim reports whether the owner is the one in the installation that has an exclusive
// secret. It is false for every other secret.
func (o Owned) HasClaim(name provider.SecretName) bool { return o.claims[name] }
