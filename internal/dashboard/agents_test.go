package dashboard

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
)

func TestTheListOfAgents(t *testing.T) {
	env := newEnv(t)
	env.as("owner").get("/agents").has(http.StatusOK, "No agents yet")
	id := env.agent("<b>Support</b>")
	env.as("viewer").get("/agents").has(http.StatusOK, "&lt;b&gt;Support", `href="/app/agents/`+id+`"`, "running")
	env.as("viewer").get("/agents?search=sales").has(http.StatusOK, "No agent matches")
	env.as("").get("/agents").leads("/sign-in?" + encodeQuery("next", "/agents"))
}

// TestRegionsOfANewAgent: the form offers those that there are; one that has gone meanwhile is refused.
func TestRegionsOfANewAgent(t *testing.T) {
	newEnv(t).as(access.Developer).get("/agents/new").has(http.StatusOK, `<option value="eu" selected>Europe</option>`, `<option value="us">United States</option>`)
	env := newEnvWith(t, apitest.Options{}, func(_ *apitest.Env, s *Settings) {
		s.Regions = func(context.Context) ([]string, error) { return []string{"<asia>", "eu", "us"}, nil }
	})
	env.account = env.NewAccount("Acme", "")
	b := env.as(access.Developer)
	b.get("/agents/new").has(http.StatusOK, `<option value="&lt;asia&gt;">&lt;asia&gt;</option>`, `<option value="eu" selected>Europe</option>`)
	b.post("/agents/new", "name", "Support", "region", "<asia>", "starter", "blank", "provider", "anthropic", "key", "sk-ant-x", "unchecked", "1", "do", "create").
		has(http.StatusUnprocessableEntity, "must be one of eu, us", `<option value="&lt;asia&gt;" selected>`)
}

func TestAnAgentIsCreatedStartedAndStopped(t *testing.T) {
	env := newEnv(t)
	b := env.as(access.Developer)
	b.get("/agents/new?starter=support").has(http.StatusOK, `value="support" checked`, "Key of the provider")
	form := []string{"name", "Support", "region", "eu", "starter", "blank", "provider", "anthropic", "do", "create"}
	b.post("/agents/new", form...).has(http.StatusUnprocessableEntity, "needs a key", `value="Support"`)
	refused := b.post("/agents/new", append(form, "key", "")...)
	refused.has(http.StatusUnprocessableEntity, "needs a key")
	created := b.post("/agents/new", append(form, "key", "sk-ant-hidden", "unchecked", "1")...)
	to := created.Header.Get("Location")
	if created.Status != http.StatusSeeOther || !strings.HasPrefix(to, root+"/agents/") {
		t.Fatalf("%d %s: %s", created.Status, to, created.Body)
	}
	id := strings.TrimPrefix(to, root+"/agents/")
	env.awaitState(b, id, "running")
	page := b.get("/agents/"+id).has(http.StatusOK, "Support", "anthropic", "Restart Support?", "cannot be undone", `data-live="agent/`+id+`"`)
	if strings.Contains(page.Body, "sk-ant-hidden") {
		t.Error("the page shows a key")
	}
	b.post("/agents/" + id + "/stop").leads("/agents/" + id)
	env.awaitState(b, id, "stopped")
	b.post("/agents", "agent", id, "do", "start").leads("/agents")
	b.get("/agents").has(http.StatusOK, "1 agent start now")
	env.awaitState(b, id, "running")
	b.post("/agents?"+encodeQuery("back", "status=running&search=Sup"), "agent", id, "do", "stop").leads("/agents?search=Sup&status=running")
	b.post("/agents", "do", "stop").leads("/agents")
	b.get("/agents").has(http.StatusOK, "Choose agents first")
	b.post("/agents", "agent", "none", "do", "start").leads("/agents")
	b.get("/agents").has(http.StatusOK, "1 agent could not")
	b.post("/agents/"+id+"/delete", "typed", "something else").leads("/agents/" + id)
	b.get("/agents/"+id).has(http.StatusOK, "Nothing was deleted")
	b.post("/agents/"+id+"/delete", "typed", "Support").leads("/agents")
	b.get("/agents/" + id).has(http.StatusNotFound)
}

// awaitState waits until the page of an agent says its state.
func (env *testEnv) awaitState(b *browser, id, word string) {
	env.t.Helper()
	changed, stop := env.Events.Subscribe(event.AgentTopic(identity.AgentID(id)))
	defer stop()
	ctx, cancel := context.WithTimeout(env.t.Context(), apitest.WaitTimeout)
	defer cancel()
	for !strings.Contains(b.get("/agents/"+id).has(http.StatusOK).Body, `">`+word+`</span>`) {
		select {
		case <-changed:
		case <-ctx.Done():
			env.t.Fatalf("the agent %s does not become %s", id, word)
		}
	}
}

// TestAFormThatIsSentTwice is done once.
func TestAFormThatIsSentTwice(t *testing.T) {
	env := newEnv(t)
	b := env.as(access.Developer)
	once := newOnce()
	send := func(name string) string {
		form := url.Values{accountField: {string(b.account)}, onceField: {once}}
		for k, v := range map[string]string{"name": name, "region": "eu", "starter": "blank", "provider": "anthropic", "key": "sk-ant-x", "unchecked": "1", "do": "create"} {
			form.Set(k, v)
		}
		return b.send(http.MethodPost, "/agents/new", form).Header.Get("Location")
	}
	first, again, other := send("Support"), send("Support"), send("Sales")
	if first == "" || first != again || other == first {
		t.Errorf("%q %q %q", first, again, other)
	}
}

func TestThePaletteFindsPagesAndAgents(t *testing.T) {
	env := newEnv(t)
	id := env.agent("Support")
	b := env.as(access.Developer)
	find := func(q string) answer {
		req := b.request(t.Context(), http.MethodGet, "/palette?"+encodeQuery("q", q), nil)
		req.Header.Set(accountHeader, string(env.account))
		return b.do(req)
	}
	find("").has(http.StatusOK, `"/app/agents"`, `"title":"Support"`)
	find("supp").has(http.StatusOK, "/app/agents/"+id)
	find("support over").has(http.StatusOK, "Support · Overview")
	other := env.agent("Research")
	env.ask(other, client.ChatRequest{Message: "Where is my parcel?", PeerID: "customer-9"})
	for _, words := range []string{"my parcel", "customer-9"} { // of any agent, wherever the person is
		find(words).has(http.StatusOK, "Where is my parcel?", "session of Research · customer-9", "/app/agents/"+other+"/chat?session=")
	}
	find("profile").has(http.StatusOK, `"/app/profile"`)
	if got := find("zzz").has(http.StatusOK); got.Body != "[]\n" {
		t.Error(got.Body)
	}
	b.get("/palette?q=").has(http.StatusBadRequest)
}
