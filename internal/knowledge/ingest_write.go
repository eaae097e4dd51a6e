package knowledge

import (
	"context"
	"fmt"
	"slices"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

// What one transaction writes at most, so that it holds the write lock for some
// milliseconds: the full-text index takes about a millisecond for 4,000 characters of
// unusual words.
const (
	maxWrittenEntries = 50
	maxWrittenBytes   = 16 << 10 // of text; a single text may be longer
)

// writeStep is what one transaction of an ingest changes.
type writeStep struct {
	add    []Entry
	first  int // the index of add[0] in the plan
	update []Entry
	shares []Entry
	remove []oldEntry
}

// steps divides the changes of a plan. There is at least one step. What is removed comes
// last: if the server dies in between, too much is there and the request can be repeated.
func (p *ingestPlan) steps() []writeStep {
	all := []writeStep{{}}
	entries, bytes := 0, 0
	next := func(size int) *writeStep { // the step for one more entry
		if entries == maxWrittenEntries || bytes > 0 && bytes+size > maxWrittenBytes {
			all = append(all, writeStep{})
			entries, bytes = 0, 0
		}
		entries, bytes = entries+1, bytes+size
		return &all[len(all)-1]
	}
	for i, e := range p.add {
		step := next(len(e.Text))
		if len(step.add) == 0 {
			step.first = i
		}
		step.add = append(step.add, e)
	}
	for _, e := range p.update {
		step := next(MaxMetadata / 4) // an update of no text
		step.update = append(step.update, e)
	}
	for _, e := range p.shares {
		step := next(MaxMetadata / 4)
		step.shares = append(step.shares, e)
	}
	for _, e := range p.remove {
		step := next(0)
		step.remove = append(step.remove, oldEntry{e.ID, e.Source})
	}
	return all
}

// write makes the planned changes, if the scope has not changed since it was read, and
// records in stored which entries are stored. After the first of several transactions it
// goes on even if ctx ends.
// Errors: errScopeChanged.
func (s *Service) write(ctx context.Context, actor identity.Actor, scope Scope, in IngestRequest, p *ingestPlan, stored map[string]int) error {
	p.result.Deleted = 0
	steps := p.steps()
	for i, step := range steps {
		deleted := 0
		err := s.db.Tx(ctx, "knowledge.ingest", func(ctx context.Context, tx *database.Tx) error {
			if err := tx.Lock(ctx, database.LockKnowledge, scope.id); err != nil {
				return err
			}
			space, last, err := s.lockCurrent(ctx, tx, actor.AccountID, scope, in.Target)
			if err != nil {
				return err
			}
			if last != p.lastSeq {
				return errScopeChanged
			}
			if i == 0 {
				if err := p.checkMatched(ctx, tx, space); err != nil {
					return err
				}
				if err := s.checkQuota(ctx, tx, actor.AccountID, p); err != nil {
					return err
				}
			}
			if deleted, err = p.writeStep(ctx, tx, space, step); err != nil || i < len(steps)-1 || in.imported {
				return err
			}
			return s.appendEvent(ctx, tx, actor, scope, "knowledge.ingested", map[string]any{
				"stored": p.result.Stored, "skipped": p.result.Skipped, "deleted": p.result.Deleted + deleted, "sources": in.sources()})
		})
		if err != nil {
			return err
		}
		ctx = context.WithoutCancel(ctx)
		p.lastSeq += int64(len(step.add))
		p.result.Deleted += deleted
		for j, e := range step.add {
			stored[e.ID] = p.chunks[step.first+j]
		}
	}
	return nil
}

// checkQuota returns nil if an account may store what a plan adds. Faults: PlanLimit.
func (s *Service) checkQuota(ctx context.Context, tx *database.Tx, account identity.AccountID, p *ingestPlan) error {
	if s.quota == nil || len(p.add)+len(p.shares) == 0 {
		return nil
	}
	more := 0
	for _, e := range slices.Concat(p.add, p.shares) {
		metadata, err := encodeMetadata(e.Metadata)
		if err != nil {
			return err
		}
		more += len(metadata)
	}
	for _, e := range p.add {
		more += len(e.Text)
	}
	for _, e := range p.shares {
		more += len(e.Source)
	}
	return s.quota.CheckStorage(ctx, tx, account, int64(more))
}

// checkMatched checks that the entries which chunks duplicate are still there.
// Errors: errScopeChanged.
func (p *ingestPlan) checkMatched(ctx context.Context, tx *database.Tx, space vectorSpace) error {
	ids := slices.Compact(slices.Sorted(slices.Values(p.matched)))
	if len(ids) == 0 {
		return nil
	}
	n, err := database.One(ctx, tx, database.Scalar[int],
		`SELECT count(*) FROM knowledge_entries WHERE account_id = $1 AND scope = $2 AND id IN `+placeholders(3, len(ids)),
		withArgs([]any{space.account, space.scope}, ids)...)
	if err != nil {
		return fmt.Errorf("find the duplicates again: %w", err)
	}
	if n != len(ids) {
		return errScopeChanged
	}
	return nil
}

// writeStep makes the changes of one step, and returns how many entries it has deleted.
// New entries get the seqs after the last one.
func (p *ingestPlan) writeStep(ctx context.Context, tx *database.Tx, space vectorSpace, step writeStep) (deleted int, err error) {
	for _, e := range step.update {
		if err := setMetadata(ctx, tx, space.account, e.ID, e.Metadata, e.UpdatedAt); err != nil {
			return 0, fmt.Errorf("update entry %s: %w", e.ID, err)
		}
	}
	if len(step.add) > 0 {
		last := p.lastSeq
		for i := range step.add {
			last++
			step.add[i].seq = last
		}
		if err := insertEntries(ctx, tx, space, step.add); err != nil {
			return 0, fmt.Errorf("insert entries: %w", err)
		}
		if err := insertVectors(ctx, tx, space, step.add, p.vectors[step.first:step.first+len(step.add)]); err != nil {
			return 0, err
		}
		if err := setLastSeq(ctx, tx, space.account, space.scope, last); err != nil {
			return 0, fmt.Errorf("set the last seq: %w", err)
		}
		if err := setCoverage(ctx, tx, space, last); err != nil {
			return 0, err
		}
	}
	for _, e := range step.shares {
		if err := putSource(ctx, tx, space, e); err != nil {
			return 0, err
		}
	}
	if len(step.remove) == 0 {
		return 0, nil
	}
	tx.Erase()
	n, err := removeFromSources(ctx, tx, space, step.remove)
	return int(n), err
}
