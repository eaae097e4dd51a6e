package knowledge

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

// Knowledge follows the life of agents and swarms like this:
//
//   - An agent that joins a swarm keeps the entries that it stored before. Entries
//     stored from then on belong to the swarm. The agent searches both.
//   - An agent that leaves a swarm uses its own entries again. The swarm keeps its own.
//   - When a swarm is deleted, every agent in it gets the swarm's entries. If no agent
//     is in it, the entries stay readable and deletable under the swarm's id.
//   - When an agent is deleted, its own entries are deleted too.
//
// SwarmDeleted and AgentDeleted are called in the transactions of these deletions.

// PassOn moves a swarm's entries to the first of the agents in it and copies them to the
// others, some at a time. Each entry is either still the swarm's or has got to all of them, so
// a search of an agent in the swarm finds it once. PassOn precedes SwarmDeleted, which then
// has little left to do.
func (s *Service) PassOn(ctx context.Context, account identity.AccountID, swarm identity.SwarmID, agents []identity.AgentID) error {
	if len(agents) == 0 {
		return nil
	}
	limit := max(1, maxWrittenEntries/len(agents))
	for n := 1; n > 0; {
		err := s.db.Tx(ctx, "knowledge.pass_on", func(ctx context.Context, tx *database.Tx) (err error) {
			n, err = passOn(ctx, tx, account, SwarmScope(swarm), agents, limit)
			return err
		})
		if err != nil {
			return fmt.Errorf("pass on the knowledge of swarm %s: %w", swarm, err)
		}
	}
	return nil
}

// placedEntry is an entry with its position in its scope.
type placedEntry struct {
	id  string
	seq int64
}

// passOn moves the first entries of a scope to the first of the agents and copies them to the
// others: at most limit, and fewer if they have many sources. It returns how many there were.
func passOn(ctx context.Context, tx *database.Tx, account identity.AccountID, from Scope, agents []identity.AgentID, limit int) (int, error) {
	source, err := scopeNumber(ctx, tx, account, from)
	if err != nil || source == 0 {
		return 0, err
	}
	entries, err := database.All(ctx, tx, func(r database.Row) (e placedEntry, err error) { return e, r.Scan(&e.id, &e.seq) },
		`SELECT id, seq FROM knowledge_entries WHERE account_id = $1 AND scope = $2 ORDER BY seq LIMIT $3`, account, source, limit)
	if err != nil || len(entries) == 0 {
		return 0, err
	}
	entries, err = limitSources(ctx, tx, vectorSpace{account: account, scope: source}, entries, limit)
	if err != nil {
		return 0, err
	}
	covered, err := coverages(ctx, tx, account, source)
	if err != nil {
		return 0, err
	}
	for i := len(agents) - 1; i >= 0; i-- { // the first takes the entries themselves, after the others have their copies
		target := lockedScope{}
		if target.number, target.lastSeq, err = lockScope(ctx, tx, account, AgentScope(agents[i])); err != nil {
			return 0, err
		}
		for n, e := range entries {
			at := target.lastSeq + int64(n) + 1
			if i > 0 {
				err = copyEntry(ctx, tx, account, e.id, lockedScope{target.number, at - e.seq})
			} else {
				_, err = tx.ExecContext(ctx, `UPDATE knowledge_entries SET scope = $3, seq = $4 WHERE account_id = $1 AND id = $2`, account, e.id, target.number, at)
			}
			if err != nil {
				return 0, fmt.Errorf("pass on an entry: %w", err)
			}
		}
		if err := coverAppended(ctx, tx, account, target, entries, covered); err != nil {
			return 0, err
		}
	}
	return len(entries), nil
}

// limitSources returns the first of the entries, with as few further sources in all as limit
// allows. There is at least one.
func limitSources(ctx context.Context, q database.Reader, space vectorSpace, entries []placedEntry, limit int) ([]placedEntry, error) {
	all := make([]string, len(entries))
	for i, e := range entries {
		all[i] = e.id
	}
	further, err := furtherSources(ctx, q, space, all)
	if err != nil {
		return nil, err
	}
	for i, n := 0, 0; i < len(entries); i++ {
		if n += len(further[entries[i].id]); i > 0 && n > limit {
			return entries[:i], nil
		}
	}
	return entries, nil
}

