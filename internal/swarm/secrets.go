package swarm

import (
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

// SecretNames lists the names of a swarm's secrets, such as anthropicApiKey, sorted.
// The API never returns their values. Faults: NotFound.
func (s *Service) SecretNames(ctx context.Context, account identity.AccountID, id identity.SwarmID) ([]provider.SecretName, error) {
	if err := s.store.Exists(ctx, s.store.db, account, id); err != nil {
		return nil, err
	}
	names, err := s.vault.Names(ctx, s.store.db, account, vault.OfSwarm(id))
	if err != nil {
		return nil, fmt.Errorf("list the secrets of swarm %s: %w", id, err)
	}
	return names, nil
}

// SetSecrets sets and deletes secrets that a swarm's agents share, all or none. It
// ignores names to delete that the swarm does not have. Names may be written
// anthropicApiKey or anthropic_api_key. It reports whether an agent of the swarm needs
// a restart. Faults: Invalid, naming every invalid field; NotFound; Conflict, if the data
// key is damaged and other secrets are lost with it.
func (s *Service) SetSecrets(ctx context.Context, actor identity.Actor, id identity.SwarmID, set map[string]vault.Secret, remove []string) (needsRestart bool, err error) {
	values, names, err := parseSecrets(set, remove)
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
		data := map[string]any{"set": slices.Sorted(maps.Keys(values)), "deleted": names}
		return s.appendEvent(ctx, tx, actor, sw.ID, "swarm.secrets_updated", data)
	})
	if err != nil {
		return false, err
	}
	return s.agents.SwarmNeedsRestart(ctx, actor.AccountID, id)
}

// parseSecrets returns the secrets to set and the names to delete, as the vault names
// them. Faults: Invalid.
func parseSecrets(set map[string]vault.Secret, remove []string) (map[provider.SecretName]vault.Secret, []provider.SecretName, error) {
	fields := fault.Fields{}
	if len(set)+len(remove) == 0 {
		fields.Add("secrets", "must name a secret to set, unless deleteSecrets names one to remove")
	}
	values := map[provider.SecretName]vault.Secret{}
	for _, written := range slices.Sorted(maps.Keys(set)) {
		name, problem := provider.ParseSharedSecret(written)
		if problem != "" {
			fields.Add("secrets", "%s", problem)
			continue
		}
		if _, twice := values[name]; twice {
			fields.Add("secrets."+written, "is set twice, in both spellings: set it once")
			continue
		}
		if problem := name.CheckValue(set[written].Reveal()); problem != "" {
			fields.Add("secrets."+written, "%s", problem)
		}
		values[name] = set[written]
	}
	return values, parseDeletions(fields, values, remove), fields.Err()
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
