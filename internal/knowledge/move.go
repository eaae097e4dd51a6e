package knowledge

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"agento.host/agento/internal/database"
)

// What happens to knowledge when agents and swarms come and go:
//
//   - An agent that joins a swarm keeps what it stored before. What is stored from
//     then on is the swarm's. The agent searches both.
//   - An agent that leaves has its own knowledge back; the swarm keeps its own.
//   - A swarm that is deleted leaves its knowledge to every agent that was in it.
//     If there was none, it stays readable and deletable under the swarm's id.
//   - An agent that is deleted takes its own knowledge with it.
//
// The hooks below run inside the transactions that do these things.

// SwarmDeleted gives a swarm's knowledge to the agents that are in it.
func (s *Service) SwarmDeleted(ctx context.Context, tx *database.Tx, accountID, swarmID string, agentIDs []string) error {
	if len(agentIDs) == 0 {
		return nil
	}
	from := Scope{Swarm, swarmID}
	for _, id := range agentIDs[1:] {
		if err := copyScope(ctx, tx, accountID, from, Scope{Agent, id}); err != nil {
			return fmt.Errorf("copy the knowledge of swarm %s to agent %s: %w", swarmID, id, err)
		}
	}
	return s.MoveScope(ctx, tx, accountID, from, Scope{Agent, agentIDs[0]})
}

// AgentDeleted deletes what an agent stored for itself.
func (s *Service) AgentDeleted(ctx context.Context, tx *database.Tx, accountID, agentID string) error {
	number, err := scopeNumber(ctx, tx, accountID, Scope{Agent, agentID})
	if err != nil || number == 0 {
		return err
	}
	_, err = removeAll(ctx, tx, space{accountID: accountID, number: number})
	return err
}

// MoveScope gives all entries of one scope to another, with their ids, their
// vectors and their order.
func (s *Service) MoveScope(ctx context.Context, tx *database.Tx, accountID string, from, to Scope) error {
	source, target, err := bothScopes(ctx, tx, accountID, from, to)
	if err != nil || source.number == 0 || source.number == target.number {
		return err
	}
	// The numbers go on after the target's last, so both orders are kept.
	_, err = tx.ExecContext(ctx,
		`UPDATE knowledge_entries SET scope = $3, seq = seq + $4 WHERE account_id = $1 AND scope = $2`,
		accountID, source.number, target.number, target.lastSeq)
	if err != nil {
		return fmt.Errorf("move entries: %w", err)
	}
	return appendCoverage(ctx, tx, accountID, source, target)
}

type openedScope struct{ number, lastSeq int64 }

// bothScopes opens two scopes; source has number 0 if nothing was stored there.
func bothScopes(ctx context.Context, tx *database.Tx, accountID string, from, to Scope) (source, target openedScope, err error) {
	if source.number, err = scopeNumber(ctx, tx, accountID, from); err != nil || source.number == 0 {
		return source, target, err
	}
	if source.number, source.lastSeq, err = openScope(ctx, tx, accountID, from); err != nil {
		return source, target, err
	}
	target.number, target.lastSeq, err = openScope(ctx, tx, accountID, to)
	return source, target, err
}

// appendCoverage raises the target's last seq by the source's, and its coverage by
// each model that covered all of the target before.
func appendCoverage(ctx context.Context, tx *database.Tx, accountID string, source, target openedScope) error {
	if err := setLastSeq(ctx, tx, accountID, target.number, target.lastSeq+source.lastSeq); err != nil {
		return fmt.Errorf("number the entries: %w", err)
	}
	type covered struct {
		model   string
		through int64
	}
	all, err := database.All(ctx, tx, func(r database.Row) (covered, error) {
		var c covered
		err := r.Scan(&c.model, &c.through)
		return c, err
	}, `SELECT model, through_seq FROM knowledge_coverage WHERE account_id = $1 AND scope = $2`, accountID, source.number)
	if err != nil {
		return fmt.Errorf("read the coverage: %w", err)
	}
	for _, c := range all {
		sp := space{accountID: accountID, number: target.number, model: c.model}
		now, err := coverage(ctx, tx, sp)
		if err != nil {
			return err
		}
		if now < target.lastSeq {
			continue // the target's own entries come first
		}
		if err := setCoverage(ctx, tx, sp, target.lastSeq+c.through); err != nil {
			return err
		}
	}
	return nil
}

// copyScope gives copies of all entries of one scope to another, under new ids.
func copyScope(ctx context.Context, tx *database.Tx, accountID string, from, to Scope) error {
	source, target, err := bothScopes(ctx, tx, accountID, from, to)
	if err != nil || source.number == 0 || source.number == target.number {
		return err
	}
	ids, err := database.All(ctx, tx, database.Scalar[string],
		`SELECT id FROM knowledge_entries WHERE account_id = $1 AND scope = $2 ORDER BY id`, accountID, source.number)
	if err != nil {
		return fmt.Errorf("list entries: %w", err)
	}
	for _, id := range ids {
		twin, err := uuid.NewV7()
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx,
			`INSERT INTO knowledge_entries (id, account_id, scope, seq, text, source, metadata, created_at, updated_at)
			 SELECT $3, account_id, $4, seq + $5, text, source, metadata, created_at, updated_at
			 FROM knowledge_entries WHERE account_id = $1 AND id = $2`,
			accountID, id, twin.String(), target.number, target.lastSeq)
		if err != nil {
			return fmt.Errorf("copy an entry: %w", err)
		}
		_, err = tx.ExecContext(ctx,
			`INSERT INTO knowledge_vectors (account_id, entry_id, model, dimension, vector)
			 SELECT account_id, $3, model, dimension, vector FROM knowledge_vectors WHERE account_id = $1 AND entry_id = $2`,
			accountID, id, twin.String())
		if err != nil {
			return fmt.Errorf("copy a vector: %w", err)
		}
	}
	return appendCoverage(ctx, tx, accountID, source, target)
}
