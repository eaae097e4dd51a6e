package agent

import (
	"context"
	"fmt"
	"math"
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
	Limit   int                // of one page; 0: none
	Offset  int                // how many to skip
}

// Page is a part of a list of agents.
type Page struct {
	Agents []Summary // newest first
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
		condition += fmt.Sprintf(" AND "+comparison, len(args))
	}
	if f.Status != "" {
		add(`status = $%d`, f.Status)
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

func (s *Store) list(ctx context.Context, q database.Querier, account identity.AccountID, f Filter) ([]Summary, error) {
	limit := f.Limit
	if limit == 0 {
		limit = math.MaxInt32
	}
	condition, args := f.condition(account)
	query := fmt.Sprintf(`SELECT id, name, status, region, swarm_id, created_at, started_at, stopped_at FROM agents WHERE %s
		ORDER BY created_at DESC, id DESC LIMIT $%d OFFSET $%d`, condition, len(args)+1, len(args)+2)
	return database.All(ctx, q, scanSummary, query, append(args, limit, f.Offset)...)
}

func (s *Store) count(ctx context.Context, q database.Querier, account identity.AccountID, f Filter) (int, error) {
	condition, args := f.condition(account)
	return database.One(ctx, q, database.Scalar[int], `SELECT count(*) FROM agents WHERE `+condition, args...)
}

// scanSummary scans into variables of basic types: for others, package sql uses
// reflection, which costs more than reading the row.
func scanSummary(r database.Row) (Summary, error) {
	var id, name, status, region, swarmID string
	var created, started, stopped int64
	err := r.Scan(&id, &name, &status, &region, &swarmID, &created, &started, &stopped)
	return Summary{
		identity.AgentID(id), name, client.AgentStatus(status), region, identity.SwarmID(swarmID),
		database.Time(created), database.Time(started), database.Time(stopped),
	}, err
}
