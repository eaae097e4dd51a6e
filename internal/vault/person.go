package vault

import (
	"context"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
)

// ofUser returns the owner of a person's own secrets. A person belongs to no account, so they
// are stored under InstallationAccount, which no request of the API reaches.
func ofUser(user identity.UserID) OwnerID { return OwnerID(user) }

// PutOfUser stores a secret of a person, such as that of the second factor.
func (v *Vault) PutOfUser(ctx context.Context, tx *database.Tx, user identity.UserID, name provider.SecretName, s Secret) error {
	return v.put(ctx, tx, InstallationAccount, ofUser(user), map[provider.SecretName]Secret{name: s})
}

// ReadOfUser returns a secret of a person; it is empty if it is not set.
// Errors: *UnreadableError.
func (v *Vault) ReadOfUser(ctx context.Context, q database.Reader, user identity.UserID, name provider.SecretName) (Secret, error) {
	all, err := v.read(ctx, q, InstallationAccount, ofUser(user))
	return all[name], err
}

// ShredUser deletes a person's secrets with their data key. It needs no master key.
func ShredUser(ctx context.Context, tx *database.Tx, user identity.UserID) error {
	return (&Vault{}).shred(ctx, tx, InstallationAccount, ofUser(user))
}
