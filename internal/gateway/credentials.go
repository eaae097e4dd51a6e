package gateway

import (
	"context"
	"fmt"
	"maps"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

// Purposes of what is derived from an agent's data key.
const (
	purposeGateway = "gateway" // the token that callers of the gateway send
	purposeModel   = "model"   // the token that the gateway sends to the model proxy
	purposeTools   = "tools"   // the token that the gateway sends to our MCP endpoint
	purposeSpec    = "spec"    // the key of the spec digest
)

// secretSet is the secrets of an agent.
type secretSet map[provider.SecretName]vault.Secret

func (s secretSet) has(name provider.SecretName) bool { _, ok := s[name]; return ok }

// credentials are what the vault has of an agent: its secrets, with its swarm's where
// it has none of that name, and its tokens.
type credentials struct {
	secrets secretSet
	own     vault.Owned
}

func (c credentials) token(purpose string) (vault.Secret, error) {
	token, err := c.own.Token(purpose)
	if err != nil {
		return token, fmt.Errorf("token: %w", err)
	}
	return token, nil
}

func (m *Manager) readCredentials(ctx context.Context, q database.Reader, a agent.Agent) (credentials, error) {
	all, err := m.readManyCredentials(ctx, q, a.AccountID, []agent.Agent{a})
	return all[a.ID], err
}

// readManyCredentials reads the credentials of agents of one account, with a number
// of queries that does not grow with the number of agents.
func (m *Manager) readManyCredentials(ctx context.Context, q database.Reader, account identity.AccountID, agents []agent.Agent) (map[identity.AgentID]credentials, error) {
	owned, err := m.vault.ReadMany(ctx, q, account, ownersOf(agents)...)
	if err != nil {
		return nil, fmt.Errorf("read secrets: %w", err)
	}
	all := make(map[identity.AgentID]credentials, len(agents))
	for i := range agents {
		c := credentials{secrets: secretSet{}, own: owned[vault.OfAgent(agents[i].ID)]}
		maps.Copy(c.secrets, owned[vault.OfSwarm(agents[i].SwarmID)].Secrets)
		maps.Copy(c.secrets, c.own.Secrets)
		all[agents[i].ID] = c
	}
	return all, nil
}

// ownersOf returns the owners of the agents' secrets: the agents and their swarms.
func ownersOf(agents []agent.Agent) []vault.OwnerID {
	var owners []vault.OwnerID
	swarms := map[identity.SwarmID]bool{"": true}
	for i := range agents {
		owners = append(owners, vault.OfAgent(agents[i].ID))
		if id := agents[i].SwarmID; !swarms[id] {
			swarms[id] = true
			owners = append(owners, vault.OfSwarm(id))
		}
	}
	return owners
}

// SecretValues returns every secret that a's gateway may know: the agent's, its
// swarm's, and the tokens. Errors: vault.ErrNoKey, if the agent is deleted.
func (m *Manager) SecretValues(ctx context.Context, a agent.Agent) ([]vault.Secret, error) {
	c, err := m.readCredentials(ctx, m.db, a)
	if err != nil {
		return nil, err
	}
	var values []vault.Secret
	for _, s := range c.secrets {
		values = append(values, s)
	}
	for _, purpose := range []string{purposeGateway, purposeModel, purposeTools} {
		token, err := c.token(purpose)
		if err != nil {
			return nil, err
		}
		values = append(values, token)
	}
	return values, nil
}

// SecretsVersion returns a number that grows before any gateway gets other secrets
// than it had.
func (m *Manager) SecretsVersion() int64 { return m.secretsVersion.Load() }
