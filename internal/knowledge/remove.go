package knowledge

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
)

// Remove says what to delete: the entries of a Source, the entry of an ID, or All,
// which needs Confirm. Exactly one of the three is named.
type Remove struct {
	Target
	Source  string
	ID      string
	All     bool
	Confirm bool
}

// Remove deletes entries and returns how many there were. Faults: Invalid;
// NotFound for an id that is not in the scope.
func (s *Service) Remove(ctx context.Context, accountID, actor string, r Remove) (int, error) {
	column, value, err := r.what()
	if err != nil {
		return 0, err
	}
	scope, sp, err := s.resolve(ctx, accountID, r.Target, true)
	if err != nil {
		return 0, err
	}
	var n int64
	err = s.DB.Tx(ctx, func(tx *database.Tx) error {
		if column == "" {
			n, err = removeAll(ctx, tx, sp)
		} else {
			n, err = removeEntries(ctx, tx, sp, column, []string{value})
		}
		if err != nil {
			return err
		}
		if n == 0 && r.ID != "" {
			return fault.New(fault.NotFound, "There is no knowledge entry %s here. GET /v1/knowledge lists them.", r.ID)
		}
		if n == 0 {
			return nil
		}
		what := map[string]any{"deleted": n}
		if column != "" {
			what[column] = value
		}
		return s.tell(ctx, tx, accountID, actor, scope, "knowledge.deleted", what)
	})
	return int(n), err
}

// what returns the column and value that name the entries; all have none.
func (r Remove) what() (column, value string, err error) {
	named := 0
	for _, given := range []bool{r.Source != "", r.ID != "", r.All} {
		if given {
			named++
		}
	}
	switch {
	case named == 0:
		return "", "", fault.New(fault.Invalid, "Name what to delete: source, id, or all=true with confirm=true.")
	case named > 1:
		return "", "", fault.New(fault.Invalid, "Give only one of source, id and all.")
	case r.All && !r.Confirm:
		return "", "", fault.New(fault.Invalid, "Deleting all entries needs confirm=true.").With("confirm", "must be true to delete all entries")
	case r.All:
		return "", "", nil
	case r.Source != "":
		return "source", r.Source, nil
	}
	id, err := uuid.Parse(r.ID)
	if err != nil { // an id that cannot be is one that is not
		return "id", r.ID, nil //nolint:nilerr // see above
	}
	return "id", id.String(), nil
}

func removeEntries(ctx context.Context, tx *database.Tx, sp space, column string, values []string) (int64, error) {
	n, err := database.Exec(ctx, tx,
		`DELETE FROM knowledge_entries WHERE account_id = $1 AND scope = $2 AND `+column+` IN `+places(3, len(values)),
		append([]any{sp.accountID, sp.number}, anys(values)...)...)
	if err != nil {
		return 0, fmt.Errorf("delete entries: %w", err)
	}
	return n, nil
}

func removeAll(ctx context.Context, tx *database.Tx, sp space) (int64, error) {
	n, err := database.Exec(ctx, tx,
		`DELETE FROM knowledge_entries WHERE account_id = $1 AND scope = $2`, sp.accountID, sp.number)
	if err != nil {
		return 0, fmt.Errorf("delete all entries: %w", err)
	}
	return n, nil
}
