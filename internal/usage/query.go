package usage

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
)

// Grouping is what the rows of a Query are about.
type Grouping string

// The groupings.
const (
	ByDay     Grouping = "day"
	ByHour    Grouping = "hour"
	ByAgent   Grouping = "agent"
	BySwarm   Grouping = "swarm"
	ByPeer    Grouping = "peer"
	BySession Grouping = "session"
	ByModel   Grouping = "model"
	ByKey     Grouping = "key"
)

// expressions has the group of a row of the table, as a text.
var expressions = map[Grouping]string{
	ByDay: `CAST(hour - hour % 86400000 AS TEXT)`, ByHour: `CAST(hour AS TEXT)`, // of equal length until the year 2286
	ByAgent: `agent_id`, BySwarm: `swarm_id`, ByPeer: `peer_id`, BySession: `session_id`, ByModel: `provider || '/' || model`, ByKey: `key_id`,
}

// Query selects calls of an account and groups them. An empty field selects all.
type Query struct {
	From, To time.Time // whole hours: From is taken down, and To up to the next; To itself is not part of it
	By       Grouping
	Agent    identity.AgentID
	Swarm    identity.SwarmID
	Peer     string
	Session  identity.SessionID
	Model    string // with or without its provider, as in anthropic/claude-sonnet-5
	Key      identity.KeyID
	After    *string // only groups after this one
	Limit    int
}

// Row is one group with its sum.
type Row struct {
	Group string    // empty for calls that belong to none
	Name  string    // of the agent, swarm or key; empty if it has none or is gone
	Begin time.Time // of a day or an hour; zero for other groupings
	Sum
}

// List is Service.List without names.
func List(ctx context.Context, q database.Reader, account identity.AccountID, query Query) ([]Row, error) {
	text := `SELECT g, CAST(sum(requests) AS BIGINT), CAST(sum(estimated_requests) AS BIGINT), CAST(sum(unpriced_requests) AS BIGINT), CAST(sum(input_tokens) AS BIGINT), CAST(sum(output_tokens) AS BIGINT),
		CAST(sum(reasoning_tokens) AS BIGINT), CAST(sum(cache_read_tokens) AS BIGINT), CAST(sum(cache_write_tokens) AS BIGINT), CAST(sum(cost_micros) AS BIGINT)
		FROM (SELECT ` + expressions[query.By] + ` AS g, * FROM usage WHERE account_id = $1 AND hour >= $2 AND hour < $3`
	args := []any{account, database.Millis(query.From.UTC().Truncate(time.Hour)), database.Millis(ceilHour(query.To.UTC()))}
	providerName, model := splitModel(query.Model)
	for _, f := range []struct{ column, value string }{
		{"agent_id", string(query.Agent)}, {"swarm_id", string(query.Swarm)}, {"peer_id", query.Peer}, {"session_id", string(query.Session)},
		{"provider", providerName}, {"model", model}, {"key_id", string(query.Key)},
	} {
		if f.value != "" {
			args = append(args, f.value)
			text += ` AND ` + f.column + ` = $` + strconv.Itoa(len(args))
		}
	}
	text += `) AS selected`
	if query.After != nil {
		args = append(args, *query.After)
		text += ` WHERE g > $` + strconv.Itoa(len(args))
	}
	args = append(args, query.Limit)
	text += ` GROUP BY g ORDER BY g LIMIT $` + strconv.Itoa(len(args))
	rows, err := database.AllReadable(ctx, q, scanRow(query.By), damagedRow, text, args...)
	if err != nil {
		return nil, fmt.Errorf("list usage: %w", err)
	}
	return rows, nil
}

// splitModel returns the provider of a model that is named with it; empty if it is not.
func splitModel(name string) (providerName, model string) {
	if before, after, ok := strings.Cut(name, "/"); ok {
		if _, known := provider.Find(provider.Name(before)); known {
			return before, after
		}
	}
	return "", name
}

func ceilHour(t time.Time) time.Time {
	if down := t.Truncate(time.Hour); down.Before(t) {
		return down.Add(time.Hour)
	}
	return t
}

// damagedRow keeps a group: what can be decoded of it is billed.
func damagedRow(r *Row, _ error) (row string, keep bool) { return "usage of " + r.Group, true }

func scanRow(by Grouping) func(database.Row) (Row, error) {
	return func(r database.Row) (Row, error) {
		var u Row
		err := r.Scan(&u.Group, &u.Requests, &u.Estimated, &u.Unpriced, &u.Input, &u.Output, &u.Reasoning, &u.CacheRead, &u.CacheWrite, &u.Micros)
		if err == nil && (by == ByDay || by == ByHour) {
			millis, e := strconv.ParseInt(u.Group, 10, 64)
			if e != nil {
				return u, &database.ColumnError{Column: "hour", Err: e}
			}
			u.Begin = database.Time(millis)
		}
		return u, err
	}
}
