package knowledge

import (
	"context"
	"fmt"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

// This file writes the knowledge of an agent into an archive and reads it from one.

// Export calls yield with each text that an agent searches, once for each of its sources, in
// the order in which they were stored: first its own, then those of its swarm. An entry that
// exists the whole time is yielded exactly once for each source, even if others are stored and
// deleted meanwhile. Errors: yield's. Faults: NotFound.
func (s *Service) Export(ctx context.Context, account identity.AccountID, agent identity.AgentID, yield func(Chunk) error) error {
	scope, err := s.scopes.Resolve(ctx, account, Target{AgentID: agent})
	if err != nil {
		return err
	}
	searched := []Scope{AgentScope(agent)}
	if scope.kind == swarmKind {
		searched = append(searched, scope)
	}
	for _, scope := range searched {
		space, err := s.vectorSpace(ctx, account, scope)
		if err != nil {
			return err
		}
		if err := s.exportScope(ctx, space, yield); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) exportScope(ctx context.Context, space vectorSpace, yield func(Chunk) error) error {
	for after := ""; ; {
		entries, err := database.AllReadable(ctx, s.db, scanEntry, damaged,
			`SELECT `+entryColumns+` FROM knowledge_entries WHERE account_id = $1 AND scope = $2 AND id > $3 ORDER BY id LIMIT $4`,
			space.account, space.scope, after, MaxList)
		if err != nil {
			return fmt.Errorf("read knowledge: %w", err)
		}
		further, err := s.furtherEntries(ctx, space, ids(entries))
		if err != nil {
			return err
		}
		for _, e := range entries {
			after = e.ID
			for _, e := range append([]Entry{e}, further[e.ID]...) {
				if err := yield(Chunk{Text: e.Text, Source: e.Source, Metadata: e.Metadata}); err != nil {
					return err
				}
			}
		}
		if len(entries) < MaxList {
			return nil
		}
	}
}

// furtherEntries returns entries as their further sources have them, by id.
func (s *Service) furtherEntries(ctx context.Context, space vectorSpace, ids []string) (map[string][]Entry, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := database.AllReadable(ctx, s.db, scanEntry, damaged,
		`SELECT `+furtherColumns+` FROM knowledge_sources s JOIN knowledge_entries e ON e.id = s.entry_id
		 WHERE s.account_id = $1 AND s.scope = $2 AND s.entry_id IN `+placeholders(3, len(ids))+` ORDER BY s.created_at, s.source`,
		withArgs([]any{space.account, space.scope}, ids)...)
	if err != nil {
		return nil, fmt.Errorf("read the further sources of knowledge: %w", err)
	}
	further := map[string][]Entry{}
	for _, e := range rows {
		further[e.ID] = append(further[e.ID], e)
	}
	return further, nil
}

// ImportTarget returns the target of an ingest into an agent that is being imported: nobody
// sees it yet, and it is in no swarm. Such an ingest appends no event.
func ImportTarget(agent identity.AgentID) Target { return Target{AgentID: agent, imported: true} }

// CheckChunks returns everything that is wrong with the chunks of an ingest. Faults: Invalid.
func CheckChunks(chunks []Chunk) error { return IngestRequest{Chunks: chunks}.validate() }
