package agent

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

// Origins are the origins of secrets, by name: where each may be sent. A secret that
// is no key of a model provider has none.
type Origins map[provider.SecretName]provider.Origin

// Key is an agent's key for a model provider, without its value.
type Key struct {
	Provider provider.Provider
	Shared   bool            // it is the swarm's
	Origin   provider.Origin // the only one that the key may be sent to; empty: none
	Endpoint provider.Origin // what the agent calls
}

// Usable reports whether the key may be sent where the agent's calls go.
func (k Key) Usable() bool { return k.Origin != "" && k.Origin == k.Endpoint }

// Problem returns the sentence that says why the agent cannot use its key, and which
// request changes that. a is the agent; the key is not usable.
func (k Key) Problem(a Agent) string {
	switch {
	case k.Shared && k.Origin != "":
		return fmt.Sprintf("The swarm's %s is for %s and the agent calls %s, so the agent does not get it: set a key of the agent's own with PUT /v1/agents/%s/secrets, or set the swarm's for that endpoint with PUT /v1/swarms/%s/secrets and its baseUrl.",
			k.Provider.Secret, k.Origin, k.Endpoint, a.ID, a.SwarmID)
	case k.Shared:
		return fmt.Sprintf("The swarm's %s is for no endpoint: set it with PUT /v1/swarms/%s/secrets.", k.Provider.Secret, a.SwarmID)
	case k.Origin != "":
		return fmt.Sprintf("The agent's %s was set for %s and the agent now calls %s, where it is not sent: set the key for that endpoint with PUT /v1/agents/%s/secrets.",
			k.Provider.Secret, k.Origin, k.Endpoint, a.ID)
	}
	return fmt.Sprintf("The agent's %s is for no endpoint: set it with PUT /v1/agents/%s/secrets.", k.Provider.Secret, a.ID)
}

// Endpoint returns the base URL that replaces a provider's own in the agent's calls, or
// empty.
func (c Config) Endpoint(name provider.Name) string {
	if configured := c.Provider(); configured == "" || configured == name {
		return c.BaseURL()
	}
	return ""
}

// FindKey returns the agent's key for a provider, given the origins of its own secrets
// and of its swarm's. Its own has priority, usable or not.
func (c Config) FindKey(p provider.Provider, own, shared Origins) (k Key, ok bool) {
	k = Key{Provider: p}
	if k.Origin, ok = own[p.Secret]; !ok {
		k.Origin, ok = shared[p.Secret]
		k.Shared = ok
	}
	if endpoint, err := p.Origin(c.Endpoint(p.Name)); err == nil { // else it is not usable
		k.Endpoint = endpoint
	}
	return k, ok
}

// ChooseKey returns the key of the provider that the agent calls: of those that its
// config allows, the first with a usable key, else the first with a key.
func (c Config) ChooseKey(own, shared Origins) (Key, bool) {
	find := func(name provider.SecretName) (Key, bool) {
		p, _ := name.OfKey()
		return c.FindKey(p, own, shared)
	}
	p, ok := provider.Choose(c.Provider(), func(name provider.SecretName) bool { k, ok := find(name); return ok && k.Usable() })
	if !ok {
		p, ok = provider.Choose(c.Provider(), func(name provider.SecretName) bool { _, ok := find(name); return ok })
	}
	if !ok {
		return Key{}, false
	}
	return find(p.Secret)
}

// missingKey returns the sentence for an agent without a key for its provider.
func missingKey(id identity.AgentID) string {
	return "The agent has no key for its model provider: set one with PUT /v1/agents/" + string(id) + "/secrets."
}

// bind returns the secrets with the keys among them bound to the origins that an agent
// with this config calls.
func (c Config) bind(secrets secretValues) (secretValues, error) {
	bound := make(secretValues, len(secrets))
	for name, s := range secrets {
		if p, isKey := name.OfKey(); isKey {
			origin, err := p.Origin(c.Endpoint(p.Name))
			if err != nil {
				return nil, fmt.Errorf("bind %s: %w", name, err)
			}
			s = s.For(origin)
		}
		bound[name] = s
	}
	return bound, nil
}

// origins returns the origins of the keys among the secrets, for the audit log.
func (v secretValues) origins() Origins {
	origins := Origins{}
	for name, s := range v {
		if o := s.Origin(); o != "" {
			origins[name] = o
		}
	}
	return origins
}

// secretOrigins returns the origins of the agent's own secrets and of its swarm's.
func (s *Service) secretOrigins(ctx context.Context, q database.Reader, a Agent) (own, shared Origins, err error) {
	owners := []vault.OwnerID{vault.OfAgent(a.ID)}
	if a.SwarmID != "" {
		owners = append(owners, vault.OfSwarm(a.SwarmID))
	}
	all, err := s.vault.Origins(ctx, q, a.AccountID, owners...)
	if err != nil {
		return nil, nil, err
	}
	own = all[owners[0]]
	if len(owners) > 1 {
		shared = all[owners[1]]
	}
	return own, shared, nil
}

// BindKeys binds the keys that were stored before keys had origins: an agent's to the
// endpoint that the agent calls now, a swarm's to the provider's own. Keys that cannot
// be decrypted stay unbound, which means that they are not sent.
func (s *Service) BindKeys(ctx context.Context) error {
	unbound, err := s.vault.ListUnbound(ctx, s.db)
	if err != nil {
		return err
	}
	for _, u := range unbound {
		if err := s.bindKeys(ctx, u); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			s.log.ErrorContext(ctx, "binding old keys to their endpoint failed", "account", u.Account, "owner", u.Owner, "error", err)
		}
	}
	return nil
}

func (s *Service) bindKeys(ctx context.Context, u vault.Unbound) error {
	return s.db.Tx(ctx, "agent.bind_keys", func(ctx context.Context, tx *database.Tx) error {
		a, err := s.store.FindByID(ctx, tx, identity.AgentID(u.Owner))
		if err == nil {
			err = a.CheckReadable()
		}
		if err != nil && !errors.Is(err, sql.ErrNoRows) { // no row: a swarm's, which has no config
			return err
		}
		owned, err := s.vault.ReadMany(ctx, tx, u.Account, u.Owner)
		if err != nil {
			return err
		}
		unbound := secretValues{}
		for name, secret := range owned[u.Owner].Secrets {
			if _, isKey := name.OfKey(); isKey && secret.Origin() == "" {
				unbound[name] = secret
			}
		}
		if len(unbound) == 0 {
			return nil // none can be decrypted
		}
		bound, err := a.Config.bind(unbound)
		if err != nil {
			return err
		}
		return s.vault.Put(ctx, tx, u.Account, u.Owner, bound)
	})
}
