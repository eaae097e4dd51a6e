package api_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/usage"
)

// usageAt is two hours before the end of a day, in the middle of an hour.
func usageAt() time.Time {
	return time.Now().UTC().Truncate(24 * time.Hour).Add(-26*time.Hour + 20*time.Minute)
}

// record counts the calls of a test: those of two agents, hours, peers, sessions, models, keys and
// swarms, of which one model has no price.
func (env *testEnv) record(account identity.AccountID, agents ...string) (all []usage.Sum) {
	env.T.Helper()
	for i := range 12 {
		c := usage.Call{
			AccountID: account, AgentID: identity.AgentID(agents[i%len(agents)]), SwarmID: []identity.SwarmID{"", "swarm-1"}[i/2%2], PeerID: []string{"", "=1+1", "eve"}[i%3],
			SessionID: identity.SessionID(fmt.Sprint("sess_", i%5)), KeyID: []identity.KeyID{"key_1", ""}[i/3%2], Provider: provider.Anthropic, Model: []string{"claude-sonnet-5", "llama"}[i%4/3],
			At: usageAt().Add(time.Duration(i) * 25 * time.Minute), Estimated: i == 7,
			Tokens: usage.Tokens{Input: int64(100 + i), Output: int64(10 + i), Reasoning: int64(i), CacheRead: int64(1000 * i), CacheWrite: 7},
		}
		all = append(all, env.Meter.Record(env.T.Context(), c))
	}
	return all
}

func sumOfRows(rows []client.Usage) (s client.Usage) {
	var micros int64
	for _, r := range rows {
		s.InputTokens += r.InputTokens
		s.OutputTokens += r.OutputTokens
		s.ReasoningTokens += r.ReasoningTokens
		s.CacheReadTokens += r.CacheReadTokens
		s.CacheWriteTokens += r.CacheWriteTokens
		s.Requests += r.Requests
		s.EstimatedRequests += r.EstimatedRequests
		s.UnpricedRequests += r.UnpricedRequests
		if r.CostMicros != nil {
			micros += *r.CostMicros
		}
	}
	s.CostMicros = &micros
	return s
}

// TestEveryGroupingHasTheSameSum also reads every page of two rows.
func TestEveryGroupingHasTheSameSum(t *testing.T) {
	env := newEnv(t, options{})
	mine, other := env.newFixture("mine"), env.newFixture("other")
	var want usage.Sum
	for _, s := range env.record(mine.account, mine.agent, "deleted-agent") {
		want.Add(s)
	}
	env.record(other.account, other.agent)
	c, ctx := mine.client(), t.Context()
	for by, groups := range map[string]int{"": 2, "day": 2, "hour": 5, "agent": 2, "swarm": 2, "peer": 3, "session": 5, "model": 2, "key": 2} {
		var rows []client.Usage
		q := client.UsageQuery{By: by, Limit: 2}
		for pages := 0; ; pages++ {
			page, err := c.Usage(ctx, q)
			if err != nil || pages > 5 {
				t.Fatalf("%s: %v", by, err)
			}
			rows = append(rows, page.Data...)
			if !page.Pagination.HasMore {
				break
			}
			q.Offset = *page.Pagination.NextOffset
		}
		got := sumOfRows(rows)
		if len(rows) != groups || got.InputTokens != want.Prompt() || got.OutputTokens != want.Output || got.ReasoningTokens != want.Reasoning || got.CacheReadTokens != want.CacheRead ||
			got.CacheWriteTokens != want.CacheWrite || got.Requests != 12 || got.EstimatedRequests != 1 || got.UnpricedRequests != 3 || *got.CostMicros != want.Micros || want.Micros == 0 {
			t.Errorf("by %s: %d rows, %+v of %d, want %+v", by, len(rows), got, *got.CostMicros, want)
		}
	}
}

func TestUsageRowsSayWhatTheyAreAbout(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newFixture("mine")
	env.record(mine.account, mine.agent)
	for query, want := range map[string][]string{
		"by=day":                                 {usageAt().Format(time.DateOnly), usageAt().Add(5 * time.Hour).Format(time.DateOnly)},
		"by=hour&limit=1":                        {usageAt().Format("2006-01-02T15:00:00.000Z")},
		"by=agent":                               {mine.agent},
		"by=swarm":                               {"null", "swarm-1"},
		"by=peer":                                {"null", "=1+1", "eve"},
		"by=model":                               {"anthropic/claude-sonnet-5", "anthropic/llama"},
		"by=key":                                 {"null", "key_1"},
		"by=session&peerId=eve":                  {"sess_0", "sess_1", "sess_2", "sess_3"},
		"by=peer&sessionId=sess_4":               {"null", "=1+1"},
		"by=key&keyId=key_1":                     {"key_1"},
		"by=key&keyId=key_9":                     {},
		"by=swarm&swarmId=swarm-1":               {"swarm-1"},
		"by=model&model=llama":                   {"anthropic/llama"},
		"by=model&model=anthropic/llama":         {"anthropic/llama"},
		"by=model&model=openai/llama":            {},
		"by=agent&agentId=" + mine.agent:         {mine.agent},
		"by=agent&agentId=another":               {},
		"by=agent&from=2020-01-01&to=2020-02-01": {},
		"by=hour&to=" + usageAt().Add(time.Minute).Format("2006-01-02T15:04:05Z"):                                                {usageAt().Format("2006-01-02T15:00:00.000Z")},
		"by=agent&from=" + usageAt().Format("2006-01-02T15:04:05Z") + "&to=" + usageAt().Add(24*time.Hour).Format(time.DateOnly): {mine.agent},
	} {
		r := mine.do("GET", "/v1/usage?"+query, nil).expect(200)
		groups := []string{}
		for i := 0; strings.Contains(r.body, "{"); i++ {
			if group := r.field(fmt.Sprintf("data.%d.requests", i)); group == "" {
				break
			}
			groups = append(groups, r.field(fmt.Sprintf("data.%d.group", i)))
		}
		if fmt.Sprint(groups) != fmt.Sprint(want) {
			t.Errorf("%s: %q, want %q: %s", query, groups, want, r.body)
		}
	}
	if r := mine.do("GET", "/v1/usage?by=agent", nil); r.field("data.0.name") != "Owned by mine" {
		t.Error(r.body)
	}
	if r := mine.do("GET", "/v1/usage?by=model", nil); !strings.Contains(r.body, `"costMicros":null`) {
		t.Error("the price of a model that has none: ", r.body)
	}
	if r := mine.do("GET", "/v1/agents/"+mine.agent+"/usage?by=agent", nil).expect(200); r.field("data.0.requests") != "12" {
		t.Error(r.body)
	}
	for query, field := range map[string]string{
		"by=week": "by", "from=yesterday": "from", "to=now": "to", "from=2026-02-01&to=2026-02-01": "from", "offset=x": "offset", "offset=u!": "offset", "limit=0": "limit", "limit=1001": "limit", "peerId=": "peerId",
	} {
		if r := mine.do("GET", "/v1/usage?"+query, nil).expectError(400, "invalid_request"); r.field("error.details."+field) == "" {
			t.Errorf("%s: %s", query, r.body)
		}
	}
}

