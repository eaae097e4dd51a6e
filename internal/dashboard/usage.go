package dashboard

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/fault"
)

// usageRoutes are the pages of what the account, and one agent, have used.
func (s *Server) usageRoutes() []route {
	return []route{
		page("GET /usage", has(access.AgentsRead), s.usage),
		page("GET /usage/csv", has(access.AgentsRead), s.usageCSV),
		page("GET /agents/{id}/usage", has(access.AgentsRead), s.usage),
	}
}

// usagePage is the data of a page of usage.
type usagePage struct {
	Agent   *client.Agent
	Ranges  []choice
	Groups  []choice
	Range   string // of Ranges; empty: From and To
	From    string // days, UTC
	To      string // the last one
	By      string
	Show    string // cost or tokens
	Filters []usageFilter
	Total   client.Usage
	Chart   chart
	Rows    []usageRow
	Next    string
	CSV     string // address of the table
}

// usageFilter is what the page is restricted to.
type usageFilter struct{ Param, Title, Value string }

// usageRow is a group, with the link to what it is made of.
type usageRow struct {
	client.Usage
	Title string
	Soft  string // its id
	Link  string // the address of what it is made of
	Share int    // of the largest row, in percent
}

const (
	dayForm = "2006-01-02"
	// byHours is the longest range whose chart has a bar for each hour.
	byHours = 49 * time.Hour
	// rowsPerPage keeps the page below 100 KB.
	rowsPerPage = 50
)

// usageRanges are those that the page offers.
func usageRanges() []choice {
	return []choice{{"today", "today"}, {"7d", "7 days"}, {"30d", "30 days"}, {"90d", "90 days"}, {"365d", "a year"}}
}

func usageGroups() []choice {
	return []choice{{"day", "day"}, {"hour", "hour"}, {"model", "model"}, {"agent", "agent"}, {"swarm", "swarm"}, {"peer", "peer"}, {"session", "session"}, {"key", "API key"}}
}

// usageFilters are the parameters that restrict a page, with their titles.
func usageFilters() []choice {
	return []choice{{"agent", "agent"}, {"swarm", "swarm"}, {"model", "model"}, {"peer", "peer"}, {"session", "session"}, {"key", "API key"}}
}

// selection is what a page of usage shows: the parameters of its address.
type selection struct {
	from, to time.Time
	named    string // the range; empty: given by days
	by       string
	query    client.UsageQuery
	address  url.Values // of the page
	chat     bool       // sessions lead to the chat
}

// selectUsage reads the address. Days are those of UTC, as in bills. Faults: Invalid.
func (v *visit) selectUsage(now time.Time) (selection, error) {
	today := now.UTC().Truncate(24 * time.Hour)
	sel := selection{to: today.AddDate(0, 0, 1), named: v.Query("range"), by: "day"}
	if slices.ContainsFunc(usageGroups(), func(c choice) bool { return c.Value == v.Query("by") }) {
		sel.by = v.Query("by")
	}
	if from := v.Query("from"); from != "" && sel.named == "" {
		var err error
		if sel.from, err = parseMoment(from); err != nil {
			return sel, err
		}
		if to := v.Query("to"); to != "" {
			if sel.to, err = parseMoment(to); err != nil {
				return sel, err
			}
			if len(to) == len(dayForm) { // the last day belongs to the range
				sel.to = sel.to.AddDate(0, 0, 1)
			}
		}
		if !sel.from.Before(sel.to) {
			return sel, fault.New(fault.Invalid, "The range ends before it begins.")
		}
	} else {
		sel.named = cmp.Or(sel.named, "30d")
		days := 30
		switch sel.named {
		case "today":
			days = 1
		case "7d", "90d", "365d":
			days, _ = strconv.Atoi(sel.named[:len(sel.named)-1]) // it is a number
		default:
			sel.named = "30d"
		}
		sel.from = sel.to.AddDate(0, 0, -days)
	}
	sel.query = client.UsageQuery{
		From: client.NewTime(sel.from), To: client.NewTime(sel.to), By: sel.by, AgentID: v.Query("agent"), SwarmID: v.Query("swarm"), Model: v.Query("model"),
		PeerID: v.Query("peer"), SessionID: v.Query("session"), KeyID: v.Query("key"),
	}
	if id := v.Arg("id"); id != "" {
		sel.query.AgentID = id
	}
	return sel, nil
}

