package agent

import (
	"context"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	providers "agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

// Conversions between the ids of this package, which are strings, and the typed ids of
// the packages below it.

func (a Agent) account() identity.AccountID { return identity.AccountID(a.AccountID) }
func (a Agent) id() identity.AgentID        { return identity.AgentID(a.ID) }
func (a Agent) owner() vault.OwnerID        { return vault.OfAgent(a.id()) }
func (a Agent) swarmOwner() vault.OwnerID   { return vault.OfSwarm(identity.SwarmID(a.SwarmID)) }

func readSecrets(ctx context.Context, v *vault.Vault, q database.Querier, account identity.AccountID, owner vault.OwnerID) (map[string]vault.Secret, error) {
	secrets, err := v.Read(ctx, q, account, owner)
	all := make(map[string]vault.Secret, len(secrets))
	for name, s := range secrets {
		all[string(name)] = s
	}
	return all, err
}

func putSecrets(ctx context.Context, v *vault.Vault, tx *database.Tx, a Agent, secrets map[string]vault.Secret) error {
	all := make(map[providers.SecretName]vault.Secret, len(secrets))
	for name, s := range secrets {
		all[providers.SecretName(name)] = s
	}
	return v.Put(ctx, tx, a.account(), a.owner(), all)
}

func deleteSecrets(ctx context.Context, v *vault.Vault, tx *database.Tx, a Agent, names []string) error {
	all := make([]providers.SecretName, len(names))
	for i, name := range names {
		all[i] = providers.SecretName(name)
	}
	return v.Delete(ctx, tx, a.account(), a.owner(), all...)
}
