package api_test

import (
	"net/http"
	"strings"
	"testing"

	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/identity"
)

// TestAgentsCannotBeIsolated: what needs a gateway answers 503 with what is missing and
// leaves nothing behind; reads, stop and delete work; the server recovers by itself.
func TestAgentsCannotBeIsolated(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "plan_self_hosted")
	ada, bob, eve := who.newAgent("ada"), who.newAgent("bob"), who.newAgent("eve")
	who.do("POST", "/v1/agents/"+bob+"/stop", nil).expect(200)
	env.Driver.SetMissing("bubblewrap is not installed")
	refused := func(r *response) {
		t.Helper()
		r.expectError(http.StatusServiceUnavailable, "unavailable")
		if m := r.field("error.message"); !strings.Contains(m, "bubblewrap is not installed") || !strings.Contains(m, "Reading, stopping and deleting work.") {
			t.Errorf("the caller sees %q", m)
		}
		if r.header.Get("Retry-After") == "" {
			t.Error("there is no Retry-After")
		}
	}
	chat := func(id string) *response {
		return who.do("POST", "/v1/agents/"+id+"/chat/messages", map[string]string{"message": "hello"})
	}
	refused(who.do("POST", "/v1/agents", createBody))
	refused(who.post("/v1/agents", "key-1", createBody))
	refused(who.do("POST", "/v1/agents/"+bob+"/start", nil))
	refused(who.do("POST", "/v1/agents/"+ada+"/restart", nil))
	refused(chat(ada))
	refused(chat(bob))

	who.do("POST", "/v1/agents", `{"name":""}`).expect(400)
	who.do("POST", "/v1/agents/00000000-0000-0000-0000-000000000000/start", nil).expect(404)
	if total := who.do("GET", "/v1/agents", nil).expect(200).field("pagination.total"); total != "3" {
		t.Errorf("%s agents", total)
	}
	if got := who.do("GET", "/v1/agents/"+ada, nil).expect(200).field("data.status"); got != "running" {
		t.Errorf("the agent that ran is %s", got)
	}
	who.do("GET", "/v1/agents/"+ada+"/chat/messages", nil).expect(200)
	if env.Driver.RunningCount() != 2 {
		t.Errorf("%d gateways run", env.Driver.RunningCount())
	}

	// A gateway that ends waits, and is not in error however often it was tried.
	env.Driver.Kill(identity.AgentID(eve), 1)
	apitest.WaitUntil(t, "the reason is shown", func() bool {
		return strings.Contains(who.do("GET", "/v1/agents/"+eve, nil).expect(200).field("data.lastError"), "bubblewrap is not installed")
	})
	who.do("POST", "/v1/agents/"+ada+"/stop", nil).expect(200)
	who.do("DELETE", "/v1/agents/"+ada, nil).expect(200)

	env.Driver.SetMissing("")
	apitest.WaitUntil(t, "the gateway has been started again", func() bool {
		return who.do("GET", "/v1/agents/"+eve, nil).expect(200).field("data.status") == "running"
	})
	who.do("POST", "/v1/agents/"+bob+"/start", nil).expect(200)
	chat(bob).expect(200)
	who.post("/v1/agents", "key-1", createBody).expect(201)
}
