package dashboard

import (
	"strings"
	"testing"

	"agento.host/agento/internal/access"
)

// The pages of an agent that set it up do what they say, and no page shows a secret.
func TestAgentIsSetUpOnItsPages(t *testing.T) {
	env := newEnv(t)
	b := env.as(access.Owner)
	id := env.agent("Ada")
	at := "/agents/" + id
	for _, tab := range []string{"/personality", "/identity", "/workflow", "/rules", "/secrets", "/channels", "/network", "/settings", "/events", "/usage"} {
		b.get(at+tab).has(200, "Ada")
	}
	b.post(at+"/secrets", "known", "openaiApiKey", "value", "placeholder-secret-value").leads(at + "/secrets")
	b.get(at+"/secrets").has(200, "OpenAI").without("placeholder-secret-value")
	b.post(at+"/secrets", "known", "", "value", "placeholder-secret-value").has(422, "name the variable").without("placeholder-secret-value")
	b.post(at + "/secrets/openaiApiKey/delete").leads(at + "/secrets")
	b.post(at+"/rules", "name", "refunds", "content", "Pay within 14 days.").leads(at + "/rules/refunds")
	b.get(at+"/rules/refunds").has(200, "Pay within 14 days.")
	b.post(at + "/rules/refunds/delete").leads(at + "/rules")
	b.post(at+"/settings", "name", "Grace", "model", "claude-sonnet-5", "sharedMode", "1").leads(at + "/settings")
	b.get(at+"/settings").has(200, "Grace", "claude-sonnet-5")
	b.post(at+"/network", "egress", "list", "hosts", "api.example.com").leads(at + "/network")
	b.get(at+"/network").has(200, "api.example.com")
	b.get(at+"/events").has(200, "agent: created", "Person of owner", "key test")
	b.get("/audit?action=agent.created").has(200, "agent: created", ">Grace</a>")
	b.get("/audit?action=agent.nothing").has(200, "No change is like that")
	b.get("/audit?since=2026-02-30").has(400, "is no day")
	b.get("/audit?since=2026-02-10").has(200, `value="2026-02-10"`)
	b.get("/account").has(200, "owner@example.com")
	b.get("/").has(200, "Needs you")
	b.post("/account/invitations", "email", "grace@example.com", "role", "viewer").has(200, "grace@example.com is invited", "/app/invitation?token=")
	b.get("/account").has(200, "grace@example.com").without("token=")
	env.as(access.Viewer).get("/account").has(200, "Your role is viewer").without("Invite a person")
}

// A document that somebody else has changed meanwhile is not replaced: the page shows what
// differs, and keeps what was typed.
func TestConflictOfADocumentShowsBothSides(t *testing.T) {
	env := newEnv(t)
	b := env.as(access.Owner)
	at := "/agents/" + env.agent("Ada") + "/personality"
	b.post(at, "text", "Be kind.", "hash", "").leads(at)
	opened := hashOn(t, b.get(at).Body)
	b.post(at, "text", "Be kind.\nBe brief.", "hash", opened).leads(at)
	refused := b.post(at, "text", "Be kind.\nBe exact.", "hash", opened)
	refused.has(422, "Somebody has changed this meanwhile", "<del>- Be brief.</del>", "<ins>+ Be exact.</ins>")
	b.post(at, "text", "Be kind.\nBe exact.", "hash", hashOn(t, refused.Body)).leads(at)
	b.get(at+"/versions/2").has(200, "From what the agent has now")
	b.post(at + "/versions/2/restore").leads(at)
	b.get(at).has(200, "restored")
}

func hashOn(t *testing.T, page string) string {
	t.Helper()
	_, after, _ := strings.Cut(page, `name="hash" value="`)
	hash, _, ok := strings.Cut(after, `"`)
	if !ok || hash == "" {
		t.Fatal("the page has no hash")
	}
	return hash
}

// without checks that a page lacks a text.
func (a answer) without(text string) {
	a.t.Helper()
	if strings.Contains(a.Body, text) {
		a.t.Errorf("the page has %q", text)
	}
}
