package api_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/apitest"
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
	if answer != "You said: Hello" || env.Gateways.LastTurn(t).Context != "plan: Pro" {
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

	env.Driver.Print(identity.AgentID(a.ID), "a line")
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
	env.Gateways.SetScript(script)
	var last error
	for e, err := range who.client().Chat(t.Context(), id, client.ChatRequest{Message: "Hello"}) {
		if e.Type == "text" {
			env.Close() // in the middle of the answer
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

// TestClientWalksLists: the iterators yield the rows of every page once.
func TestClientWalksLists(t *testing.T) {
	env := newEnv(t, options{})
	c, ctx := env.newAccount("acme", "").client(), t.Context()
	key := client.CreateAgentRequest{Secrets: map[string]string{"anthropicApiKey": "sk-ant-test"}}
	var agent string
	for _, key.Name = range []string{"A", "B", "C"} {
		a, err := c.BeginAgent(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		agent = a.ID
	}
	target := client.KnowledgeTarget{AgentID: agent}
	chunks := []client.KnowledgeChunk{{Text: "The office opens at nine.", Source: "a"}, {Text: "Refunds take five days.", Source: "b"}, {Text: "Parrots live in forests.", Source: "c"}}
	if _, err := c.IngestKnowledge(ctx, client.KnowledgeIngest{AgentID: agent, Chunks: chunks}, client.IngestOptions{}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := c.NewSession(ctx, agent, client.NewSessionRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.PutRule(ctx, agent, "refunds", client.PutRuleRequest{Content: rand.Text()}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.CreateKey(ctx, client.CreateKeyRequest{Scopes: []string{"chat"}}); err != nil {
			t.Fatal(err)
		}
	}
	rows := func(name string, want int, walk func(yield func(string) bool) error) {
		t.Helper()
		seen := map[string]int{}
		if err := walk(func(id string) bool { seen[id]++; return true }); err != nil || len(seen) != want {
			t.Errorf("%s: %v, %v", name, seen, err)
		}
		for id, n := range seen {
			if n != 1 {
				t.Errorf("%s: %s came %d times", name, id, n)
			}
		}
	}
	rows("agents", 3, ids(c.AllAgents(ctx, client.AgentQuery{Limit: 2}), func(a client.AgentSummary) string { return a.ID }))
	rows("sessions", 3, ids(c.AllSessions(ctx, agent, client.SessionQuery{Limit: 2}), func(s client.ChatSession) string { return s.ID }))
	rows("turns", 0, ids(c.AllTurns(ctx, agent, client.TurnQuery{Limit: 2}), func(v client.ChatTurn) string { return v.ID }))
	rows("keys", 4, ids(c.AllKeys(ctx), func(k client.Key) string { return k.ID }))
	rows("knowledge", 3, ids(c.AllKnowledge(ctx, target, client.KnowledgeQuery{Limit: 2}), func(e client.KnowledgeEntry) string { return e.ID }))
	rows("audit", 3, ids(c.AllAudit(ctx, client.AuditQuery{Action: "agent.created", Limit: 2}), func(e client.AuditEvent) string { return e.ID }))
	rows("usage", 0, ids(c.AllUsage(ctx, client.UsageQuery{}), func(u client.Usage) string { return fmt.Sprint(u.Group) }))
	rows("versions", 3, ids(client.All(func(offset string) (client.CursorList[client.DocumentVersion], error) {
		return c.RuleVersions(ctx, agent, "refunds", client.VersionsQuery{Limit: 2, Offset: offset})
	}), func(v client.DocumentVersion) string { return fmt.Sprint(v.Version) }))
	page, err := c.ListSkills(ctx, client.SkillQuery{})
	if err != nil {
		t.Fatal(err)
	}
	rows("skills", page.Pagination.Total, ids(c.AllSkills(ctx, client.SkillQuery{PageSize: 2}), func(s client.Skill) string { return s.ID }))
}

// ids walks a list and passes the names of its rows on.
func ids[T any](list iter.Seq2[T, error], id func(T) string) func(yield func(string) bool) error {
	return func(yield func(string) bool) error {
		for row, err := range list {
			if err != nil {
				return err
			}
			yield(id(row))
		}
		return nil
	}
}

// cuttingProxy returns the address of a proxy before the server that breaks the connection of
// every stream after a number of events.
func (env *testEnv) cuttingProxy(events int) string {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		env.Server.ServeHTTP(&cutWriter{ResponseWriter: w, left: events}, r)
	}))
	env.T.Cleanup(proxy.Close)
	return proxy.URL
}

// cutWriter breaks the connection when it is to write one event too many.
type cutWriter struct {
	http.ResponseWriter
	left int
}

// Write implements http.ResponseWriter.
func (w *cutWriter) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("data: ")) {
		if w.left--; w.left < 0 {
			panic(http.ErrAbortHandler)
		}
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *cutWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// TestClientContinuesAStream: every event comes once, and the model is asked once.
func TestClientContinuesAStream(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	id := who.newAgent("A")
	next := make(chan struct{})
	env.Gateways.SetScript(func(_ context.Context, _ *apitest.Turn, send apitest.Send) {
		for _, piece := range []string{"one ", "two ", "three"} {
			_ = send(piece)
			<-next // so that the pieces are events of their own
		}
	})
	c := &client.Client{URL: env.cuttingProxy(1), APIKey: who.key}
	var pieces []string
	for e, err := range c.Chat(t.Context(), id, client.ChatRequest{Message: "Count"}) {
		if err != nil {
			t.Fatal(err)
		}
		pieces = append(pieces, e.Type+":"+e.Content)
		if e.Type == "text" {
			next <- struct{}{}
		}
	}
	if got := strings.Join(pieces, " "); got != "text:one  text:two  text:three done:" {
		t.Errorf("the events are %q", got)
	}
	if n := len(env.Gateways.Turns()); n != 1 {
		t.Errorf("%d turns", n)
	}
}

// TestClientREADME: the commands and the program of the client's page work outside of this
// repository.
func TestClientREADME(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	who.newAgent("A")
	text, err := os.ReadFile("../../client/README.md")
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir, blocks := t.TempDir(), strings.Split(string(text), "```")
	if !strings.HasPrefix(blocks[1], "sh\n") || !strings.HasPrefix(blocks[3], "go\n") {
		t.Fatal("the page has no commands or no program")
	}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(strings.TrimPrefix(blocks[3], "go\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	sh := exec.CommandContext(t.Context(), "sh", "-euc", strings.ReplaceAll(strings.TrimPrefix(blocks[1], "sh\n"), "/path/to/agento", root)+"go run .")
	sh.Dir = dir
	sh.Env = append(os.Environ(), "AGENTO_URL="+env.URL, "AGENTO_API_KEY="+who.key)
	if out, err := sh.CombinedOutput(); err != nil || !strings.Contains(string(out), "You said: What can you do?") {
		t.Errorf("%v\n%s", err, out)
	}
}
