package gateway

import (
	"context"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/modelproxy"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

// findByToken returns the agent that a bearer token of a purpose belongs to.
// Faults: Unauthorized; Conflict, if the agent's record or data key is damaged.
func (m *Manager) findByToken(ctx context.Context, token vault.Secret, purpose string) (agent.Agent, error) {
	id, _, _ := strings.Cut(token.Reveal(), ".")
	if !checkConnection(ctx, identity.AgentID(id)) {
		m.log.ErrorContext(ctx, "an agent used the token of another agent", "agent", ctx.Value(callerKey{}), "token of", id)
		return agent.Agent{}, fault.New(fault.Unauthorized, "This token belongs to another agent.")
	}
	a, err := m.store.FindByID(ctx, m.db, identity.AgentID(id))
	if errors.Is(err, sql.ErrNoRows) || err == nil && a.DesiredState == agent.DesiredDeleted {
		return a, fault.New(fault.Unauthorized, "This token belongs to no agent.")
	}
	if err != nil {
		return a, err
	}
	if err := a.CheckReadable(); err != nil {
		return a, err
	}
	expected, err := m.vault.BearerTokens(ctx, m.db, a.AccountID, vault.OfAgent(a.ID), purpose)
	if isKeyDamaged(err) {
		return a, fault.New(fault.Conflict, "The data key of the agent is damaged. GET /v1/agents/%s says what to do.", a.ID).Because(err)
	}
	if err != nil {
		return a, fmt.Errorf("token of agent %s: %w", a.ID, err)
	}
	for _, valid := range expected {
		if subtle.ConstantTimeCompare([]byte(bearerToken(a.ID, valid).Reveal()), []byte(token.Reveal())) == 1 {
			return a, nil
		}
	}
	return a, fault.New(fault.Unauthorized, "This token belongs to no agent.")
}

// Resolve implements modelproxy.Resolver: it returns the key and the endpoint for an
// agent's calls to a provider. Faults: Unauthorized, for the token; Invalid, if the
// agent has no key for the provider that may be sent to the endpoint.
func (m *Manager) Resolve(ctx context.Context, token vault.Secret, name provider.Name) (modelproxy.Upstream, error) {
	a, err := m.findByToken(ctx, token, purposeModel)
	if err != nil {
		return modelproxy.Upstream{}, err
	}
	return m.upstream(ctx, a, name)
}

func (m *Manager) upstream(ctx context.Context, a agent.Agent, name provider.Name) (modelproxy.Upstream, error) {
	up := modelproxy.Upstream{AccountID: a.AccountID, AgentID: a.ID, SwarmID: a.SwarmID}
	c, err := m.readCredentials(ctx, m.db, a)
	if err != nil {
		return up, err
	}
	p, _ := provider.Find(name)
	key, hasKey := a.Config.FindKey(p, c.ownOrigins, c.sharedOrigins)
	if err := c.check(a); err != nil && !hasKey {
		return up, fault.New(fault.Invalid, "%s", err)
	}
	if !hasKey {
		return up, fault.New(fault.Invalid, "The agent has no key for %s: set one with PUT /v1/agents/%s/secrets.", name, a.ID)
	}
	if !key.Usable() {
		// The record was read before the secrets: one request may have changed both.
		if now, err := m.store.FindByID(ctx, m.db, a.ID); err == nil && now.Damage == "" && now.Revision != a.Revision {
			return m.upstream(ctx, now, name)
		}
		return up, fault.New(fault.Invalid, "%s", key.Problem(a))
	}
	up.Key, up.BaseURL = c.secrets[p.Secret], a.Config.Endpoint(name)
	if !m.demoKey.Empty() && m.demoKey.Reveal() == up.Key.Reveal() && up.BaseURL == "" {
		return m.demoUpstream(up)
	}
	return up, nil
}

// demoUpstream returns the scripted model in place of the provider's own endpoint. The
// demo key is not secret.
func (m *Manager) demoUpstream(up modelproxy.Upstream) (modelproxy.Upstream, error) {
	origin, err := provider.OriginOf(m.demoURL)
	if err != nil {
		return up, fmt.Errorf("the scripted model: %w", err)
	}
	up.Key, up.BaseURL = up.Key.For(origin), m.demoURL
	return up, nil
}

// Caller is an agent that calls our tools with its own token.
type Caller struct {
	AccountID identity.AccountID
	AgentID   identity.AgentID
	SwarmID   identity.SwarmID // empty: none
}

// CallerOf returns the agent that a tools token belongs to. Faults: Unauthorized.
func (m *Manager) CallerOf(ctx context.Context, token vault.Secret) (Caller, error) {
	a, err := m.findByToken(ctx, token, purposeTools)
	return Caller{a.AccountID, a.ID, a.SwarmID}, err
}
