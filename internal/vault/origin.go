package vault

import (
	"context"
	"fmt"
	"strings"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
)

// Origins returns the origin of each secret of the owners, by name. The result has an
// entry for each owner. It decrypts nothing, so it says what is recorded: only ReadMany
// authenticates it.
func (v *Vault) Origins(ctx context.Context, q database.Reader, account identity.AccountID, owners ...OwnerID) (map[OwnerID]map[provider.SecretName]provider.Origin, error) {
	if err := checkAccount(account); err != nil {
		return nil, err
	}
	all := make(map[OwnerID]map[provider.SecretName]provider.Origin, len(owners))
	for _, owner := range owners {
		all[owner] = map[provider.SecretName]provider.Origin{}
	}
	in, args := inOwners(account, owners)
	secrets, err := database.All(ctx, q, func(r database.Row) (s ownedSecret, err error) { return s, r.Scan(&s.owner, &s.name, &s.origin) },
		`SELECT owner_id, name, origin FROM secrets WHERE `+in, args...)
	if err != nil {
		return nil, fmt.Errorf("read origins of secrets: %w", err)
	}
	for _, s := range secrets {
		all[s.owner][s.name] = s.origin
	}
	return all, nil
}

// Unbound is an owner of keys that have no origin.
type Unbound struct {
	Account identity.AccountID
	Owner   OwnerID
}

// ListUnbound returns the owners, of every account, that have keys of model providers
// without an origin: they were stored before origins were.
func (v *Vault) ListUnbound(ctx context.Context, q database.Reader) ([]Unbound, error) {
	var args []any
	var parameters []string
	for _, p := range provider.All() {
		args = append(args, p.Secret)
		parameters = append(parameters, fmt.Sprintf("$%d", len(args)))
	}
	found, err := database.All(ctx, q, func(r database.Row) (u Unbound, err error) { return u, r.Scan(&u.Account, &u.Owner) },
		`SELECT DISTINCT account_id, owner_id FROM secrets WHERE origin = '' AND name IN (`+strings.Join(parameters, ", ")+`) ORDER BY 1, 2`, args...)
	if err != nil {
		return nil, fmt.Errorf("list keys without an origin: %w", err)
	}
	return found, nil
}
