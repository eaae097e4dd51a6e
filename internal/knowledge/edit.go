package knowledge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// Details is one entry with all of its sources.
type Details struct {
	Entry
	Further []Entry // as its further sources have it
}

// Get returns an entry. Faults: Invalid, NotFound.
func (s *Service) Get(ctx context.Context, account identity.AccountID, t Target, id string) (Details, error) {
	_, space, err := s.resolveStored(ctx, account, t)
	if err != nil {
		return Details{}, err
	}
	return s.find(ctx, s.db, space, id)
}

func (s *Service) find(ctx context.Context, q database.Reader, space vectorSpace, id string) (Details, error) {
	parsed, err := uuid.Parse(id)
	if err != nil {
		return Details{}, noEntry(id)
	}
	found, err := entriesBy(ctx, q, space, "id", []string{parsed.String()})
	if err != nil {
		return Details{}, fmt.Errorf("read entry %s: %w", id, err)
	}
	if len(found) == 0 {
		return Details{}, noEntry(id)
	}
	further, err := database.AllReadable(ctx, q, scanEntry, damaged,
		`SELECT `+furtherColumns+` FROM knowledge_sources s JOIN knowledge_entries e ON e.id = s.entry_id
		 WHERE s.account_id = $1 AND s.scope = $2 AND s.entry_id = $3 ORDER BY s.created_at, s.source`, space.account, space.scope, found[0].ID)
	if err != nil {
		return Details{}, fmt.Errorf("read the sources of entry %s: %w", id, err)
	}
	return Details{found[0], further}, nil
}

func noEntry(id string) error {
	return fault.New(fault.NotFound, "There is no knowledge entry %s here. GET /v1/knowledge lists them.", id)
}

// EditRequest changes an entry. Fields that are nil stay.
type EditRequest struct {
	Target
	ID       string
	Text     *string         // for all of its sources
	Source   *string         // the first one
	Metadata *map[string]any // of the first source
}

// Edit changes an entry, which keeps its id, its place in lists and its further sources. It is
// found by its new text at once.
// Faults: Invalid; NotFound; Conflict, if the knowledge base has the new text already, or
// keeps changing; PlanLimit; RateLimited and Unavailable, if too many requests wait; Upstream
// and UpstreamTimeout, if the embedder fails.
func (s *Service) Edit(ctx context.Context, actor identity.Actor, in EditRequest) (Details, error) {
	if in.Text == nil && in.Source == nil && in.Metadata == nil {
		return Details{}, fault.New(fault.Invalid, "Give at least one of text, source and metadata.")
	}
	for range maxIngestAttempts {
		d, err := s.tryEdit(ctx, actor, in)
		if !errors.Is(err, errScopeChanged) {
			return d, err
		}
	}
	return Details{}, fault.New(fault.Conflict, "This knowledge base keeps changing. Try again.")
}

// apply returns the entry as it is to be. Faults: Invalid.
func (in EditRequest) apply(e Entry, now time.Time) (Entry, error) {
	if in.Text != nil {
		e.Text = *in.Text
	}
	if in.Source != nil {
		e.Source = *in.Source
	}
	if in.Metadata != nil {
		e.Metadata = *in.Metadata
	}
	e.UpdatedAt = now
	fields := fault.Fields{}
	checkText(fields, "text", e.Text, MaxText)
	checkText(fields, "source", e.Source, MaxSource)
	checkMetadata(fields, "metadata", e.Metadata)
	return e, fields.Err()
}

