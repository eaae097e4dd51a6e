package agent

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/swarm"
)

// Summary is an agent as lists show it.
type Summary struct {
	ID        identity.AgentID
	Name      string
	Status    client.AgentStatus
	Region    string
	SwarmID   identity.SwarmID // empty: none
	CreatedAt time.Time
	StartedAt time.Time
	StoppedAt time.Time
}

// Filter selects agents of an account. The zero value selects all of them.
type Filter struct {
	Status  client.AgentStatus // empty: any
	SwarmID identity.SwarmID   // empty: any or none
	Search  string             // part of the name, in upper or lower case
	Order   Order
	Limit   int // of one page; 0: none
	Offset  int // how many to skip
}

// Order is how a list of agents is sorted. The zero Order is ByCreation.
type Order string

// The orders.
const (
	ByCreation Order = ""         // the newest first
	ByName     Order = "name"     // from A to Z
	ByLastUse  Order = "lastUsed" // the one that was used last first
)

// columns returns the columns that a list is sorted by. The last ones make it the same each time.
func (o Order) columns() string {
	switch o {
	case ByName:
		return "search_name, id"
	case ByLastUse:
		return "last_used_at DESC, created_at DESC, id DESC"
	}
	return "created_at DESC, id DESC"
}

// Page is a part of a list of agents.
type Page struct {
	Agents []Summary
	Total  int // how many the filter selects on all pages
	Swarms map[identity.SwarmID]swarm.Swarm
}

// List returns the account's agents that a filter selects, and the account's swarms.
func (s *Service) List(ctx context.Context, account identity.AccountID, f Filter) (Page, error) {
	var p Page
	var err error
	if p.Agents, err = s.store.list(ctx, s.db, account, f); err != nil {
		return p, err
	}
	p.Total = f.Offset + len(p.Agents)
	if full := f.Limit > 0 && len(p.Agents) == f.Limit; full || f.Offset > 0 {
		if p.Total, err = s.store.count(ctx, s.db, account, f); err != nil {
			return p, err
		}
	}
	p.Swarms, err = s.swarms.Names(ctx, s.db, account)
	return p, err
}

// Records returns the records of agents of the account, by id, in one query. Those that are not
// there, or are being deleted, are missing.
func (s *Service) Records(ctx context.Context, account identity.AccountID, ids []identity.AgentID) (map[identity.AgentID]Agent, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	args, places := []any{account}, make([]string, len(ids))
	for i, id := range ids {
		args = append(args, id)
		places[i] = "$" + strconv.Itoa(len(args))
	}
	rows, err := database.AllReadable(ctx, s.db, scan, damaged,
		`SELECT `+columns+` FROM agents WHERE account_id = $1 AND desired_state <> 'deleted' AND id IN (`+strings.Join(places, ", ")+`)`, args...)
	if err != nil {
		return nil, fmt.Errorf("read agents: %w", err)
	}
	byID := make(map[identity.AgentID]Agent, len(rows))
	for i := range rows {
		byID[rows[i].ID] = rows[i]
	}
	return byID, nil
}

// condition returns the condition of the filter, and its arguments. It leaves out what
// selects every agent, so that a long list is not compared with it row by row.
func (f Filter) condition(account identity.AccountID) (condition string, args []any) {
	condition, args = `account_id = $1 AND desired_state <> 'deleted'`, []any{account}
	add := func(comparison string, v any) {
		args = append(args, v)
		condition += fmt.Sprintf(" AND "+comparison, len(args))
	}
	if f.Status != "" {
		add(`shown_status = $%d`, f.Status)
	}
	if f.SwarmID != "" {
		add(`swarm_id = $%d`, f.SwarmID)
	}
	if f.Search != "" {
		quoted := strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(strings.ToLower(f.Search))
		add(`search_name LIKE $%d ESCAPE '!'`, "%"+quoted+"%")
	}
	return condition, args
}

// Separators in the text that list reads. Names have no control characters.
const (
	fieldSeparator = "\x1f"
	rowSeparator   = "\x1e"
)

// list reads the rows as one text, because package sql takes longer to hand over a
// thousand rows one by one than the database takes to find them.
func (s *Store) list(ctx context.Context, q database.Reader, account identity.AccountID, f Filter) ([]Summary, error) {
	limit := f.Limit
	if limit == 0 {
		limit = math.MaxInt32
	}
	condition, args := f.condition(account)
	n := len(args)
	query := fmt.Sprintf(`SELECT coalesce(string_agg(line, $%[2]d), '') FROM (
		SELECT concat_ws($%[3]d, id, name, shown_status, region, swarm_id, created_at, started_at, stopped_at) AS line
		FROM agents WHERE %[1]s ORDER BY %[6]s LIMIT $%[4]d OFFSET $%[5]d) AS page`, condition, n+1, n+2, n+3, n+4, f.Order.columns())
	text, err := database.One(ctx, q, database.Scalar[string], query, append(args, rowSeparator, fieldSeparator, limit, f.Offset)...)
	if err != nil {
		return nil, fmt.Errorf("list agents: %w", err)
	}
	return parseSummaries(text), nil
}

func parseSummaries(text string) []Summary {
	if text == "" {
		return []Summary{}
	}
	all := make([]Summary, 0, strings.Count(text, rowSeparator)+1)
	for row := range strings.SplitSeq(text, rowSeparator) {
		all = append(all, parseSummary(row))
	}
	return all
}

// parseSummary returns the zero time for a time that cannot be decoded. The status of
// such an agent is error.
func parseSummary(row string) Summary {
	next := func() (field string) {
		field, row, _ = strings.Cut(row, fieldSeparator)
		return field
	}
	v := Summary{ID: identity.AgentID(next()), Name: next(), Status: client.AgentStatus(next()), Region: next(), SwarmID: identity.SwarmID(next())}
	for _, t := range []*time.Time{&v.CreatedAt, &v.StartedAt, &v.StoppedAt} {
		if ms, err := strconv.ParseInt(next(), 10, 64); err == nil {
			*t = database.Time(ms)
		}
	}
	return v
}

func (s *Store) count(ctx context.Context, q database.Reader, account identity.AccountID, f Filter) (int, error) {
	condition, args := f.condition(account)
	return database.One(ctx, q, database.Scalar[int], `SELECT count(*) FROM agents WHERE `+condition, args...)
}
