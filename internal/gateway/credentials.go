package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

// Purposes of what is derived from an agent's data key: bearer tokens, which have
// generations, and a key.
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

	// The origins of its own secrets, and of those of its swarm that it may use.
	ownOrigins, sharedOrigins agent.Origins

	// What the agent should have and cannot be decrypted.
	unreadable       []provider.SecretName // its own
	unreadableShared []provider.SecretName // its swarm's
	keyError         error                 // why its data key cannot be used; nil: it can
}

// newCredentials returns the credentials of an agent with these secrets of its own and
// of its swarm.
func newCredentials(own, shared vault.Owned) credentials {
	c := credentials{secrets: secretSet{}, own: own, ownOrigins: originsOf(own), sharedOrigins: originsOf(shared)}
	maps.Copy(c.secrets, shared.Secrets)
	maps.Copy(c.secrets, own.Secrets)
	if u := own.Unreadable(); u != nil {
		c.unreadable = u.Names
	}
	_, c.keyError = own.Token(purposeGateway)
	for _, name := range c.unreadable {
		delete(c.secrets, name) // the swarm's is not meant to be used
		delete(c.sharedOrigins, name)
	}
	if u := shared.Unreadable(); u != nil {
		c.unreadableShared = slices.DeleteFunc(slices.Clone(u.Names), func(n provider.SecretName) bool {
			return c.secrets.has(n) || slices.Contains(c.unreadable, n)
		})
	}
	return c
}

func originsOf(o vault.Owned) agent.Origins {
	origins := make(agent.Origins, len(o.Secrets))
	for name, s := range o.Secrets {
		origins[name] = s.Origin()
	}
	return origins
}

// check returns an error that says what to set again, if a secret that a should have
// cannot be decrypted. Errors: *SpecError.
func (c credentials) check(a agent.Agent) error {
	var text string
	switch {
	case c.keyError != nil && len(c.unreadable) == 0:
		text = fmt.Sprintf("The data key of the agent is lost: set its secrets with PUT /v1/agents/%s/secrets, which makes a new one", a.ID)
	case c.keyError != nil:
		text = fmt.Sprintf("The data key of the agent is damaged, and its secrets are lost with it: set or delete all of them (%s) in one request with PUT /v1/agents/%s/secrets", join(c.unreadable), a.ID)
	case len(c.unreadable) > 0:
		text = fmt.Sprintf("Secrets of the agent cannot be decrypted: set %s again with PUT /v1/agents/%s/secrets", join(c.unreadable), a.ID)
	case len(c.unreadableShared) > 0:
		text = fmt.Sprintf("Secrets of the agent's swarm cannot be decrypted: set %s again with PUT /v1/swarms/%s/secrets", join(c.unreadableShared), a.SwarmID)
	default:
		return nil
	}
	return &SpecError{Category: agent.CategoryRecord, Message: text + ", and start the agent again. Or ask the operator to restore a backup."}
}

// isKeyDamaged reports whether an error of the vault means that a data key is damaged or
// lost.
func isKeyDamaged(err error) bool {
	unreadable := (*vault.UnreadableError)(nil)
	return errors.Is(err, vault.ErrNoKey) || errors.As(err, &unreadable)
}

func join(names []provider.SecretName) string {
	texts := make([]string, len(names))
	for i, n := range names {
		texts[i] = string(n)
	}
	return strings.Join(texts, ", ")
}

func (c credentials) token(purpose string) (vault.Secret, error) {
	token, err := c.own.BearerToken(purpose)
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
		all[agents[i].ID] = newCredentials(owned[vault.OfAgent(agents[i].ID)], owned[vault.OfSwarm(agents[i].SwarmID)])
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
// Faults: Conflict, if one of them cannot be decrypted.
func (m *Manager) SecretValues(ctx context.Context, a agent.Agent) ([]vault.Secret, error) {
	c, err := m.readCredentials(ctx, m.db, a)
	if err != nil {
		return nil, err
	}
	if unreadable := c.check(a); unreadable != nil {
		return nil, fault.New(fault.Conflict, "The log cannot be shown, because it may contain secrets that cannot be masked. %s", unreadable).Because(c.keyError)
	}
	var values []vault.Secret
	for _, s := range c.secrets {
		values = append(values, s)
	}
	if c.secrets.has(provider.TelegramToken) {
		placeholder, err := c.botPlaceholder()
		if err != nil {
			return nil, err
		}
		values = append(values, placeholder)
	}
	for _, purpose := range []string{purposeGateway, purposeModel, purposeTools} {
		token, err := c.token(purpose)
		if err != nil {
			return nil, err
		}
		old, err := c.own.OldTokens(purpose)
		if err != nil {
			return nil, fmt.Errorf("token: %w", err)
		}
		values = append(append(values, token), old...)
	}
	return values, nil
}

// SecretsVersion returns a number that grows before any gateway gets other secrets
// than it had.
func (m *Manager) SecretsVersion() int64 { return m.secretsVersion.Load() }
