package vault

import (
	"context"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/provider"
)

// The private keys with which agento logs in to a pool server. A new one is kept beside the
// present one until it has worked.
const (
	serverKey    provider.SecretName = "SSH_KEY"
	serverNewKey provider.SecretName = "NEW_SSH_KEY"
)

// PutServerKey stores the private key for a pool server, given by its id; with isNew, the
// one that replaces it once it has worked. Pool servers belong to no account, so their keys
// are stored under InstallationAccount, which no request of the API reaches.
func (v *Vault) PutServerKey(ctx context.Context, tx *database.Tx, server string, key Secret, isNew bool) error {
	name := serverKey
	if isNew {
		name = serverNewKey
	}
	return v.put(ctx, tx, InstallationAccount, OwnerID(server), map[provider.SecretName]Secret{name: key})
}

// ServerKeys returns the private keys for a pool server. The new one is empty if there is
// none. Errors: *UnreadableError.
func (v *Vault) ServerKeys(ctx context.Context, q database.Reader, server string) (present, replacement Secret, err error) {
	all, err := v.read(ctx, q, InstallationAccount, OwnerID(server))
	return all[serverKey], all[serverNewKey], err
}

// DropNewServerKey deletes the key that would have replaced the present one, or has.
func (v *Vault) DropNewServerKey(ctx context.Context, tx *database.Tx, server string) error {
	tx.Erase()
	_, err := tx.ExecContext(ctx, `DELETE FROM secrets WHERE account_id = $1 AND owner_id = $2 AND name = $3`, InstallationAccount, OwnerID(server), serverNewKey)
	return err
}

// ShredServer deletes the keys for a pool server with their data key. It needs no master key.
func ShredServer(ctx context.Context, tx *database.Tx, server string) error {
	return (&Vault{}).shred(ctx, tx, InstallationAccount, OwnerID(server))
}
