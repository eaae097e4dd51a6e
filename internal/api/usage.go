package api

import (
	"context"
	"encoding/base64"
	"encoding/csv"
	"fmt"
	"io"
	"mime"
	"strconv"
	"strings"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/rest"
	"agento.host/agento/internal/usage"
)

const (
	// defaultUsage is how long before now usage begins that a request with no times asks for.
	defaultUsage = 30 * 24 * time.Hour
	// maxUsageRows is how many groups a page has, at most.
	maxUsageRows = 1000
)

// UsageFilter are the parameters of both routes of usage.
type UsageFilter struct {
	Accept    string `header:"Accept" absent:"get JSON" doc:"text/csv gives a table with one line for each group. The header X-Next-Offset then has the cursor of the next page."`
	From      string `query:"from" absent:"begin 30 days before the end" doc:"Only calls at or after this time: an ISO 8601 date or date and time, in UTC unless it has an offset. Calls are counted by the hour: it is taken down to the whole hour." example:"2026-02-01"`
	To        string `query:"to" absent:"end now" doc:"Only calls before this time, which is taken up to the whole hour." example:"2026-03-01"`
	By        string `query:"by" default:"day" enum:"day,hour,agent,swarm,peer,session,model,key" doc:"What the rows are about. Days are those of UTC."`
	SwarmID   string `query:"swarmId" absent:"count the calls of every swarm" doc:"Only calls of agents that were in this swarm then."`
	PeerID    string `query:"peerId" absent:"count the calls of every peer" doc:"Only calls of sessions of this peer."`
	SessionID string `query:"sessionId" absent:"count the calls of every session" doc:"Only calls of this session."`
	Model     string `query:"model" absent:"count the calls of every model" doc:"Only calls of this model, such as claude-sonnet-5 or anthropic/claude-sonnet-5."`
	KeyID     string `query:"keyId" absent:"count the calls of every key" doc:"Only calls of messages that this API key has sent."`
	Limit     int    `query:"limit" default:"1000" minimum:"1" maximum:"1000" doc:"Maximum number of rows."`
	Offset    string `query:"offset" absent:"begin with the first page" doc:"Pagination cursor from a previous response."`
}

func (f UsageFilter) query(agent string) client.UsageQuery {
	return client.UsageQuery{By: f.By, AgentID: agent, SwarmID: f.SwarmID, PeerID: f.PeerID, SessionID: f.SessionID, Model: f.Model, KeyID: f.KeyID, Limit: f.Limit, Offset: f.Offset}
}

type usageInput struct {
	UsageFilter
	Agent string `query:"agentId" absent:"count the calls of every agent" doc:"Only calls of this agent, which may be deleted."`
}

func (s *Server) accountUsage(ctx context.Context, who access.Principal, in *usageInput) (*usageReply, error) {
	return s.readUsage(ctx, who, in.UsageFilter, in.Agent)
}

type agentUsageInput struct {
	AgentID
	UsageFilter
}

func (s *Server) agentUsage(ctx context.Context, who access.Principal, in *agentUsageInput) (*usageReply, error) {
	if _, err := s.agents.Find(ctx, who.AccountID, in.ID); err != nil {
		return nil, err
	}
	return s.readUsage(ctx, who, in.UsageFilter, string(in.ID))
}

func (s *Server) readUsage(ctx context.Context, who access.Principal, f UsageFilter, agent string) (*usageReply, error) {
	q := f.query(agent)
	for _, t := range []struct {
		field, text string
		set         **client.Time
	}{{"from", f.From, &q.From}, {"to", f.To, &q.To}} {
		at, err := parseTime(t.field, t.text)
		if err != nil {
			return nil, err
		}
		*t.set = client.NewTime(at)
	}
	page, err := UsagePage(ctx, s.usage, who.AccountID, q)
	if err != nil {
		return nil, err
	}
	out := &usageReply{Body: usageBody{page}}
	if wantsCSV(f.Accept) {
		out.ContentType = rest.CSV
		if next := page.Pagination.NextOffset; next != nil {
			out.NextOffset = *next
		}
	}
	return out, nil
}

// UsagePage returns a page of what an account has used. An empty By is by day, and a Limit of 0 as
// many rows as a page can have. Faults: Invalid.
func UsagePage(ctx context.Context, s *usage.Service, account identity.AccountID, q client.UsageQuery) (client.CursorList[client.Usage], error) {
	var page client.CursorList[client.Usage]
	query, err := usageQuery(q, time.Now())
	if err != nil {
		return page, err
	}
	rows, err := s.List(ctx, account, query)
	if err != nil {
		return page, err
	}
	next := ""
	if limit := query.Limit - 1; len(rows) > limit {
		rows = rows[:limit]
		next = usageCursor + base64.RawURLEncoding.EncodeToString([]byte(rows[limit-1].Group))
	}
	all := make([]client.Usage, len(rows))
	for i, r := range rows {
		all[i] = usageRow(r, query.By)
	}
	return cursorPage(all, next).Body, nil
}

