package api_test

import (
	"errors"
	"strings"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/identity"
)

// TestClientAgainstTheServer creates, changes, uses and deletes an agent.
func TestClientAgainstTheServer(t *testing.T) {
	env := newEnv(t, options{})
	c, ctx := env.newAccount("acme", "").client(), t.Context()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := c.CreateSwarm(ctx, client.CreateSwarmRequest{Name: "Growth"})
	ok(err)
	a, err := c.CreateAgent(ctx, client.CreateAgentRequest{Name: "A", SwarmID: s.ID, Secrets: map[string]string{"anthropicApiKey": "sk-ant-test"}})
	ok(err)
	if a.Status != client.Running || a.StartedAt == nil {
		t.Errorf("the created agent is: %+v", a)
	}
	u, err := c.UpdateAgent(ctx, a.ID, client.UpdateAgentRequest{Name: client.Some("B"), AvatarURL: client.Null[string](), SwarmID: client.Null[string]()})
	ok(err)
	got, err := c.Agent(ctx, a.ID)
	ok(err)
	if u.Name != "B" || got.Name != "B" || got.Swarm != nil || got.AvatarURL != nil {
		t.Errorf("the changed agent is: %+v", got)
	}

	answer := ""
	for e, err := range c.Chat(ctx, a.ID, client.ChatRequest{Message: "Hello", PeerID: "p", Context: map[string]any{"plan": "Pro"}}) {
		ok(err)
		answer += e.Content
	}
	if answer != "You said: Hello" || env.gateways.lastTurn(t).Context != "plan: Pro" {
		t.Errorf("the answer is %q", answer)
	}
	sessions, err := c.Sessions(ctx, a.ID)
	ok(err)
	messages, err := c.History(ctx, a.ID, client.HistoryQuery{SessionID: sessions[0].ID, Limit: 10, Since: &got.CreatedAt})
	ok(err)
	if len(messages) != 2 || messages[1].Role != "assistant" {
		t.Errorf("the history is %+v", messages)
	}
	older, err := c.HistoryPage(ctx, a.ID, client.HistoryQuery{PeerID: "p", Limit: 1, Before: messages[1].ID})
	ok(err)
	if len(older.Data) != 1 || older.Data[0].ID != messages[0].ID || older.Pagination.HasMore {
		t.Errorf("before the last message: %+v", older)
	}
	var walked []string
	for m, err := range c.AllMessages(ctx, a.ID, client.HistoryQuery{Limit: 1}) {
		ok(err)
		walked = append(walked, m.ID)
	}
	if len(walked) != 2 || walked[0] != messages[0].ID || walked[1] != messages[1].ID {
		t.Errorf("all messages: %v", walked)
	}
	named, err := c.UpdateSession(ctx, a.ID, sessions[0].ID, client.UpdateSessionRequest{Name: client.Some("Printer")})
	ok(err)
	list, err := c.SessionPage(ctx, a.ID, client.SessionQuery{PeerID: "p", Limit: 1})
	ok(err)
	if *named.Name != "Printer" || len(list.Data) != 1 || *list.Data[0].Name != "Printer" || *list.Data[0].PeerID != "p" || list.Data[0].MessageCount != 2 {
		t.Errorf("the session is %+v and listed as %+v", named, list)
	}

	env.driver.Print(identity.AgentID(a.ID), "a line")
	text, err := c.Logs(ctx, a.ID, 1)
	ok(err)
	for line, err := range c.FollowLogs(ctx, a.ID, 1) {
		ok(err)
		if line+"\n" != text || !strings.HasSuffix(line, "a line") {
			t.Errorf("the log is %q, its stream %q", text, line)
		}
		break
	}

	p, err := c.Personality(ctx, a.ID)
	ok(err)
	_, err = c.SetPersonality(ctx, a.ID, client.SetPersonalityRequest{SoulMD: "Be nice.", ExpectedHash: p.SoulMDHash})
	ok(err)
	_, err = c.SetPersonality(ctx, a.ID, client.SetPersonalityRequest{SoulMD: "Be rude.", ExpectedHash: p.SoulMDHash})
	var refused *client.Error
	if !client.IsCode(err, "conflict") || !errors.As(err, &refused) || refused.Status != 409 || refused.Details["currentHash"] == "" || refused.RequestID == "" {
		t.Errorf("the error of the conflict is %v", err)
	}
	versions, err := c.PersonalityVersions(ctx, a.ID, client.VersionsQuery{Limit: 1})
	ok(err)
	more, err := c.PersonalityVersions(ctx, a.ID, client.VersionsQuery{Offset: *versions.Pagination.NextOffset})
	ok(err)
	if versions.Data[0].Version != 2 || more.Data[0].Version != 1 || more.Pagination.HasMore {
		t.Errorf("the versions are %+v and %+v", versions, more)
	}

	page, err := c.Audit(ctx, client.AuditQuery{Target: "agent/" + a.ID, Action: "agent.created"})
	ok(err)
	if len(page.Data) != 1 || page.Data[0].Target != "agent/"+a.ID {
		t.Errorf("the audit log is %+v", page)
	}
	_, err = c.DeleteAgent(ctx, a.ID)
	ok(err)
	if _, err = c.Agent(ctx, a.ID); !client.IsCode(err, "not_found") {
		t.Errorf("getting a deleted agent fails with %v", err)
	}
}

func TestClientReportsAnInterruptedAnswer(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	id := who.newAgent("A")
	script, _ := pausedAnswer("Let me ", "")
	env.gateways.setScript(script)
	var last error
	for e, err := range who.client().Chat(t.Context(), id, client.ChatRequest{Message: "Hello"}) {
		if e.Type == "text" {
			env.close() // in the middle of the answer
		}
		if e.Type == "error" {
			last = &client.Error{Code: e.Code}
		}
		if err != nil {
			last = err
		}
	}
	if last == nil {
		t.Error("the client reported half an answer as complete")
	}
}
