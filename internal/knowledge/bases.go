package knowledge

import (
	"context"
	"fmt"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// Base is the knowledge base of an agent or a swarm, and how much it has.
type Base struct {
	Target
	Entries int
	Bytes   int64 // of texts and metadata
}

// Bases returns the knowledge bases of an account that have entries, those with the most
// bytes first.
func (s *Service) Bases(ctx context.Context, account identity.AccountID) ([]Base, error) {
	all, err := database.All(ctx, s.db, func(r database.Row) (b Base, err error) {
		var kind scopeKind
		var id string
		err = r.Scan(&kind, &id, &b.Entries, &b.Bytes)
		if kind == swarmKind {
			b.SwarmID = identity.SwarmID(id)
		} else {
			b.AgentID = identity.AgentID(id)
		}
		return b, err
	}, `SELECT s.kind, s.target_id, CAST(z.entries AS BIGINT), CAST(z.bytes AS BIGINT) FROM knowledge_sizes z JOIN knowledge_scopes s ON s.number = z.scope
		WHERE z.account_id = $1 AND z.entries > 0 ORDER BY z.bytes DESC, s.number`, account)
	if err != nil {
		return nil, fmt.Errorf("list the knowledge bases: %w", err)
	}
	return all, nil
}

// Source is a source of entries of a knowledge base.
type Source struct {
	Name    string
	Entries int
}

// SourceRequest selects sources to list. A Limit of 0 means DefaultList.
type SourceRequest struct {
	Target
	Limit int
	After string // the last source of the page before; "": the first page
}

// Sources returns the sources of a knowledge base in the order of their names, and whether
// there are more. Faults: Invalid, NotFound.
func (s *Service) Sources(ctx context.Context, account identity.AccountID, in SourceRequest) (all []Source, more bool, err error) {
	if in.Limit == 0 {
		in.Limit = DefaultList
	}
	if in.Limit < 1 || in.Limit > MaxList {
		return nil, false, fault.Fields{"limit": fmt.Sprintf("must be from 1 to %d", MaxList)}.Err()
	}
	_, space, err := s.resolveStored(ctx, account, in.Target)
	if err != nil {
		return nil, false, err
	}
	all, err = database.All(ctx, s.db, func(r database.Row) (v Source, err error) { return v, r.Scan(&v.Name, &v.Entries) },
		`SELECT source, sum(n) FROM (
			SELECT source, count(*) AS n FROM knowledge_entries WHERE account_id = $1 AND scope = $2 AND source > $3 GROUP BY source
			UNION ALL SELECT source, count(*) AS n FROM knowledge_sources WHERE account_id = $1 AND scope = $2 AND source > $3 GROUP BY source
		 ) AS named GROUP BY source ORDER BY source LIMIT $4`, space.account, space.scope, in.After, in.Limit+1)
	if err != nil {
		return nil, false, fmt.Errorf("list the sources of knowledge: %w", err)
	}
	if len(all) > in.Limit {
		return all[:in.Limit], true, nil
	}
	return all, false, nil
}