// usageCursor is the beginning of each cursor, so that none is empty.
const usageCursor = "u"

// usageQuery returns a query for one row more than the page has, which shows whether there is
// another page.
func usageQuery(q client.UsageQuery, now time.Time) (usage.Query, error) {
	out := usage.Query{
		To: now, By: usage.Grouping(q.By), Agent: identity.AgentID(q.AgentID), Swarm: identity.SwarmID(q.SwarmID), Peer: q.PeerID,
		Session: identity.SessionID(q.SessionID), Model: q.Model, Key: identity.KeyID(q.KeyID), Limit: q.Limit + 1,
	}
	if q.By == "" {
		out.By = usage.ByDay
	}
	if q.Limit == 0 {
		out.Limit = maxUsageRows + 1
	}
	if q.To != nil {
		out.To = q.To.Time
	}
	out.From = out.To.Add(-defaultUsage)
	if q.From != nil {
		out.From = q.From.Time
	}
	if !out.From.Before(out.To) {
		return out, fault.Fields{"from": "must be before to, which is now if it is left out"}.Err()
	}
	if text, ok := strings.CutPrefix(q.Offset, usageCursor); ok {
		if group, err := base64.RawURLEncoding.DecodeString(text); err == nil {
			after := string(group)
			out.After = &after
			return out, nil
		}
	}
	if q.Offset != "" {
		return out, fault.Fields{"offset": "must be the nextOffset of the page before"}.Err()
	}
	return out, nil
}

func usageRow(r usage.Row, by usage.Grouping) client.Usage {
	group := r.Group
	switch by {
	case usage.ByDay:
		group = r.Begin.UTC().Format(time.DateOnly)
	case usage.ByHour:
		group = r.Begin.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	return client.Usage{
		Group: orNull(group), Name: orNull(r.Name), InputTokens: r.Prompt(), OutputTokens: r.Output, ReasoningTokens: r.Reasoning,
		CacheReadTokens: r.CacheRead, CacheWriteTokens: r.CacheWrite, Cost: costJSON(r.Requests, r.Estimated, r.Unpriced, r.Micros),
	}
}

// costJSON returns the price of requests, which is null if it is known of none of them.
func costJSON(requests, estimated, unpriced, micros int64) client.Cost {
	c := client.Cost{Requests: requests, EstimatedRequests: estimated, UnpricedRequests: unpriced}
	if requests == 0 || unpriced < requests {
		c.CostMicros = &micros
	}
	return c
}

// usageReply is a page of usage as JSON or, with ContentType, as CSV.
type usageReply struct {
	ContentType string `header:"Content-Type"`
	NextOffset  string `header:"X-Next-Offset" doc:"Of a response with CSV: pass it as offset to get the next page. Missing on the last page."`
	Body        usageBody
}

type usageBody struct {
	client.CursorList[client.Usage]
}

// WriteCSV writes the rows as a table whose columns have the names of the JSON.
func (b usageBody) WriteCSV(w io.Writer) error { return WriteUsageCSV(w, b.Data) }

// WriteUsageCSV writes rows as a table whose columns have the names of the JSON. A price that is
// not known is the word unknown.
func WriteUsageCSV(w io.Writer, rows []client.Usage) error {
	out := csv.NewWriter(w)
	lines := [][]string{{
		"group", "name", "requests", "inputTokens", "outputTokens", "reasoningTokens", "cacheReadTokens", "cacheWriteTokens", "estimatedRequests", "unpricedRequests", "costMicros",
	}}
	for _, u := range rows {
		cost := "unknown"
		if u.CostMicros != nil {
			cost = strconv.FormatInt(*u.CostMicros, 10)
		}
		line := []string{csvText(u.Group), csvText(u.Name)}
		for _, n := range []int64{u.Requests, u.InputTokens, u.OutputTokens, u.ReasoningTokens, u.CacheReadTokens, u.CacheWriteTokens, u.EstimatedRequests, u.UnpricedRequests} {
			line = append(line, strconv.FormatInt(n, 10))
		}
		lines = append(lines, append(line, cost))
	}
	if err := out.WriteAll(lines); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}

// csvText returns a text as a cell. Peers, models and names of agents are whatever others have
// chosen, and a spreadsheet would take some of them for a formula: those begin with an apostrophe,
// which spreadsheets do not show.
func csvText(text *string) string {
	if text == nil {
		return ""
	}
	if *text != "" && strings.ContainsRune("=+-@\t\r", rune((*text)[0])) {
		return "'" + *text
	}
	return *text
}

// wantsCSV reports whether an Accept header prefers CSV to JSON.
func wantsCSV(accept string) bool {
	var table, object float64
	for part := range strings.SplitSeq(accept, ",") {
		kind, parameters, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		q := 1.0
		if text, ok := parameters["q"]; ok {
			if q, err = strconv.ParseFloat(text, 64); err != nil {
				q = 0
			}
		}
		switch kind {
		case "text/csv":
			table = max(table, q)
		case "application/json":
			object = max(object, q)
		}
	}
	return table > 0 && table >= object
}
