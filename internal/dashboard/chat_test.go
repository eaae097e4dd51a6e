package dashboard

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/apitest"
)

// ask sends a message over the API, waits for the answer, and returns its session.
func (env *testEnv) ask(agent string, in client.ChatRequest) (session string) {
	env.t.Helper()
	for e, err := range env.Client(env.account).Chat(env.t.Context(), agent, in) {
		if err != nil {
			env.t.Fatal(err)
		}
		session = e.SessionID
	}
	return session
}

func TestTheChatOfAnAgent(t *testing.T) {
	env := newEnv(t)
	id := env.agent("Ada")
	ann := env.as("owner")
	ann.get("/agents/"+id+"/chat").has(http.StatusOK, "Write to Ada", "No conversation yet")
	env.as("viewer").get("/agents/" + id + "/chat").has(http.StatusForbidden)

	session := env.ask(id, client.ChatRequest{Message: "<img src=x onerror=alert(1)>", PeerID: "customer-42"})
	ann.get("/agents/"+id+"/chat?session="+session).has(http.StatusOK,
		"&lt;img src=x onerror=alert(1)&gt;</div>", `data-markdown>You said: &lt;img`, `<span class="from">API</span>`, `<b class="who">customer-42</b>`, `data-turn="turn_`, "as a guest")
	ann.get("/agents/"+id+"/chat?session=sess_none").has(http.StatusNotFound, "no such conversation")

	// The list is searched by name, peer and channel.
	other := env.ask(id, client.ChatRequest{Message: "What is the weather?"})
	for search, want := range map[string][2]bool{"WEATHER": {false, true}, "customer-4": {true, false}, "api": {true, true}, "snow": {false, false}} {
		page := ann.get("/agents/" + id + "/chat?search=" + search)
		for i, one := range []string{session, other} {
			if strings.Contains(page.Body, `id="s-`+one) != want[i] {
				t.Errorf("%s: session %d", search, i)
			}
		}
	}
	ann.post("/agents/"+id+"/chat/"+session+"/name", "name", "Complaints").has(http.StatusSeeOther)
	ann.get("/agents/"+id+"/chat?session="+session).has(http.StatusOK, "<h2>Complaints</h2>")
	ann.post("/agents/"+id+"/chat/"+session+"/name", "name", "").has(http.StatusSeeOther)
	ann.get("/agents/"+id+"/chat?session="+session).has(http.StatusOK, "<h2>&lt;img src=x")

	// Earlier messages are a page away.
	for range 30 {
		env.ask(id, client.ChatRequest{Message: "And now?", SessionID: other})
	}
	page := ann.get("/agents/"+id+"/chat?session="+other).has(http.StatusOK, "Earlier messages")
	if n := strings.Count(page.Body, "<article"); n != chatMessages || strings.Contains(page.Body, "You said: What is the weather?") {
		t.Errorf("%d messages", n)
	}
	_, before, _ := strings.Cut(page.Body, `data-before="`)
	before, _, _ = strings.Cut(before, `"`)
	ann.get("/agents/"+id+"/chat?session="+other+"&before="+before).has(http.StatusOK, "You said: What is the weather?", "To the newest messages")
}

// TestTheChatWorksWithoutScripts: a message is sent by the form, and the answer so far is on the
// page that follows.
func TestTheChatWorksWithoutScripts(t *testing.T) {
	env := newEnv(t)
	id := env.agent("Ada")
	ann := env.as("owner")
	proceed := make(chan struct{})
	env.Gateways.SetScript(func(ctx context.Context, turn *apitest.Turn, send apitest.Send) {
		_ = send("First " + turn.Context)
		select {
		case <-proceed:
		case <-ctx.Done():
		}
		_ = send(" and last.")
	})
	ann.post("/agents/"+id+"/chat", "message", "Hello", "context", `{"a":`).has(http.StatusUnprocessableEntity, "is no JSON object", ">\nHello</textarea>")
	ann.post("/agents/"+id+"/chat", "message", " ").has(http.StatusUnprocessableEntity, "must not be empty")
	sent := ann.post("/agents/"+id+"/chat", "message", "Hello", "peer", "customer-1", "context", `{"plan":"Pro"}`).has(http.StatusSeeOther)
	to, err := url.Parse(sent.Header.Get("Location"))
	if err != nil || to.Query().Get("session") == "" {
		t.Fatalf("it leads to %s, %v", to, err)
	}
	page := "/agents/" + id + "/chat?session=" + to.Query().Get("session")
	ann.get(page).has(http.StatusOK, "First plan: Pro", `data-state="running"`, "The agent is at work", "peer <b>customer-1</b>")
	close(proceed)
	apitest.WaitUntil(t, "the answer", func() bool { return strings.Contains(ann.get(page).Body, "First plan: Pro and last.</div>") })
	if turn := env.Gateways.LastTurn(t); turn.Entry != "openclaw/guest" {
		t.Errorf("%+v", turn)
	}
}

// TestTheChatSaysWhyAnAnswerEnded in words, also of a turn that has no answer.
func TestTheChatSaysWhyAnAnswerEnded(t *testing.T) {
	env := newEnv(t)
	id := env.agent("Ada")
	c := env.Client(env.account)
	begun := make(chan struct{}, 1)
	env.Gateways.SetScript(func(ctx context.Context, _ *apitest.Turn, send apitest.Send) {
		_ = send("Half an answer")
		begun <- struct{}{}
		<-ctx.Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	session := ""
	for e, err := range c.Chat(ctx, id, client.ChatRequest{Message: "Hello"}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type == "text" {
			<-begun
			turn, err := c.CancelTurn(ctx, id, e.TurnID)
			if err != nil {
				t.Fatal(err)
			}
			session = turn.SessionID
		}
	}
	env.as("developer").get("/agents/"+id+"/chat?session="+session).has(http.StatusOK, "Half an answer", "Somebody stopped this answer.")

	if _, err := c.StopAgent(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	env.as("developer").get("/agents/"+id+"/chat").has(http.StatusOK, "The agent does not run (stopped)", `id="start-agent"`)
}

// TestScriptsOfTheChatAreSmall: at most 40 KB are transferred.
func TestScriptsOfTheChatAreSmall(t *testing.T) {
	bytes := 0
	for _, name := range []string{"theme.js", "app.js", "live.js", "markdown.js", "chat.js"} {
		bytes += len(readAssets().byName[name].compressed)
	}
	if bytes > 40<<10 {
		t.Errorf("%d bytes", bytes)
	}
}
