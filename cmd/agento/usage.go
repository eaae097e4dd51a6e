package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/api"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/swarm"
	"agento.host/agento/internal/usage"
)

// usageService returns the service that reads usage, with the names that the others know.
func usageService(db *database.DB, agents *agent.Service, swarms *swarm.Store, accounts *access.Service) *usage.Service {
	return usage.New(usage.Settings{
		DB: db,
		Agents: func(ctx context.Context, account identity.AccountID) (map[string]string, error) {
			page, err := agents.List(ctx, account, agent.Filter{})
			names := map[string]string{}
			for _, a := range page.Agents {
				names[string(a.ID)] = a.Name
			}
			return names, err
		},
		Swarms: func(ctx context.Context, account identity.AccountID) (map[string]string, error) {
			all, err := swarms.Names(ctx, db, account)
			names := map[string]string{}
			for id, s := range all {
				names[string(id)] = s.Name
			}
			return names, err
		},
		Keys: func(ctx context.Context, account identity.AccountID) (map[string]string, error) {
			all, err := accounts.Keys(ctx, account)
			names := map[string]string{}
			for _, k := range all {
				names[string(k.ID)] = k.Label
			}
			return names, err
		},
	})
}

type usageCommand struct {
	remote
	By      string    `help:"What the rows are about: day, hour, agent, swarm, peer, session, model or key." enum:"day,hour,agent,swarm,peer,session,model,key" default:"day"`
	From    usageTime `help:"Only calls at or after this time, such as 7d, 12h or 2026-01-31. Default: 30 days before the end." placeholder:"TIME"`
	To      usageTime `help:"Only calls before this time. Default: now." placeholder:"TIME"`
	Agent   string    `help:"Only this agent: its name, id or unique beginning of one, or the id of a deleted one."`
	Swarm   string    `help:"Only agents that were in this swarm then: its slug, name or id."`
	Peer    string    `help:"Only sessions of this peer."`
	Session string    `help:"Only this session."`
	Model   string    `help:"Only this model, such as claude-sonnet-5 or anthropic/claude-sonnet-5."`
	Key     string    `help:"Only messages that the API key with this id has sent."`
	CSV     bool      `help:"Print CSV with every figure." name:"csv"`
}

// usageTime is a time in UTC, in which usage is counted, or how long ago it is.
type usageTime struct{ client.Time }

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *usageTime) UnmarshalText(text []byte) error {
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			u.Time.Time = time.Now().UTC().AddDate(0, 0, -int(n))
			return nil
		}
	}
	if at, err := time.Parse(time.DateOnly, string(text)); err == nil {
		u.Time.Time = at
		return nil
	}
	var s since
	if s.UnmarshalText(text) != nil {
		return fmt.Errorf("%q is no time: write 7d, 12h, 2026-01-31 (in UTC) or 2026-01-31T15:04:05Z", text)
	}
	u.Time = s.Time
	return nil
}

// usageSource is where the command reads usage: a server, or the database of a data directory
// without one.
type usageSource struct {
	page         func(ctx context.Context, q client.UsageQuery) (client.CursorList[client.Usage], error)
	agent, swarm func(ctx context.Context, given string) (id string, err error)
	close        func() error
}

// Run prints what the account has used.
func (c usageCommand) Run(ctx context.Context, t *terminal) (err error) {
	if c.CSV && t.json {
		return usageError("give --csv or --json, not both")
	}
	source, err := c.source(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.close()) }()
	q := client.UsageQuery{
		From: client.NewTime(c.From.Time.Time), To: client.NewTime(c.To.Time.Time), By: c.By, PeerID: c.Peer, SessionID: c.Session, Model: c.Model, KeyID: c.Key,
	}
	if c.Agent != "" {
		if q.AgentID, err = source.agent(ctx, c.Agent); err != nil {
			return err
		}
	}
	if c.Swarm != "" {
		if q.SwarmID, err = source.swarm(ctx, c.Swarm); err != nil {
			return err
		}
	}
	rows := []client.Usage{}
	for {
		page, err := source.page(ctx, q)
		if err != nil {
			return err
		}
		rows = append(rows, page.Data...)
		if !page.Pagination.HasMore || page.Pagination.NextOffset == nil {
			break
		}
		q.Offset = *page.Pagination.NextOffset
	}
	switch {
	case t.json:
		return t.printJSON(rows)
	case c.CSV:
		return api.WriteUsageCSV(t.out, rows)
	}
	return printUsage(t, c.By, rows)
}

// source returns the running server or, without an API key and a server, the database.
func (c usageCommand) source(ctx context.Context) (usageSource, error) {
	if c.APIKey == "" {
		if _, err := os.Stat(c.Data); err == nil {
			server, err := dataFlags{Data: c.Data}.dialServer(ctx)
			if err != nil {
				return usageSource{}, err
			}
			if server == nil {
				return c.openUsage(ctx)
			}
		}
	}
	server, err := c.client(ctx)
	if err != nil {
		return usageSource{}, err
	}
	return usageSource{
		page:  server.Usage,
		agent: func(ctx context.Context, given string) (string, error) { return findAgent(ctx, server, given) },
		swarm: func(ctx context.Context, given string) (string, error) { return findSwarm(ctx, server, given) },
		close: func() error { return nil },
	}, nil
}

