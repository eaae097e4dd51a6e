package workspace

import (
	"context"
	"database/sql"
	"strings"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
)

// Rules lists an agent's rules by name, without content.
func (s *Service) Rules(ctx context.Context, accountID, agentID string) ([]Version, error) {
	if err := exist(ctx, s.DB, accountID, agentID); err != nil {
		return nil, err
	}
	return liveRules(ctx, s.DB, accountID, agentID)
}

// Rule returns a rule with its content. The name may end in .md.
// Faults: Invalid, for a name that no rule can have; NotFound.
func (s *Service) Rule(ctx context.Context, accountID, agentID, name string) (Version, error) {
	d, err := RuleDocument(name)
	if err != nil {
		return Version{}, err
	}
	return rule(ctx, s.DB, accountID, agentID, d)
}

// PutRule makes a rule or replaces it, as SetSoul does SOUL.md. With an
// expectedHash there must be such a rule.
// Faults: Invalid; Conflict, also if the agent has MaxRules rules already or one
// whose name differs in case only.
func (s *Service) PutRule(ctx context.Context, accountID, agentID, actor, name, content, expectedHash string) (Version, error) {
	d, err := RuleDocument(name)
	if err != nil {
		return Version{}, err
	}
	return s.edit(ctx, change{accountID: accountID, agentID: agentID, actor: actor, doc: d, content: content}, expectedHash)
}

// DeleteRule removes a rule; its versions stay and can be restored. It returns
// the rule's name without .md. Faults: Invalid, NotFound.
func (s *Service) DeleteRule(ctx context.Context, accountID, agentID, actor, name string) (string, error) {
	d, err := RuleDocument(name)
	if err != nil {
		return "", err
	}
	return d.Rule(), s.DB.Tx(ctx, func(tx *database.Tx) error {
		if _, err := rule(ctx, tx, accountID, agentID, d); err != nil {
			return err
		}
		_, err := s.write(ctx, tx, change{accountID: accountID, agentID: agentID, actor: actor, doc: d, deleted: true})
		return err
	})
}

// rule is a rule's live version, unless it is deleted.
func rule(ctx context.Context, q database.Querier, accountID, agentID string, d Document) (Version, error) {
	v, err := liveOrNone(ctx, q, accountID, agentID, d)
	if err == nil && v.Deleted {
		err = sql.ErrNoRows
	}
	if err != nil {
		return Version{}, noDocument(ctx, q, accountID, agentID, d, err)
	}
	return v, nil
}

// newRule says whether an agent may have one more rule of that name.
func newRule(ctx context.Context, tx *database.Tx, accountID, agentID string, d Document) error {
	if err := exist(ctx, tx, accountID, agentID); err != nil {
		return err
	}
	rules, err := liveRules(ctx, tx, accountID, agentID)
	if err != nil {
		return err
	}
	return fits(rules, d)
}

// fits says whether a new rule may join rules.
func fits(rules []Version, d Document) error {
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
