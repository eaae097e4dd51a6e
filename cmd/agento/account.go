package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"agento.host/agento/client"
)

type accountCommand struct{ remote }

// unlimitedCount and unlimitedBytes mean no limit in a plan.
const (
	unlimitedCount = 2147483647
	unlimitedBytes = 9007199254740991
)

// Run shows the account of the key.
func (c accountCommand) Run(ctx context.Context, t *terminal) error {
	api, err := c.client(ctx)
	if err != nil {
		return err
	}
	a, err := api.Account(ctx)
	if err != nil {
		return err
	}
	var features []string
	for name, has := range a.Plan.Features {
		if has {
			features = append(features, name)
		}
	}
	slices.Sort(features)
	return t.describe(a,
		field{"name", a.Name}, field{"id", a.ID}, field{"plan", a.Plan.Name}, field{"status", a.Plan.Status},
		field{"agents", fmt.Sprintf("%d of %s, %d running", a.Usage.Agents, limitWords(int64(a.Plan.Limits.MaxAgents), unlimitedCount, func(n int64) string { return fmt.Sprint(n) }), a.Usage.RunningAgents)},
		field{"storage", formatBytes(a.Usage.StorageBytes) + " of " + limitWords(a.Plan.Limits.StorageBytes, unlimitedBytes, formatBytes)},
		field{"features", strings.Join(features, ", ")},
	)
}

func limitWords(n, none int64, format func(int64) string) string {
	if n >= none {
		return "any number"
	}
	return format(n)
}

type auditCommand struct {
	remote
	Target string `help:"Only changes of this, such as agent/ID, swarm/ID or key/ID."`
	Agent  string `help:"Only changes of this agent: its name, id or unique beginning of one."`
	Action string `help:"Only this kind of change, such as agent.created."`
	Actor  string `help:"Only changes by this: the id of an API key, or agent, system, operator."`
	Since  since  `help:"Only changes after this time, such as 2h or 2026-01-31." placeholder:"TIME"`
	Limit  int    `help:"How many, newest first." default:"50"`
}

// Run lists changes.
func (c auditCommand) Run(ctx context.Context, t *terminal) error {
	api, err := c.client(ctx)
	if err != nil {
		return err
	}
	q := client.AuditQuery{Target: c.Target, Action: c.Action, Actor: c.Actor, Since: c.Since.orNil(), Limit: min(c.Limit, maxPage)}
	if c.Agent != "" {
		id, err := findAgent(ctx, api, c.Agent)
		if err != nil {
			return err
		}
		q.Target = "agent/" + id
	}
	all := []client.AuditEvent{}
	for {
		page, err := api.Audit(ctx, q)
		if err != nil {
			return err
		}
		all = append(all, page.Data...)
		if !page.Pagination.HasMore || page.Pagination.NextOffset == nil || len(all) >= c.Limit {
			break
		}
		q.Offset = *page.Pagination.NextOffset
	}
	all = all[:min(c.Limit, len(all))]
	if t.json {
		return t.printJSON(all)
	}
	rows := make([]map[string]any, len(all))
	for i, e := range all {
		data, err := json.Marshal(e.Data)
		if err != nil {
			return err
		}
		rows[i] = map[string]any{"at": formatTime(e.At.Time), "actor": e.Actor, "action": e.Action, "target": e.Target, "data": string(data)}
	}
	return t.table(rows, "at", "actor", "action", "target", "data")
}