// openUsage opens the database of the data directory for reading, while no server uses it.
func (c usageCommand) openUsage(ctx context.Context) (_ usageSource, err error) {
	data := dataFlags{Data: c.Data}
	var unlock func() error
	if err := poll(ctx, commandTimeout, func() error {
		unlock, err = lock(c.Data, syscall.LOCK_SH, false)
		return err
	}); err != nil {
		if errors.Is(err, errLocked) {
			return usageSource{}, fmt.Errorf("an agento server on %s starts or ends, or another command uses it: try again", c.Data)
		}
		return usageSource{}, err
	}
	log := slog.New(slog.DiscardHandler)
	db, err := database.Open(ctx, database.Settings{Path: data.databasePath(), Log: log, ReadOnly: true})
	if err != nil {
		return usageSource{}, errors.Join(data.openError(err), unlock())
	}
	release := func() error { return errors.Join(db.Close(), unlock()) }
	events, plans := event.NewLog(db), access.SelfHosted()
	accounts := access.New(access.Settings{DB: db, Events: events, Plans: plans, Log: log})
	operator, err := accounts.OperatorOf(ctx, c.Account)
	if err != nil {
		return usageSource{}, errors.Join(err, release())
	}
	swarms := swarm.NewStore(db)
	service := usageService(db, agent.New(agent.Settings{DB: db, Store: agent.NewStore(db, events), Swarms: swarms, Log: log}), swarms, accounts)
	find := func(kind, list string, by usage.Grouping) func(context.Context, string) (string, error) {
		return func(ctx context.Context, given string) (string, error) {
			if isID(given) {
				return given, nil
			}
			names, err := service.Names(ctx, operator.AccountID, by)
			if err != nil {
				return "", err
			}
			var all []candidate
			for id, name := range names {
				all = append(all, candidate{id, []string{name}})
			}
			slices.SortFunc(all, func(a, b candidate) int { return cmp.Compare(a.id, b.id) })
			return resolve(kind, list, given, all)
		}
	}
	return usageSource{
		page: func(ctx context.Context, q client.UsageQuery) (client.CursorList[client.Usage], error) {
			return api.UsagePage(ctx, service, operator.AccountID, q)
		},
		agent: find("agent", "agents list", usage.ByAgent), swarm: find("swarm", "swarms list", usage.BySwarm), close: release,
	}, nil
}

// printUsage prints rows with their sum as a table.
func printUsage(t *terminal, by string, all []client.Usage) error {
	rows := make([]map[string]any, 0, len(all)+1)
	var sum client.Usage
	var micros int64
	for _, u := range all {
		rows = append(rows, usageCells(by, usageLabel(by, u), u))
		sum.Requests += u.Requests
		sum.InputTokens += u.InputTokens
		sum.OutputTokens += u.OutputTokens
		sum.CacheReadTokens += u.CacheReadTokens
		sum.UnpricedRequests += u.UnpricedRequests
		sum.EstimatedRequests += u.EstimatedRequests
		if u.CostMicros != nil {
			micros += *u.CostMicros
		}
	}
	if sum.Requests == 0 || sum.UnpricedRequests < sum.Requests {
		sum.CostMicros = &micros
	}
	rows = append(rows, usageCells(by, "total", sum))
	if err := t.table(rows, by, "requests", "input", "output", "cached", "cost"); err != nil {
		return err
	}
	if sum.UnpricedRequests > 0 {
		t.progress("The price of %d of %d requests is unknown: name the models with agento usage --by model, and give their prices to the server with --prices.", sum.UnpricedRequests, sum.Requests)
	}
	if sum.EstimatedRequests > 0 {
		t.progress("The tokens of %d of %d requests are estimated, because the provider has not reported them.", sum.EstimatedRequests, sum.Requests)
	}
	return nil
}

// usageLabel returns what a row is about, in few words.
func usageLabel(by string, u client.Usage) string {
	switch {
	case u.Name != nil:
		return *u.Name
	case u.Group == nil:
		return "no " + by
	case by == string(usage.ByHour):
		return strings.Replace(strings.TrimSuffix(*u.Group, ":00.000Z"), "T", " ", 1)
	}
	return *u.Group
}

func usageCells(by, label string, u client.Usage) map[string]any {
	return map[string]any{
		by: label, "requests": u.Requests, "input": u.InputTokens, "output": u.OutputTokens, "cached": u.CacheReadTokens, "cost": formatCost(u.Cost),
	}
}

// formatCost returns a price in dollars. Of requests of which some have no price, it is what is
// known.
func formatCost(c client.Cost) string {
	if c.CostMicros == nil {
		return "unknown"
	}
	text := fmt.Sprintf("$%d.%06d", *c.CostMicros/1_000_000, *c.CostMicros%1_000_000)
	for strings.HasSuffix(text, "0") && text[len(text)-3] != '.' {
		text = strings.TrimSuffix(text, "0")
	}
	if c.UnpricedRequests > 0 {
		text += " + unknown"
	}
	return text
}
