package knowledge

import (
	"context"

	"github.com/google/uuid"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// DeleteRequest selects what to delete: the entries of a Source, which the other sources
// of an entry keep; the entry with an ID; or All entries, which needs Confirm. Exactly one of the three is set.
type DeleteRequest struct {
	Target
	Source  string
	ID      string
	All     bool
	Confirm bool
}

// Delete deletes entries and returns how many there were, or how many the source had. It holds the write lock for some
// at a time.
// Faults: Invalid; NotFound, also for an id that is not in the scope; RateLimited and
// Unavailable, if too many requests wait for their turn.
func (s *Service) Delete(ctx context.Context, actor identity.Actor, in DeleteRequest) (int, error) {
	column, value, err := in.condition()
	if err != nil {
		return 0, err
	}
	scope, space, err := s.resolveStored(ctx, actor.AccountID, in.Target)
	if err != nil {
		return 0, err
	}
	leave, err := s.enter(ctx, actor.AccountID, scope)
	if err != nil {
		return 0, err
	}
	defer leave()
	total := int64(0)
	for more := true; more; {
		var n int64
		err := s.db.Tx(ctx, "knowledge.delete", func(ctx context.Context, tx *database.Tx) error {
			if err := tx.Lock(ctx, database.LockKnowledge, scope.id); err != nil {
				return err
			}
			if column == "source" {
				n, err = deleteSomeOfSource(ctx, tx, space, value, maxWrittenEntries)
			} else {
				n, err = deleteSome(ctx, tx, space, value, maxWrittenEntries)
			}
			if err != nil {
				return err
			}
			if total += n; total == 0 && in.ID != "" {
				return fault.New(fault.NotFound, "There is no knowledge entry %s here. GET /v1/knowledge lists them.", in.ID)
			}
			tx.Erase()
			if more = n == maxWrittenEntries; more || total == 0 {
				return nil
			}
			data := map[string]any{"deleted": total}
			if column != "" {
				data[column] = value
			}
			return s.appendEvent(ctx, tx, actor, scope, "knowledge.deleted", data)
		})
		if err != nil {
			return 0, err
		}
		ctx = context.WithoutCancel(ctx) // half of a deletion would be in no event
	}
	return int(total), nil
}

// condition returns the column and the value that select the entries. For All both
// are empty. Faults: Invalid.
func (in DeleteRequest) condition() (column, value string, err error) {
	selectors := 0
	for _, set := range []bool{in.Source != "", in.ID != "", in.All} {
		if set {
			selectors++
		}
	}
	switch {
	case selectors == 0:
		return "", "", fault.New(fault.Invalid, "Name what to delete: source, id, or all=true with confirm=true.")
	case selectors > 1:
		return "", "", fault.New(fault.Invalid, "Give only one of source, id and all.")
	case in.All && !in.Confirm:
		return "", "", fault.New(fault.Invalid, "Deleting all entries needs confirm=true.").With("confirm", "must be true to delete all entries")
	case in.All:
		return "", "", nil
	case in.Source != "":
		return "source", in.Source, nil
	}
	id, err := uuid.Parse(in.ID)
	if err != nil { // a malformed id matches no entry
		return "id", in.ID, nil //nolint:nilerr // see above
	}
	return "id", id.String(), nil
}