// coverAppended sets the last seq of a scope to which entries were appended, and the coverage
// of each model that covers both the scope and the entries.
func coverAppended(ctx context.Context, tx *database.Tx, account identity.AccountID, target lockedScope, entries []placedEntry, covered []modelCoverage) error {
	last := target.lastSeq + int64(len(entries))
	if err := setLastSeq(ctx, tx, account, target.number, last); err != nil {
		return fmt.Errorf("set the last seq: %w", err)
	}
	for _, c := range covered {
		space := vectorSpace{account: account, scope: target.number, model: c.model}
		current, err := coverage(ctx, tx, space)
		if err != nil {
			return err
		}
		if current < target.lastSeq || c.through < entries[len(entries)-1].seq {
			continue
		}
		if err := setCoverage(ctx, tx, space, last); err != nil {
			return err
		}
	}
	return nil
}

// SwarmDeleted moves a swarm's entries to the first of the agents in it and copies
// them to the others.
func (s *Service) SwarmDeleted(ctx context.Context, tx *database.Tx, account identity.AccountID, swarm identity.SwarmID, agents []identity.AgentID) error {
	if len(agents) == 0 {
		return nil
	}
	from := SwarmScope(swarm)
	for _, agent := range agents[1:] {
		if err := copyScope(ctx, tx, account, from, AgentScope(agent)); err != nil {
			return fmt.Errorf("copy the knowledge of swarm %s to agent %s: %w", swarm, agent, err)
		}
	}
	return moveScope(ctx, tx, account, from, AgentScope(agents[0]))
}

// EmptyAgent deletes an agent's own entries, some at a time. It precedes AgentDeleted, which
// then has little left to do.
func (s *Service) EmptyAgent(ctx context.Context, account identity.AccountID, agent identity.AgentID) error {
	number, err := scopeNumber(ctx, s.db, account, AgentScope(agent))
	if err != nil || number == 0 {
		return err
	}
	for n := int64(maxWrittenEntries); n == maxWrittenEntries; {
		err := s.db.Tx(ctx, "knowledge.empty_agent", func(ctx context.Context, tx *database.Tx) (err error) {
			n, err = deleteSome(ctx, tx, vectorSpace{account: account, scope: number}, "", maxWrittenEntries)
			return err
		})
		if err != nil {
			return fmt.Errorf("delete the knowledge of agent %s: %w", agent, err)
		}
	}
	return nil
}

// AgentDeleted deletes an agent's own entries.
func (s *Service) AgentDeleted(ctx context.Context, tx *database.Tx, actor identity.Actor, agent identity.AgentID) error {
	number, err := scopeNumber(ctx, tx, actor.AccountID, AgentScope(agent))
	if err != nil || number == 0 {
		return err
	}
	_, err = deleteAllEntries(ctx, tx, vectorSpace{account: actor.AccountID, scope: number})
	return err
}

// moveScope moves all entries of one scope to another. They keep their ids, their
// vectors and their order.
func moveScope(ctx context.Context, tx *database.Tx, account identity.AccountID, from, to Scope) error {
	source, target, err := lockScopes(ctx, tx, account, from, to)
	if err != nil || source.number == 0 || source.number == target.number {
		return err
	}
	// The moved seqs continue after the target's last, so both orders are kept.
	_, err = tx.ExecContext(ctx,
		`UPDATE knowledge_entries SET scope = $3, seq = seq + $4 WHERE account_id = $1 AND scope = $2`,
		account, source.number, target.number, target.lastSeq)
	if err != nil {
		return fmt.Errorf("move entries: %w", err)
	}
	return appendCoverage(ctx, tx, account, source, target)
}

type lockedScope struct{ number, lastSeq int64 }

