package api_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

// waits returns what waits for a person in the caller's account.
func (c *caller) waits() []client.AttentionItem {
	c.env.T.Helper()
	found, err := c.client().Attention(c.env.T.Context(), 0)
	if err != nil {
		c.env.T.Fatal(err)
	}
	return found.Data
}

func (c *caller) exec(query string, args ...any) {
	c.env.T.Helper()
	err := c.env.DB.Tx(c.env.T.Context(), "test", func(ctx context.Context, tx *database.Tx) error {
		_, err := database.Exec(ctx, tx, query, args...)
		return err
	})
	if err != nil {
		c.env.T.Fatal(err)
	}
}

func TestWhatWaitsForAPerson(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("attention", "")
	id := who.newAgent("Ada")
	if all := who.waits(); len(all) != 0 {
		t.Fatalf("nothing is wrong: %+v", all)
	}
	// An edit that waits is approved by its action.
	who.do("PATCH", "/v1/agents/"+id, `{"config":{"selfEdit":"review"}}`).expect(200)
	env.editHome(id, "workspace/SOUL.md", "# Edited")
	who.do("GET", "/v1/agents/"+id+"/edits", nil).expect(200)
	all := who.waits()
	if len(all) != 1 || all[0].Kind != "edit" || *all[0].Subject != "SOUL.md" || *all[0].AgentName != "Ada" || all[0].Severity != "review" {
		t.Fatalf("%+v", all)
	}
	who.do(all[0].Actions[0].Method, all[0].Actions[0].Path, nil).expect(200)
	if all := who.waits(); len(all) != 0 {
		t.Fatalf("after the approval: %+v", all)
	}
	// A provider that refuses the key.
	if err := env.Runtime.Store.SaveModelResult(t.Context(), identity.AgentID(id), agent.CategoryCredentials, "The provider refused the key."); err != nil {
		t.Fatal(err)
	}
	all = who.waits()
	if len(all) != 1 || all[0].Kind != "key" || all[0].Severity != "error" || all[0].Sentence != "The provider refused the key." || all[0].Actions[0].Method != "PUT" || !all[0].Actions[0].Input {
		t.Fatalf("%+v", all)
	}
	if all[0].Since == nil || time.Since(all[0].Since.Time) > time.Minute {
		t.Errorf("since %v", all[0].Since)
	}
	if err := env.Runtime.Store.SaveModelResult(t.Context(), identity.AgentID(id), "", ""); err != nil {
		t.Fatal(err)
	}
	// The key is missing where the calls go.
	who.do("PATCH", "/v1/agents/"+id, `{"config":{"baseUrl":"https://llm.example.com"}}`).expect(200)
	if all = who.waits(); len(all) != 1 || all[0].Kind != "key" || !strings.Contains(all[0].Sentence, "is not sent") {
		t.Fatalf("%+v", all)
	}
	who.do("PATCH", "/v1/agents/"+id, `{"config":{"baseUrl":null}}`).expect(200)
	// A gateway that ends for ever.
	env.Driver.Kill(identity.AgentID(id), 78)
	apitest.WaitUntil(t, "the error", func() bool { return who.do("GET", "/v1/agents/"+id, nil).field("data.status") == "error" })
	all = who.waits()
	if len(all) != 1 || all[0].Severity != "error" || all[0].ID != "agent:"+id {
		t.Fatalf("%+v", all)
	}
	last := all[0].Actions[len(all[0].Actions)-1]
	who.do(last.Method, last.Path, nil).expect(200)
	if all = who.waits(); len(all) != 0 {
		t.Errorf("after %s: %+v", last.Name, all)
	}
	// Nothing of it is another account's.
	who.do("PATCH", "/v1/agents/"+id, `{"config":{"baseUrl":"https://llm.example.com"}}`).expect(200)
	if all := env.newAccount("other", "").waits(); len(all) != 0 {
		t.Errorf("another account: %+v", all)
	}
	// Of a stopped agent nobody misses the key.
	who.do("POST", "/v1/agents/"+id+"/stop", nil).expect(200)
	if all := who.waits(); len(all) != 0 {
		t.Errorf("a stopped agent: %+v", all)
	}
}

func TestOnlyWhatIsNoFailureIsDismissed(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newFixture("mine")
	who := mine.caller
	who.do("POST", "/v1/attention/"+mine.item+"/dismiss", nil).expect(200)
	who.do("POST", "/v1/attention/"+mine.item+"/dismiss", nil).expect(200)
	if all := who.waits(); len(all) != 0 {
		t.Fatalf("%+v", all)
	}
	if audit := who.do("GET", "/v1/audit?action=attention.dismissed", nil).expect(200); strings.Count(audit.body, `"attention.dismissed"`) != 1 {
		t.Error(audit.body)
	}
	who.do("PATCH", "/v1/agents/"+mine.agent, `{"swarmId":null,"config":{"llmProvider":"openai","baseUrl":"https://llm.example.com"}}`)
	if err := env.Runtime.Store.SaveModelResult(t.Context(), identity.AgentID(mine.agent), agent.CategoryModel, "It fails."); err != nil {
		t.Fatal(err)
	}
	for _, item := range who.waits() {
		who.do("POST", "/v1/attention/"+item.ID+"/dismiss", nil).expectError(409, "conflict")
	}
	who.do("POST", "/v1/attention/plan:agents:90/dismiss", nil).expectError(404, "not_found")
	// The storage of the plan.
	who.exec(`UPDATE account_storage SET bytes = $1 WHERE account_id = $2`, int64(10<<30)/100*91, who.account)
	plan := func() string {
		for _, item := range who.waits() {
			if item.Kind == "plan" {
				return item.ID
			}
		}
		return ""
	}
	if plan() != "plan:bytes:90" {
		t.Fatal(plan())
	}
	who.do("POST", "/v1/attention/plan:bytes:90/dismiss", nil).expect(200)
	if plan() != "" {
		t.Error(plan())
	}
	who.exec(`UPDATE account_storage SET bytes = $1 WHERE account_id = $2`, int64(10<<30), who.account)
	if plan() != "plan:bytes:100" {
		t.Error("the next level is not told")
	}
}

// BenchmarkAttention measures the list over 1,000 agents, a tenth of which have a problem.
func BenchmarkAttention(b *testing.B) {
	env := newEnv(b, options{})
	who := env.newAccount("many", "")
	id := who.newAgent("Ada")
	for i := range 1000 {
		problem := ""
		if i%10 == 0 {
			problem = "The provider refused the key."
		}
		who.exec(`INSERT INTO agents (id, account_id, name, search_name, region, config, desired_state, generation, observed_generation, status, place, last_error, error_category, created_at)
			SELECT $1, account_id, name, search_name, region, config, 'running', 1, 1, 'running', 'x', $2, 'credentials', created_at FROM agents WHERE id = $3`, fmt.Sprint("00000000-0000-0000-0000-", 100000000000+i), problem, id)
		who.exec(`INSERT INTO secrets (account_id, owner_id, name, sealed, updated_at, origin) VALUES ($1, $2, 'anthropicApiKey', X'00', 0, 'https://api.anthropic.com')`, who.account, fmt.Sprint("00000000-0000-0000-0000-", 100000000000+i))
	}
	for b.Loop() {
		all, err := env.Attention.List(b.Context(), who.account)
		if err != nil || len(all) != 100 {
			b.Fatalf("%d %v", len(all), err)
		}
	}
}
