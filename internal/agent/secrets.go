package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/vault"
)

// SetSecrets sets and deletes secrets of an agent, all or nothing; they can never
// be read again. Provider keys hold from the agent's next call of its model on, and
// so does a channel's new token; the answer says whether others wait for a restart.
// Faults: NotFound; Invalid, naming every broken name, also if no provider key
// would be left.
func (s *Service) SetSecrets(ctx context.Context, who access.Principal, id string, in client.SecretsRequest) (needsRestart bool, err error) {
	set, drop, err := parseChange(in)
	if err != nil {
		return false, err
	}
	var a Agent
	err = s.DB.Tx(ctx, func(tx *database.Tx) (err error) {
		a, err = find(ctx, tx, string(who.AccountID), id)
		if err != nil {
			return err
		}
		if err := s.changeSecrets(ctx, tx, a, set, drop); err != nil {
			return err
		}
		if needsRestart, err = s.body.stale(ctx, tx, a); err != nil {
			return err
		}
		tx.AfterCommit(func() { s.reconciler.Nudge(id) })
		return s.tell(ctx, tx, who, id, "agent.secrets_updated", map[string]any{"set": slices.Sorted(maps.Keys(set)), "deleted": drop})
	})
	if err != nil || !needsRestart || !runs(a) {
		return needsRestart, err
	}
	return s.waitsStill(ctx, who, a), nil
}

// waitsStill says whether a change that is stored waits for a restart even after
// what can be given to a running gateway was given to it.
func (s *Service) waitsStill(ctx context.Context, who access.Principal, a Agent) bool {
	waits, err := s.Sync(ctx, who, a.ID)
	return waits || err != nil // the change stands, whatever became of the caller
}

func parseChange(in client.SecretsRequest) (set map[string]vault.Secret, drop []string, err error) {
	wrong := fault.Fields{}
	set = parseSecrets(wrong, "secrets.", in.Secrets)
	drop = []string{}
	for i, written := range in.DeleteSecrets {
		name, problem := SecretName(written)
		if _, both := set[name]; both && problem == "" {
			problem = "is set in the same request"
		}
		if problem != "" {
			wrong.Add(fmt.Sprintf("deleteSecrets[%d]", i), "%s", problem)
			continue
		}
		drop = append(drop, name)
	}
	if len(in.Secrets) == 0 && len(in.DeleteSecrets) == 0 {
		wrong.Add("secrets", "is empty, and so is deleteSecrets: say what to change")
	}
	return set, drop, wrong.Err()
}

func (s *Service) changeSecrets(ctx context.Context, tx *database.Tx, a Agent, set map[string]vault.Secret, drop []string) error {
	if err := putSecrets(ctx, s.Vault, tx, a, set); err != nil {
		return err
	}
	if err := deleteSecrets(ctx, s.Vault, tx, a, drop); err != nil {
		return err
	}
	names, err := s.body.secretNames(ctx, tx, a)
	if err != nil {
		return err
	}
	wrong := fault.Fields{}
	if len(names) > maxSecrets {
		wrong.Add("secrets", "would be %d; an agent may have %d", len(names), maxSecrets)
	}
	checkProvider(wrong, a.Config, names)
	return wrong.Err()
}
