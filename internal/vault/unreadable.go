package vault

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
)

// UnreadableError means that secrets of an owner cannot be decrypted, because their rows
// are damaged. Setting them again repairs that.
type UnreadableError struct {
	Key   bool                  // the data key cannot be opened, and so no secret, and there are no tokens
	Names []provider.SecretName // the secrets that cannot be decrypted, sorted
	cause error
}

// Error implements error.
func (e *UnreadableError) Error() string {
	what := "secrets cannot be decrypted: " + joinNames(e.Names)
	if e.Key {
		what = "the data key cannot be opened"
	}
	return fmt.Sprintf("%s: %v", what, e.cause)
}

// Unwrap returns the cause.
func (e *UnreadableError) Unwrap() error { return e.cause }

func joinNames(names []provider.SecretName) string {
	texts := make([]string, len(names))
	for i, n := range names {
		texts[i] = string(n)
	}
	return strings.Join(texts, ", ")
}

// errNoKeyOfSecrets is why the secrets of an owner without a data key are unreadable.
var errNoKeyOfSecrets = errors.New("the data key is missing")

// makeDataKey makes the data key of an owner who has none, or whose data key cannot be
// opened. What the old key sealed is lost then, so each of these secrets must be among
// those that are set now, unless it was deleted before.
// Faults: Conflict, naming the others.
func (v *Vault) makeDataKey(ctx context.Context, tx *database.Tx, account identity.AccountID, owner OwnerID, set map[provider.SecretName]Secret) ([]byte, error) {
	names, err := v.names(ctx, tx, account, owner)
	if err != nil {
		return nil, err
	}
	var lost []provider.SecretName
	for _, n := range names {
		if _, ok := set[n]; !ok {
			lost = append(lost, n)
		}
	}
	if len(lost) > 0 {
		return nil, fault.New(fault.Conflict, "The data key of these secrets is damaged, and they are lost with it: %s. Set or delete all of them in one request, which makes a new data key; or ask the operator to restore a backup.", joinNames(names)).
			With("secrets", joinNames(names))
	}
	return v.newDataKey(ctx, tx, account, owner)
}

// Unreadable lists the owners with data keys and secrets that cannot be decrypted, each
// with what they are, and counts all values.
func (s KeyState) Unreadable(ctx context.Context, q database.Reader) (found []string, total int, err error) {
	v, err := New(s.key)
	if err != nil {
		return nil, 0, err
	}
	type owned struct {
		account identity.AccountID
		owner   OwnerID
	}
	owners, err := database.All(ctx, q, func(r database.Row) (o owned, err error) { return o, r.Scan(&o.account, &o.owner) },
		`SELECT account_id, owner_id FROM data_keys UNION SELECT account_id, owner_id FROM secrets ORDER BY 1, 2`)
	if err != nil {
		return nil, 0, fmt.Errorf("list the owners of secrets: %w", err)
	}
	for _, o := range owners {
		all := map[OwnerID]Owned{}
		if err := v.readBatch(ctx, q, o.account, []OwnerID{o.owner}, all); err != nil {
			return nil, 0, err
		}
		own := all[o.owner]
		total += 1 + len(own.Secrets)
		if u := own.unreadable; u != nil {
			total += len(u.Names)
			found = append(found, fmt.Sprintf("%s: %v", o.owner, u))
		}
	}
	return found, total, nil
}
