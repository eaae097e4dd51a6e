package knowledge

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
)

// List says which entries to list. A Limit of 0 is 50.
type List struct {
	Target
	Source string // "": of every source
	Limit  int
	Offset string // the Next of the page before; "" for the first
}

// Page is a part of a list. Next is "" at its end.
type Page struct {
	Entries []Entry
	Next    string
}

// List returns entries in the order in which they were stored. Reading on from
// Next shows every entry once that was there all the while, whatever is stored and
// deleted meanwhile. Faults: Invalid, NotFound.
func (s *Service) List(ctx context.Context, accountID string, l List) (Page, error) {
	fields := fault.Fields{}
	if l.Limit == 0 {
		l.Limit = DefaultList
	}
	if l.Limit < 1 || l.Limit > MaxList {
		fields.Add("limit", "must be from 1 to %d", MaxList)
	}
	if l.Offset != "" {
		id, err := uuid.Parse(l.Offset)
		if err != nil {
			fields.Add("offset", "must be the nextOffset of a previous answer")
		}
		l.Offset = id.String()
	}
	if err := fields.Err(); err != nil {
		return Page{}, err
	}
	_, sp, err := s.resolve(ctx, accountID, l.Target, true)
	if err != nil {
		return Page{}, err
	}
	query := `SELECT ` + entryColumns + ` FROM knowledge_entries WHERE account_id = $1 AND scope = $2 AND id > $3`
	args := []any{accountID, sp.number, l.Offset, l.Limit + 1}
	if l.Source != "" {
		query += ` AND source = $5`
		args = append(args, l.Source)
	}
	entries, err := database.All(ctx, s.DB, scanEntry, query+` ORDER BY id LIMIT $4`, args...)
	if err != nil {
		return Page{}, fmt.Errorf("list knowledge: %w", err)
	}
	p := Page{Entries: entries}
	if len(entries) > l.Limit {
		p.Entries = entries[:l.Limit]
		p.Next = p.Entries[l.Limit-1].ID
	}
	return p, nil
}
