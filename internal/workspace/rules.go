package workspace

import (
	"context"
	"database/sql"
	"strings"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// currentRule returns the current version of a rule. Faults: NotFound, also if the rule
// is deleted.
func (s *Store) currentRule(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID, d Document) (Version, error) {
	v, err := s.findCurrent(ctx, q, account, agent, d)
	if err == nil && v.Deleted {
		err = sql.ErrNoRows
	}
	if err != nil {
		return Version{}, ruleNotFound(ctx, q, account, agent, d, err)
	}
	return v, nil
}

// checkNewRule returns nil if an agent may get the new rule d.
// Faults: NotFound, if there is no such agent; Conflict.
func checkNewRule(ctx context.Context, tx *database.Tx, account identity.AccountID, agent identity.AgentID, d Document) error {
	if err := checkAgent(ctx, tx, account, agent); err != nil {
		return err
	}
	rules, err := currentRules(ctx, tx, account, agent)
	if err != nil {
		return err
	}
	return checkAddRule(rules, d)
}

// checkAddRule returns nil if the new rule d may be added to an agent's rules.
// Faults: Conflict.
func checkAddRule(rules []Version, d Document) error {
	for _, r := range rules {
		if strings.EqualFold(string(r.Document), string(d)) {
			return fault.New(fault.Conflict, "The agent has a rule named %s, which differs from %s in case only. Use that name, or delete it first.", r.Document.Rule(), d.Rule())
		}
	}
	if len(rules) >= MaxRules {
		return fault.New(fault.Conflict, "The agent has %d rules already, the most an agent may have. Delete one first.", len(rules))
	}
	return nil
}