func (s *Service) tryEdit(ctx context.Context, actor identity.Actor, in EditRequest) (Details, error) {
	scope, space, err := s.resolve(ctx, actor.AccountID, in.Target)
	if err != nil {
		return Details{}, err
	}
	old, err := s.find(ctx, s.db, space, in.ID)
	if err != nil {
		return Details{}, err
	}
	edited, err := in.apply(old.Entry, time.Now().UTC().Truncate(time.Millisecond))
	if err != nil {
		return Details{}, err
	}
	vectors, err := s.embedInTurn(ctx, actor.AccountID, []string{edited.Text})
	if err != nil {
		return Details{}, err
	}
	leave, err := s.enter(ctx, actor.AccountID, scope)
	if err != nil {
		return Details{}, err
	}
	defer leave()
	if err := s.embedMissing(ctx, s.embedder, space, nil); err != nil {
		return Details{}, err
	}
	read, err := lastSeq(ctx, s.db, space.account, space.scope)
	if err != nil {
		return Details{}, fmt.Errorf("read the last seq: %w", err)
	}
	if edited.Text != old.Text {
		if err := s.checkNoOther(ctx, space, vectors, edited); err != nil {
			return Details{}, err
		}
	}
	err = s.db.Tx(ctx, "knowledge.edit", func(ctx context.Context, tx *database.Tx) error {
		if err := tx.Lock(ctx, database.LockKnowledge, scope.id); err != nil {
			return err
		}
		space, last, err := s.lockCurrent(ctx, tx, actor.AccountID, scope, in.Target)
		if err != nil {
			return err
		}
		if last != read {
			return errScopeChanged
		}
		current, err := s.find(ctx, tx, space, in.ID)
		if err != nil {
			return err
		}
		if current.Text != old.Text || !current.UpdatedAt.Equal(old.UpdatedAt) {
			return errScopeChanged
		}
		if err := s.checkGrowth(ctx, tx, actor.AccountID, current.Entry, edited); err != nil {
			return err
		}
		if err := replaceEntry(ctx, tx, space, current, edited, vectors, last+1); err != nil {
			return err
		}
		tx.Erase()
		return s.appendEvent(ctx, tx, actor, scope, "knowledge.edited", map[string]any{"id": edited.ID, "source": edited.Source})
	})
	if err != nil {
		return Details{}, err
	}
	return s.find(ctx, s.db, space, in.ID)
}

// checkNoOther returns nil if no other entry has the text. Faults: Conflict.
func (s *Service) checkNoOther(ctx context.Context, space vectorSpace, vectors [][]float32, edited Entry) error {
	duplicates, err := s.findDuplicates(ctx, space, vectors, []string{normalizedClaim(edited.Text)}, nil)
	if err != nil {
		return err
	}
	for _, d := range duplicates[0] {
		if d.id != edited.ID {
			return fault.New(fault.Conflict, "The knowledge base has this text already, from %s. Delete one of the two entries.", d.source).With("matchedId", d.id)
		}
	}
	return nil
}

// checkGrowth returns nil if the account may store what an entry grows. Faults: PlanLimit.
func (s *Service) checkGrowth(ctx context.Context, tx *database.Tx, account identity.AccountID, old, edited Entry) error {
	sizes := [2]int{}
	for i, e := range []Entry{old, edited} {
		metadata, err := encodeMetadata(e.Metadata)
		if err != nil {
			return err
		}
		sizes[i] = len(e.Text) + len(metadata)
	}
	if s.quota == nil || sizes[1] <= sizes[0] {
		return nil
	}
	return s.quota.CheckStorage(ctx, tx, account, int64(sizes[1]-sizes[0]))
}

// replaceEntry stores an entry anew, at the end of the scope: what is kept of it in memory
// and in the index of words is found by its place, and is never changed.
func replaceEntry(ctx context.Context, tx *database.Tx, space vectorSpace, old Details, edited Entry, vectors [][]float32, seq int64) error {
	if _, err := deleteSome(ctx, tx, space, old.ID, 1); err != nil {
		return err
	}
	edited.seq = seq
	entries := []Entry{edited}
	if err := insertEntries(ctx, tx, space, entries); err != nil {
		return fmt.Errorf("store entry %s again: %w", edited.ID, err)
	}
	if err := insertVectors(ctx, tx, space, entries, vectors); err != nil {
		return err
	}
	for _, f := range slices.DeleteFunc(old.Further, func(f Entry) bool { return f.Source == edited.Source }) {
		if err := putSource(ctx, tx, space, f); err != nil {
			return err
		}
	}
	if err := setLastSeq(ctx, tx, space.account, space.scope, seq); err != nil {
		return fmt.Errorf("set the last seq: %w", err)
	}
	return setCoverage(ctx, tx, space, seq)
}
