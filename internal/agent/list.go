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

	// What the filter includes; zero otherwise.
	Model         string // that the agent calls
	Power         Power
	LastError     string
	CostToday     int64     // of its model calls since midnight UTC, in millionths of a dollar
	LastMessageAt time.Time // zero: there is no message
	MemoryBytes   int64     // that its gateway was last measured to use; 0: it was not measured
}

// Filter selects agents of an account. The zero value selects all of them.
type Filter struct {
	Status  client.AgentStatus // empty: any
	SwarmID identity.SwarmID   // empty: any or none
	Search  string             // part of the name, in upper or lower case
	Model   string             // that the agent calls; empty: any
	Sort    Sort               // empty: newest first
	Include Include
	Limit   int // of one page; 0: none
	Offset  int // how many to skip
}

// Page is a part of a list of agents.
type Page struct {
	Agents []Summary // in the order of the filter
	Total  int       // how many the filter selects on all pages
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

// condition returns the condition of the filter, and its arguments. It leaves out what
// selects every agent, so that a long list is not compared with it row by row.
func (f Filter) condition(account identity.AccountID) (condition string, args []any) {
	condition, args = `account_id = $1 AND desired_state <> 'deleted'`, []any{account}
	add := func(comparison string, v any) {
		args = append(args, v)
		condition += " AND " + fmt.Sprintf(comparison, len(args))
	}
	if f.Status != "" {
		add(`shown_status = $%d`, f.Status)
	}
	if f.SwarmID != "" {
		add(`swarm_id = $%d`, f.SwarmID)
	}
	if f.Model != "" {
		add(modelColumn+` = $%d`, f.Model)
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
		SELECT concat_ws($%[3]d, id, name, shown_status, region, swarm_id, created_at, started_at, stopped_at%[6]s) AS line
		FROM agents WHERE %[1]s ORDER BY %[7]s LIMIT $%[4]d OFFSET $%[5]d) AS page`, condition, n+1, n+2, n+3, n+4, f.Include.columns(), f.Sort.order())
	text, err := database.One(ctx, q, database.Scalar[string], query, append(args, rowSeparator, fieldSeparator, limit, f.Offset)...)
	if err != nil {
		return nil, fmt.Errorf("list agents: %w", err)
	}
	return parseSummaries(text, f.Include), nil
}

func parseSummaries(text string, in Include) []Summary {
	if text == "" {
		return []Summary{}
	}
	all := make([]Summary, 0, strings.Count(text, rowSeparator)+1)
	for row := range strings.SplitSeq(text, rowSeparator) {
		all = append(all, parseSummary(row, in))
	}
	return all
}

// parseSummary returns the zero time for a time that cannot be decoded. The status of
// such an agent is error.
func parseSummary(row string, in Include) Summary {
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
	in.parse(&v, next)
	return v
}

func (s *Store) count(ctx context.Context, q database.Reader, account identity.AccountID, f Filter) (int, error) {
	condition, args := f.condition(account)
	return database.One(ctx, q, database.Scalar[int], `SELECT count(*) FROM agents WHERE `+condition, args...)
}