// parseMoment parses a day, or an hour as rows have it. Faults: Invalid.
func parseMoment(text string) (time.Time, error) {
	for _, form := range []string{dayForm, time.RFC3339} {
		if t, err := time.Parse(form, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fault.New(fault.Invalid, "%q is no day such as 2026-02-10.", text)
}

func (s *Server) usage(v *visit) error {
	p := usagePage{Ranges: usageRanges(), Groups: usageGroups(), Show: "cost"}
	if v.Query("show") == "tokens" {
		p.Show = "tokens"
	}
	sel, err := v.selectUsage(time.Now())
	if err != nil {
		return err
	}
	if v.Arg("id") != "" {
		a, err := v.API.Agent(v.Context(), v.Arg("id"))
		if err != nil {
			return err
		}
		p.Agent = &a
		p.Groups = slices.DeleteFunc(p.Groups, func(c choice) bool { return c.Value == "agent" || c.Value == "swarm" })
	}
	p.Range, p.By, p.From, p.To = sel.named, sel.by, sel.from.Format(dayForm), sel.to.Add(-time.Second).Format(dayForm)
	over := sel.query // time
	over.By = "day"
	if sel.to.Sub(sel.from) <= byHours {
		over.By = "hour"
	}
	steps, err := v.API.Usage(v.Context(), over)
	if err != nil {
		return err
	}
	for _, u := range steps.Data {
		add(&p.Total, u)
	}
	sel.address = v.r.URL.Query()
	p.Chart = newChart(sel, over.By, steps.Data, p.Show)
	rows := steps
	if sel.by != over.By || v.Query("after") != "" {
		q := sel.query
		q.Limit, q.Offset = rowsPerPage, v.Query("after")
		if rows, err = v.API.Usage(v.Context(), q); err != nil {
			return err
		}
	}
	sel.chat = sel.by == "session" && sel.query.AgentID != "" && s.has("GET /agents/{id}/chat") && v.Can(access.Chat)
	p.Rows, p.Next = s.usageRows(rows.Data, sel, p.Show), valueOf(rows.Pagination.NextOffset)
	for _, f := range usageFilters() {
		if value := v.Query(f.Value); value != "" {
			p.Filters = append(p.Filters, usageFilter{f.Value, f.Title, value})
		}
	}
	p.CSV = s.outside.path("/usage/csv?" + sel.query.Values().Encode())
	if p.Agent != nil {
		return v.RenderAgent("usage", *p.Agent, "Usage", p)
	}
	return v.Render("usage", "Usage", p)
}

// add adds what a group has used to a sum.
func add(sum *client.Usage, u client.Usage) {
	sum.InputTokens, sum.OutputTokens = sum.InputTokens+u.InputTokens, sum.OutputTokens+u.OutputTokens
	sum.ReasoningTokens, sum.CacheReadTokens, sum.CacheWriteTokens = sum.ReasoningTokens+u.ReasoningTokens, sum.CacheReadTokens+u.CacheReadTokens, sum.CacheWriteTokens+u.CacheWriteTokens
	sum.Requests, sum.EstimatedRequests, sum.UnpricedRequests = sum.Requests+u.Requests, sum.EstimatedRequests+u.EstimatedRequests, sum.UnpricedRequests+u.UnpricedRequests
	if u.CostMicros != nil {
		total := *u.CostMicros
		if sum.CostMicros != nil {
			total += *sum.CostMicros
		}
		sum.CostMicros = &total
	}
}

// measure returns what a chart shows of a group.
func measure(u client.Usage, show string) int64 {
	if show == "tokens" {
		return u.InputTokens + u.OutputTokens
	}
	if u.CostMicros == nil {
		return 0
	}
	return *u.CostMicros
}

func measureText(n int64, show string) string {
	if show == "tokens" {
		return number(n) + " tokens"
	}
	return money(n)
}

func (s *Server) usageRows(all []client.Usage, sel selection, show string) []usageRow {
	var most int64 = 1
	for _, u := range all {
		most = max(most, measure(u, show))
	}
	rows := make([]usageRow, len(all))
	for i, u := range all {
		group := valueOf(u.Group)
		rows[i] = usageRow{Usage: u, Title: group, Share: int(100 * measure(u, show) / most)}
		switch name := valueOf(u.Name); {
		case group == "":
			rows[i].Title = noGroup(sel.by)
		case name != "":
			rows[i].Title, rows[i].Soft = name, group
		}
		if group != "" {
			rows[i].Link = madeOf(sel, group)
		}
		if group != "" && sel.chat {
			rows[i].Link = s.outside.path(path("/agents/%s/chat?session=%s", sel.query.AgentID, group))
		}
	}
	return rows
}

// noGroup names the calls that belong to no group.
func noGroup(by string) string {
	switch by {
	case "peer":
		return "nobody in particular"
	case "session":
		return "no session"
	case "swarm":
		return "no swarm"
	case "key":
		return "no API key (dashboard, channels)"
	}
	return "none"
}

// madeOf returns the address that shows what a group is made of: a day its sessions, an agent
// its days, and so on. At the end of each way is a session, whose calls are listed by the hour.
func madeOf(sel selection, group string) string {
	next := map[string]string{"day": "session", "hour": "session", "agent": "day", "swarm": "agent", "model": "session", "peer": "session", "session": "hour", "key": "session"}
	q := maps.Clone(sel.address)
	for _, name := range []string{"after", "page"} {
		q.Del(name)
	}
	q.Set("by", next[sel.by])
	switch sel.by {
	case "day":
		q.Del("range")
		q.Set("from", group)
		q.Set("to", group)
	case "hour":
		at, err := parseMoment(group)
		if err != nil {
			return ""
		}
		q.Del("range")
		q.Set("from", at.Format(time.RFC3339))
		q.Set("to", at.Add(time.Hour).Format(time.RFC3339))
	default:
		q.Set(sel.by, group)
	}
	return "?" + q.Encode()
}

// usageCSV sends the table of a page, whole, as the API makes it.
func (s *Server) usageCSV(v *visit) error {
	q := v.r.URL.Query()
	q.Del(accountField)
	req, err := http.NewRequestWithContext(v.Context(), http.MethodGet, v.API.URL+"/v1/usage?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/csv")
	res, err := v.API.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return fault.New(fault.Invalid, "The table could not be made with these parameters.")
	}
	h := v.w.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8")
	h.Set("Content-Disposition", `attachment; filename="usage.csv"`)
	_, err = io.Copy(v.w, res.Body)
	return err
}

// chart is a chart of bars over time. The template "usage" draws it.
type chart struct {
	Bars          []bar
	Most          string // what the highest bar stands for
	First, Last   string
	Width, Height int
	Step          string // day or hour
}

// bar is a bar, with the link to what it is made of.
type bar struct {
	X, Width, Y, Height string
	Title, Value, Link  string
	Usage               client.Usage
}

const (
	chartWidth  = 720
	chartHeight = 160
)

// newChart returns the chart of a range, with a bar for each day or hour, also if nothing was
// used then.
func newChart(sel selection, step string, found []client.Usage, show string) chart {
	c := chart{Width: chartWidth, Height: chartHeight, Step: step}
	form, length := dayForm, 24*time.Hour
	if step == "hour" {
		form, length = time.RFC3339, time.Hour
	}
	byGroup := map[string]client.Usage{}
	var most int64 = 1
	for _, u := range found {
		at, err := parseMoment(valueOf(u.Group))
		if err != nil {
			continue
		}
		byGroup[at.Format(form)] = u
		most = max(most, measure(u, show))
	}
	last := min(int(sel.to.Sub(sel.from)/length), 400)
	width := float64(chartWidth) / float64(max(1, last))
	at := sel
	at.by = step
	for i := range last {
		t := sel.from.Add(time.Duration(i) * length)
		u := byGroup[t.Format(form)]
		n := measure(u, show)
		height := float64(chartHeight-2) * float64(n) / float64(most)
		if n > 0 {
			height = max(height, 1)
		}
		c.Bars = append(c.Bars, bar{
			X: coordinate(float64(i)*width + width/10), Width: coordinate(width * 0.8), Y: coordinate(chartHeight - height), Height: coordinate(height),
			Title: stepTitle(t, step), Value: measureText(n, show), Link: madeOf(at, t.Format(form)), Usage: u,
		})
	}
	if len(c.Bars) > 0 {
		c.First, c.Last = c.Bars[0].Title, c.Bars[len(c.Bars)-1].Title
	}
	if len(found) > 0 {
		c.Most = measureText(most, show)
	}
	return c
}

func coordinate(n float64) string { return strconv.FormatFloat(n, 'f', 2, 64) }

func stepTitle(t time.Time, step string) string {
	if step == "hour" {
		return t.Format("2 Jan, 15:00") + " UTC"
	}
	return t.Format("2 Jan 2006")
}

// shortDay returns a day or an hour of a row as people read it; other groups as they are.
func shortDay(group string) string {
	t, err := parseMoment(group)
	switch {
	case err != nil:
		return group
	case len(group) == len(dayForm):
		return stepTitle(t, "day")
	}
	return stepTitle(t, "hour")
}

// Percent is the share of a row as text.
func (r usageRow) Percent() string { return fmt.Sprintf("%d", r.Share) }
