package swarm

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

// SecretOrigins returns the names of a swarm's secrets, such as anthropicApiKey, each
// with the origin that it may be sent to. The API never returns their values.
// Faults: NotFound.
func (s *Service) SecretOrigins(ctx context.Context, account identity.AccountID, id identity.SwarmID) (map[provider.SecretName]provider.Origin, error) {
	if err := s.store.Exists(ctx, s.store.db, account, id); err != nil {
		return nil, err
	}
	origins, err := s.vault.Origins(ctx, s.store.db, account, vault.OfSwarm(id))
	if err != nil {
		return nil, fmt.Errorf("list the secrets of swarm %s: %w", id, err)
	}
	return origins[vault.OfSwarm(id)], nil
}

// SecretChange is a request to set and remove secrets of a swarm. Names may be written
// anthropicApiKey or anthropic_api_key.
type SecretChange struct {
	Set     map[string]vault.Secret
	BaseURL string // the endpoint that Set is for; empty: each provider's own
	Remove  []string
}

// SetSecrets sets and deletes secrets that a swarm's agents share, all or none. It
// ignores names to delete that the swarm does not have. Each key is bound to an origin:
// agents that call another one do not get it. It reports whether an agent of the swarm
// needs a restart. Faults: Invalid, naming every invalid field; NotFound; Conflict, if the
// data key is damaged and other secrets are lost with it.
func (s *Service) SetSecrets(ctx context.Context, actor identity.Actor, id identity.SwarmID, c SecretChange) (needsRestart bool, err error) {
	values, names, err := s.parseSecrets(c)
	if err != nil {
		return false, err
	}
	err = s.store.db.Tx(ctx, "swarm.set_secrets", func(ctx context.Context, tx *database.Tx) error {
		if err := tx.Lock(ctx, database.LockSwarm, string(id)); err != nil {
			return err
		}
		sw, err := find(ctx, tx, actor.AccountID, id)
		if err != nil {
			return err
		}
		if err := s.vault.Delete(ctx, tx, actor.AccountID, vault.OfSwarm(id), names...); err != nil {
			return err
		}
		if len(values) > 0 {
			if err := s.vault.Put(ctx, tx, actor.AccountID, vault.OfSwarm(id), values); err != nil {
				return err
			}
		}
		data := map[string]any{"set": slices.Sorted(maps.Keys(values)), "deleted": names, "origins": originsOf(values)}
		return s.appendEvent(ctx, tx, actor, sw.ID, "swarm.secrets_updated", data)
	})
	if err != nil {
		return false, err
	}
	return s.agents.SwarmNeedsRestart(ctx, actor.AccountID, id)
}

func originsOf(secrets map[provider.SecretName]vault.Secret) map[provider.SecretName]provider.Origin {
	origins := make(map[provider.SecretName]provider.Origin, len(secrets))
	for name, s := range secrets {
		origins[name] = s.Origin()
	}
	return origins
}

// parseSecrets returns the secrets to set, bound to their origins, and the names to
// delete, as the vault names them. Faults: Invalid.
func (s *Service) parseSecrets(c SecretChange) (map[provider.SecretName]vault.Secret, []provider.SecretName, error) {
	fields := fault.Fields{}
	if len(c.Set)+len(c.Remove) == 0 {
		fields.Add("secrets", "must name a secret to set, unless deleteSecrets names one to remove")
	}
	if c.BaseURL != "" && len(c.Set) == 0 {
		fields.Add("baseUrl", "is the endpoint of the keys in secrets, which is empty: set the keys again")
	}
	if c.BaseURL != "" {
		if err := s.urls.CheckURL(c.BaseURL); err != nil {
			fields.Add("baseUrl", "%s", err)
		}
	}
	values := map[provider.SecretName]vault.Secret{}
	for _, written := range slices.Sorted(maps.Keys(c.Set)) {
		name, problem := provider.ParseSharedSecret(written)
		if problem != "" {
			fields.Add("secrets", "%s", problem)
			continue
		}
		if _, twice := values[name]; twice {
			fields.Add("secrets."+written, "is set twice, in both spellings: set it once")
			continue
		}
		value := c.Set[written].Reveal()
		if problem := cmp.Or(name.CheckValue(value), name.CheckKey(value, c.BaseURL)); problem != "" {
			fields.Add("secrets."+written, "%s", problem)
		}
		values[name] = c.Set[written]
	}
	names := parseDeletions(fields, values, c.Remove)
	if err := fields.Err(); err != nil {
		return nil, nil, err
	}
	for name, value := range values {
		p, _ := name.OfKey() // a swarm shares nothing else
		origin, err := p.Origin(c.BaseURL)
		if err != nil {
			return nil, nil, fmt.Errorf("bind %s: %w", name, err)
		}
		values[name] = value.For(origin)
	}
	return values, names, nil
}

func parseDeletions(fields fault.Fields, values map[provider.SecretName]vault.Secret, remove []string) []provider.SecretName {
	names := []provider.SecretName{}
	for _, written := range remove {
		name, problem := provider.ParseSharedSecret(written)
		if problem != "" {
			fields.Add("deleteSecrets", "%s", problem)
			continue
		}
		if _, both := values[name]; both {
			fields.Add("deleteSecrets", "names %s, which secrets sets", name)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