// lockScopes locks two scopes. If nothing was ever stored in from, source.number is 0.
func lockScopes(ctx context.Context, tx *database.Tx, account identity.AccountID, from, to Scope) (source, target lockedScope, err error) {
	if source.number, err = scopeNumber(ctx, tx, account, from); err != nil || source.number == 0 {
		return source, target, err
	}
	if source.number, source.lastSeq, err = lockScope(ctx, tx, account, from); err != nil {
		return source, target, err
	}
	target.number, target.lastSeq, err = lockScope(ctx, tx, account, to)
	return source, target, err
}

// appendCoverage raises the target's last seq by the source's, and its coverage by
// each model that covered the whole target before.
func appendCoverage(ctx context.Context, tx *database.Tx, account identity.AccountID, source, target lockedScope) error {
	if err := setLastSeq(ctx, tx, account, target.number, target.lastSeq+source.lastSeq); err != nil {
		return fmt.Errorf("set the last seq: %w", err)
	}
	all, err := coverages(ctx, tx, account, source.number)
	if err != nil {
		return err
	}
	for _, c := range all {
		space := vectorSpace{account: account, scope: target.number, model: c.model}
		current, err := coverage(ctx, tx, space)
		if err != nil {
			return err
		}
		if current < target.lastSeq {
			continue // some of the target's own entries, which come first, have no vector
		}
		if err := setCoverage(ctx, tx, space, target.lastSeq+c.through); err != nil {
			return err
		}
	}
	return nil
}

// modelCoverage is the seq up to which every entry of a scope has a vector of the model.
type modelCoverage struct {
	model   string
	through int64
}

func coverages(ctx context.Context, q database.Reader, account identity.AccountID, scope int64) ([]modelCoverage, error) {
	all, err := database.All(ctx, q, func(r database.Row) (c modelCoverage, err error) { return c, r.Scan(&c.model, &c.through) },
		`SELECT model, through_seq FROM knowledge_coverage WHERE account_id = $1 AND scope = $2`, account, scope)
	if err != nil {
		return nil, fmt.Errorf("read the coverage: %w", err)
	}
	return all, nil
}

// copyScope copies all entries of one scope, with their vectors, to another under new
// ids.
func copyScope(ctx context.Context, tx *database.Tx, account identity.AccountID, from, to Scope) error {
	source, target, err := lockScopes(ctx, tx, account, from, to)
	if err != nil || source.number == 0 || source.number == target.number {
		return err
	}
	ids, err := database.All(ctx, tx, database.Scalar[string],
		`SELECT id FROM knowledge_entries WHERE account_id = $1 AND scope = $2 ORDER BY id`, account, source.number)
	if err != nil {
		return fmt.Errorf("list entries: %w", err)
	}
	for _, id := range ids {
		if err := copyEntry(ctx, tx, account, id, target); err != nil {
			return err
		}
	}
	return appendCoverage(ctx, tx, account, source, target)
}

func copyEntry(ctx context.Context, tx *database.Tx, account identity.AccountID, id string, target lockedScope) error {
	copied, err := uuid.NewV7()
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx,
		`INSERT INTO knowledge_entries (id, account_id, scope, seq, text, source, metadata, created_at, updated_at)
		 SELECT $3, account_id, $4, seq + $5, text, source, metadata, created_at, updated_at
		 FROM knowledge_entries WHERE account_id = $1 AND id = $2`,
		account, id, copied.String(), target.number, target.lastSeq)
	if err != nil {
		return fmt.Errorf("copy an entry: %w", err)
	}
	_, err = tx.ExecContext(ctx,
		`INSERT INTO knowledge_sources (account_id, scope, entry_id, source, metadata, created_at, updated_at)
		 SELECT account_id, $4, $3, source, metadata, created_at, updated_at FROM knowledge_sources WHERE account_id = $1 AND entry_id = $2`,
		account, id, copied.String(), target.number)
	if err != nil {
		return fmt.Errorf("copy the sources of an entry: %w", err)
	}
	_, err = tx.ExecContext(ctx,
		`INSERT INTO knowledge_vectors (account_id, entry_id, model, dimension, vector)
		 SELECT account_id, $3, model, dimension, vector FROM knowledge_vectors WHERE account_id = $1 AND entry_id = $2`,
		account, id, copied.String())
	if err != nil {
		return fmt.Errorf("copy a vector: %w", err)
	}
	return nil
}
