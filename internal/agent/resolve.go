package agent

import (
	"context"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/modelproxy"
	"agento.host/agento/internal/vault"
)

// holder finds the agent that a bearer token of a purpose belongs to.
// Faults: Unauthorized.
func (s *Service) holder(ctx context.Context, token vault.Secret, purpose string) (Agent, error) {
	id, _, _ := strings.Cut(token.Reveal(), ".")
	a, err := findAny(ctx, s.DB, id)
	if errors.Is(err, sql.ErrNoRows) || err == nil && a.Wanted == WantDeleted {
		return a, fault.New(fault.Unauthorized, "This token belongs to no agent.")
	}
	if err != nil {
		return a, err
	}
	right, err := s.Vault.Token(ctx, s.DB, a.account(), a.owner(), purpose)
	if err != nil {
		return a, fmt.Errorf("token of agent %s: %w", a.ID, err)
	}
	if subtle.ConstantTimeCompare([]byte(bearer(a.ID, right).Reveal()), []byte(token.Reveal())) != 1 {
		return a, fault.New(fault.Unauthorized, "This token belongs to no agent.")
	}
	return a, nil
}

// Resolve implements modelproxy.Resolver: which key and endpoint an agent's calls
// to a provider are made with. Faults: Unauthorized, for the token; Invalid, if
// the agent has no key for the provider.
func (s *Service) Resolve(ctx context.Context, token vault.Secret, provider string) (modelproxy.Upstream, error) {
	a, err := s.holder(ctx, token, modelToken)
	if err != nil {
		return modelproxy.Upstream{}, err
	}
	up := modelproxy.Upstream{AccountID: a.AccountID, AgentID: a.ID}
	secrets, err := s.body.secrets(ctx, s.DB, a)
	if err != nil {
		return up, err
	}
	for _, p := range providerKeys {
		if string(p.provider) == provider {
			up.Key = secrets[p.secret]
		}
	}
	if up.Key.Empty() {
		return up, fault.New(fault.Invalid, "The agent has no key for %s: set one with PUT /v1/agents/%s/secrets.", provider, a.ID)
	}
	if a.Config.Provider() == "" || a.Config.Provider() == provider {
		up.BaseURL = a.Config.BaseURL()
	}
	if s.DemoKey == up.Key && !s.DemoKey.Empty() && up.BaseURL == "" {
		up.BaseURL = s.DemoURL
	}
	return up, nil
}

// Caller is an agent that calls back with its own token.
type Caller struct{ AccountID, AgentID, SwarmID string }

// CallerOf returns the agent that a tools token belongs to. Faults: Unauthorized.
func (s *Service) CallerOf(ctx context.Context, token vault.Secret) (Caller, error) {
	a, err := s.holder(ctx, token, toolsToken)
	return Caller{a.AccountID, a.ID, a.SwarmID}, err
}
