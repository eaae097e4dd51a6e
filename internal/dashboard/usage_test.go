package dashboard

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/usage"
)

func TestUsagePages(t *testing.T) {
	env := newEnv(t)
	b := env.as("viewer")
	b.get("/usage").has(200, "Nothing was used in this range", "30 days")
	id := env.agent("Support & Co")
	now := time.Now().UTC()
	record := func(at time.Time, model, peer string, input int) {
		env.Meter.Record(t.Context(), usage.Call{
			AccountID: env.account, AgentID: identity.AgentID(id), PeerID: peer, SessionID: "sess_1", Provider: provider.Anthropic, Model: model, At: at,
			Tokens: usage.Tokens{Input: int64(input), Output: 10},
		})
	}
	record(now, "claude-sonnet-5", "<b>ann</b>", 1_000_000)
	record(now.AddDate(0, 0, -3), "claude-haiku-4-5", "bob", 2_000_000)
	record(now.AddDate(0, 0, -60), "claude-haiku-4-5", "bob", 5_000_000)

	env.Meter.Record(t.Context(), usage.Call{AccountID: env.account, AgentID: identity.AgentID(id), Provider: provider.Anthropic, Model: "nobody-knows-it", At: now, Tokens: usage.Tokens{Input: 0, Output: 0}})
	b.get("/usage").has(200, "The price of 1 call is not known")
	page := b.get("/usage").has(200, "3\u202f000\u202f000", "<svg", "Model calls", shortDay(now.Format(dayForm)))
	if n := strings.Count(page.Body, "<title>"); n != 3 {
		t.Errorf("the page has %d titles: its own, and one for each bar", n)
	}
	b.get("/usage?range=90d&by=model").has(200, "8\u202f000\u202f000", "anthropic/claude-sonnet-5", "anthropic/claude-haiku-4-5")
	peers := b.get("/usage?by=peer").has(200, "&lt;b&gt;ann&lt;/b&gt;", "bob")
	if strings.Contains(peers.Body, "<b>ann") {
		t.Error("the name of a peer is HTML")
	}
	// Each number leads to what it is made of.
	link := strings.ReplaceAll(peers.find(`<a href="(\?[^"]*peer=bob[^"]*)"`), "&amp;", "&")
	b.get("/usage"+link).has(200, "Only peer <b>bob</b>", "sess_1", "2\u202f000\u202f000")
	b.get("/usage?by=agent").has(200, "Support &amp; Co", "agent="+id)
	b.get("/usage?range=today&by=hour").has(200, "UTC</a>", "1\u202f000\u202f000")
	b.get("/agents/"+id+"/usage?range=today").has(200, "1\u202f000\u202f000", `aria-current="page">Usage</a>`)
	b.get("/usage?"+url.Values{"from": {now.AddDate(0, 0, -61).Format(dayForm)}, "to": {now.AddDate(0, 0, -59).Format(dayForm)}}.Encode()).has(200, "5\u202f000\u202f000")
	b.get("/usage?from=2026-02-30").has(400, "is no day")
	b.get("/usage?from=2026-02-10&to=2026-02-01").has(400, "ends before it begins")
	b.get("/usage?by=nonsense&range=nonsense").has(200, "by")

	csv := b.get(strings.TrimPrefix(strings.ReplaceAll(page.find(`href="(/app/usage/csv\?[^"]*)"`), "&amp;", "&"), root)).has(200, "inputTokens")
	if !strings.HasPrefix(csv.Header.Get("Content-Type"), "text/csv") || strings.Count(csv.Body, "\n") != 3 {
		t.Errorf("%s: %s", csv.Header.Get("Content-Type"), csv.Body)
	}
}

func TestChartsHaveEveryDay(t *testing.T) {
	from := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	day, cost := "2026-02-03", int64(5)
	c := newChart(selection{from: from, to: from.AddDate(0, 0, 7), by: "day", address: url.Values{}}, "day", []client.Usage{{Group: &day, Cost: client.Cost{Requests: 1, CostMicros: &cost}}}, "cost")
	if len(c.Bars) != 7 || c.Bars[2].Height != "158.00" || c.Bars[1].Height != "0.00" || c.First != "1 Feb 2026" || c.Last != "7 Feb 2026" {
		t.Errorf("%+v", c)
	}
}
