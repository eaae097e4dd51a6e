package knowledge

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// ListRequest selects entries to list. A Limit of 0 means DefaultList.
type ListRequest struct {
	Target
	Source string // entries as this source has them; "": all, as their first source has them
	Limit  int
	Offset string // Page.Next of the previous page; "": the first page
}

// Page is one page of a list. Next is "" on the last page.
type Page struct {
	Entries []Entry
	Next    string
}

// List returns entries in the order in which they were stored. Following Next returns
// every entry that exists the whole time exactly once, even if other entries are
// stored and deleted meanwhile. Faults: Invalid, NotFound.
func (s *Service) List(ctx context.Context, account identity.AccountID, in ListRequest) (Page, error) {
	fields := fault.Fields{}
	if in.Limit == 0 {
		in.Limit = DefaultList
	}
	if in.Limit < 1 || in.Limit > MaxList {
		fields.Add("limit", "must be from 1 to %d", MaxList)
	}
	if in.Offset != "" {
		id, err := uuid.Parse(in.Offset)
		if err != nil {
			fields.Add("offset", "must be the nextOffset of a previous answer")
		}
		in.Offset = id.String()
	}
	if err := fields.Err(); err != nil {
		return Page{}, err
	}
	_, space, err := s.resolveStored(ctx, account, in.Target)
	if err != nil {
		return Page{}, err
	}
	query := `SELECT ` + entryColumns + ` FROM knowledge_entries WHERE account_id = $1 AND scope = $2 AND id > $3`
	args := []any{account, space.scope, in.Offset, in.Limit + 1}
	if in.Source != "" {
		query += ` AND source = $5
			UNION ALL SELECT ` + furtherColumns + ` FROM knowledge_sources s JOIN knowledge_entries e ON e.id = s.entry_id
			WHERE s.account_id = $1 AND s.scope = $2 AND s.entry_id > $3 AND s.source = $5`
		args = append(args, in.Source)
	}
	entries, err := database.AllReadable(ctx, s.db, scanEntry, damaged, query+` ORDER BY id LIMIT $4`, args...)
	if err != nil {
		return Page{}, fmt.Errorf("list knowledge: %w", err)
	}
	p := Page{Entries: entries}
	if len(entries) > in.Limit {
		p.Entries = entries[:in.Limit]
		p.Next = p.Entries[in.Limit-1].ID
	}
	return p, nil
}