func TestUsageAsCSV(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newFixture("mine")
	env.record(mine.account, mine.agent)
	for accept, isCSV := range map[string]bool{
		"text/csv": true, "text/csv; charset=utf-8": true, "text/csv, */*;q=0.1": true, "text/csv;q=0.5, application/json": false, "*/*": false, "application/json": false, "text/csv;q=0": false,
	} {
		r := mine.do("GET", "/v1/usage?by=peer&limit=2", nil, "Accept", accept).expect(200)
		if got := r.header.Get("Content-Type"); strings.HasPrefix(got, "text/csv") != isCSV {
			t.Errorf("%s: %s", accept, got)
		}
	}
	first := mine.do("GET", "/v1/usage?by=peer&limit=2", nil, "Accept", "text/csv").expect(200)
	rows, err := csv.NewReader(strings.NewReader(first.body)).ReadAll()
	if err != nil || len(rows) != 3 || rows[0][0] != "group" || rows[1][0] != "" || rows[2][0] != "'=1+1" || rows[1][2] != "4" || first.header.Get("Content-Type") != "text/csv; charset=utf-8" {
		t.Errorf("%v, %v, %q", first.header, err, rows)
	}
	next := mine.do("GET", "/v1/usage?by=peer&limit=2&offset="+first.header.Get("X-Next-Offset"), nil, "Accept", "text/csv").expect(200)
	if rows, err := csv.NewReader(strings.NewReader(next.body)).ReadAll(); err != nil || len(rows) != 2 || rows[1][0] != "eve" || next.header.Get("X-Next-Offset") != "" {
		t.Errorf("%v, %v, %q", next.header, err, rows)
	}
	if models := mine.do("GET", "/v1/usage?by=model", nil, "Accept", "text/csv").expect(200); !strings.Contains(models.body, "anthropic/llama,,3,") || !strings.Contains(models.body, ",unknown\n") {
		t.Error(models.body)
	}
	mine.do("GET", "/v1/usage?by=week", nil, "Accept", "text/csv").expectError(400, "invalid_request")
	mine.do("GET", "/v1/agents", nil, "Accept", "text/csv").expect(200).field("data.0.id")
}

// TestUsageOfADeletedAgentHasNoPeers: its rows stay with the account.
func TestUsageOfADeletedAgentHasNoPeers(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newFixture("mine")
	env.record(mine.account, mine.agent)
	before := mine.do("GET", "/v1/usage?by=session", nil).expect(200)
	mine.do("DELETE", "/v1/agents/"+mine.agent, nil).expect(200)
	mine.do("GET", "/v1/agents/"+mine.agent+"/usage", nil).expectError(404, "not_found")
	if after := mine.do("GET", "/v1/usage?by=session", nil).expect(200); after.body != before.body {
		t.Errorf("before %s\nafter %s", before.body, after.body)
	}
	if peers := mine.do("GET", "/v1/usage?by=peer", nil).expect(200); strings.Contains(peers.body, "eve") || peers.field("data.0.requests") != "12" {
		t.Error(peers.body)
	}
}

func TestCSVIsDescribed(t *testing.T) {
	env := newEnv(t, options{})
	doc := (&caller{env: env}).do("GET", "/openapi.json", nil).expect(200)
	for _, path := range []string{"/v1/usage", "/v1/agents/{id}/usage"} {
		var api struct {
			Paths map[string]map[string]struct {
				Responses map[string]struct{ Content, Headers map[string]any }
			}
		}
		if err := json.Unmarshal([]byte(doc.body), &api); err != nil {
			t.Fatal(err)
		}
		ok := api.Paths[path]["get"].Responses["200"]
		if ok.Content["text/csv"] == nil || ok.Content["application/json"] == nil || ok.Headers["X-Next-Offset"] == nil || ok.Headers["Content-Type"] != nil {
			t.Errorf("%s: %v", path, ok)
		}
	}
}
