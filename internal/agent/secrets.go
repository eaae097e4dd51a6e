package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

// maxSecrets is how many secrets an agent may have.
const maxSecrets = 64

// secretChange is a request to set and delete secrets.
type secretChange struct {
	set     secretValues
	deleted []provider.SecretName
}

// secretValues are the values of secrets.
type secretValues map[provider.SecretName]vault.Secret

// SetSecrets sets and deletes secrets of an agent, all or nothing; they can never be
// read again. A provider's key is bound to the origin that the agent calls now, and used
// from its next model call on; a channel's new token is used at once. needsRestart
// reports whether others wait for a restart.
// Faults: NotFound; Invalid, naming every invalid field, also if no provider key
// would be left; Conflict, if the data key is damaged and other secrets are lost with it, or
// if another agent has a channel token.
func (s *Service) SetSecrets(ctx context.Context, actor identity.Actor, id identity.AgentID, in client.SecretsRequest) (needsRestart bool, err error) {
	c, problems := parseSecretChange(in)
	var a Agent
	err = s.db.Tx(ctx, "agent.set_secrets", func(ctx context.Context, tx *database.Tx) (err error) {
		if err := tx.Lock(ctx, database.LockAgent, string(id)); err != nil {
			return err
		}
		if a, err = s.store.Find(ctx, tx, actor.AccountID, id); err != nil {
			return err
		}
		checkKeys(problems, a.Config, in.Secrets)
		if err := problems.Err(); err != nil {
			return err
		}
		if err := s.changeSecrets(ctx, tx, actor, a, c); err != nil {
			return err
		}
		if needsRestart, err = s.gateways.NeedsRestart(ctx, tx, a); err != nil {
			return err
		}
		s.events.NotifyAfterCommit(tx, event.ReconcileTopic(id))
		return nil
	})
	if err != nil || !needsRestart || !a.IsRunning() {
		return needsRestart, err
	}
	return s.syncChange(ctx, a), nil
}

// SecretOrigins returns the names of an agent's own secrets, each with the origin that it
// may be sent to, which only keys of model providers have. Faults: NotFound.
func (s *Service) SecretOrigins(ctx context.Context, account identity.AccountID, id identity.AgentID) (map[provider.SecretName]provider.Origin, error) {
	a, err := s.store.Find(ctx, s.db, account, id)
	if err != nil {
		return nil, err
	}
	origins, err := s.vault.Origins(ctx, s.db, a.AccountID, vault.OfAgent(id))
	if err != nil {
		return nil, fmt.Errorf("list the secrets of agent %s: %w", id, err)
	}
	return origins[vault.OfAgent(id)], nil
}

// parseSecretChange returns the change that a caller has sent, and what is wrong with it.
func parseSecretChange(in client.SecretsRequest) (secretChange, fault.Fields) {
	problems := fault.Fields{}
	c := secretChange{set: parseSecrets(problems, in.Secrets), deleted: []provider.SecretName{}}
	for i, written := range in.DeleteSecrets {
		name, problem := provider.ParseAgentSecret(written, openclaw.ReservedEnv)
		if _, both := c.set[name]; both && problem == "" {
			problem = "is set in the same request"
		}
		if problem != "" {
			problems.Add(fmt.Sprintf("deleteSecrets[%d]", i), "%s", problem)
			continue
		}
		c.deleted = append(c.deleted, name)
	}
	if len(in.Secrets) == 0 && len(in.DeleteSecrets) == 0 {
		problems.Add("secrets", "is empty, and so is deleteSecrets: name a secret to set or to delete")
	}
	return c, problems
}

// checkKeys adds a problem for every key among the secrets that a caller sent for an agent
// with this config and that is no key of the provider that the agent calls.
func checkKeys(problems fault.Fields, c Config, written map[string]string) {
	for w, value := range written {
		name, problem := provider.ParseAgentSecret(w, openclaw.ReservedEnv)
		if p, isKey := name.OfKey(); problem == "" && isKey {
			if problem := name.CheckKey(value, c.Endpoint(p.Name)); problem != "" {
				problems.Add("secrets."+w, "%s", problem)
			}
		}
	}
}

// parseSecrets returns what a caller sent under the names that the vault uses, and
// adds a problem for every invalid field.
func parseSecrets(problems fault.Fields, written map[string]string) secretValues {
	secrets := make(secretValues, len(written))
	if len(written) > maxSecrets {
		problems.Add("secrets", "must have at most %d entries", maxSecrets)
	}
	for w, value := range written {
		name, problem := provider.ParseAgentSecret(w, openclaw.ReservedEnv)
		if problem == "" {
			problem = name.CheckValue(value)
		}
		if _, twice := secrets[name]; twice && problem == "" {
			problem = "is set twice, in two spellings: set it once"
		}
		if problem != "" {
			problems.Add("secrets."+w, "%s", problem)
			continue
		}
		secrets[name] = vault.NewSecret(value)
	}
	return secrets
}

// changeSecrets makes a change with its event. Faults: Invalid; Conflict.
func (s *Service) changeSecrets(ctx context.Context, tx *database.Tx, actor identity.Actor, a Agent, c secretChange) error {
	owner := vault.OfAgent(a.ID)
	bound, err := a.Config.bind(c.set)
	if err != nil {
		return err
	}
	if err := s.vault.Delete(ctx, tx, a.AccountID, owner, c.deleted...); err != nil {
		return err
	}
	if err := s.vault.Put(ctx, tx, a.AccountID, owner, bound); err != nil {
		return claimFault(a.AccountID, err)
	}
	names, err := s.secretNames(ctx, tx, a)
	if err != nil {
		return err
	}
	problems := fault.Fields{}
	if len(names) > maxSecrets {
		problems.Add("secrets", "would be %d; an agent may have %d", len(names), maxSecrets)
	}
	checkProvider(problems, a.Config, names)
	if err := problems.Err(); err != nil {
		return err
	}
	return s.appendEvent(ctx, tx, actor, a.ID, "agent.secrets_updated", map[string]any{
		"set": slices.Sorted(maps.Keys(bound)), "deleted": c.deleted, "origins": bound.origins(),
	})
}

// secretNames is a set of names of secrets.
type secretNames map[provider.SecretName]bool

func (n secretNames) has(name provider.SecretName) bool { return n[name] }

// secretNames returns the names of the agent's own secrets and of its swarm's.
func (s *Service) secretNames(ctx context.Context, q database.Reader, a Agent) (secretNames, error) {
	own, shared, err := s.secretOrigins(ctx, q, a)
	if err != nil {
		return nil, err
	}
	all := secretNames{}
	for _, secrets := range []Origins{own, shared} {
		for n := range secrets {
			all[n] = true
		}
	}
	return all, nil
}

// checkProvider adds a problem if an agent with these secrets cannot call a model.
func checkProvider(problems fault.Fields, c Config, names secretNames) {
	if _, ok := provider.Choose(c.Provider(), names.has); ok {
		return
	}
	if p, ok := provider.Find(c.Provider()); ok {
		problems.Add("secrets."+string(p.Secret), "is required, since config.llmProvider is %q", p.Name)
		return
	}
	problems.Add("secrets", "must have at least one of anthropicApiKey, openaiApiKey or googleApiKey")
}
