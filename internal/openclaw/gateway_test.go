package openclaw_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/devmodel"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/vault"
)

// The tests of this file run on the real gateway.

// within bounds a test on a machine that may be busy.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// say has one turn and returns the answer and what the model was asked first in it.
func (r *real) say(t *testing.T, peer, conversation, system, message string) (string, *devmodel.Call) {
	t.Helper()
	before := r.model.Count()
	entry := openclaw.EntryFor(peer)
	got, err := r.Turn(within(t), openclaw.TurnRequest{
		Entry: entry, SessionKey: openclaw.SessionKey(entry, peer, conversation), System: system, Message: message,
	}, ignore)
	if err != nil {
		t.Fatalf("Turn(%q): %v", message, err)
	}
	call, err := r.model.Wait(within(t), before+1)
	if err != nil {
		t.Fatal(err)
	}
	return got.Text, call
}

func contains(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s lacks %q:\n%s", what, w, text)
		}
	}
}

func lacks(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if strings.Contains(text, w) {
			t.Errorf("%s holds %q:\n%s", what, w, text)
		}
	}
}

func TestRealWhatTheModelIsTold(t *testing.T) {
	g := gateway(t)
	answer, call := g.say(t, "alice", "c1", "CONTEXT-TEXT", "echo good morning")
	if answer != "good morning" {
		t.Errorf("answer = %q", answer)
	}
	contains(t, "the guest's system text", call.System,
		"SOUL-TEXT", "**Name:** Ada", "WORKFLOW-TEXT", "rules/refunds.md: How refunds work", "SKILL-ABOUT", "CONTEXT-TEXT")
	lacks(t, "the guest's system text", call.System, "MEMORY-TEXT", "RULE-TEXT", "clawhub", "control-ui")
	if call.Key.Reveal() != modelToken {
		t.Error("the gateway did not call with its token for the model proxy")
	}
	if key, ok := openclaw.SessionOf(call.System); !ok || key != openclaw.SessionKey(openclaw.Guest, "alice", "c1") {
		t.Errorf("SessionOf the request = %q, %v", key, ok)
	}
	_, call = g.say(t, "alice", "c1", "", "echo again")
	lacks(t, "the next turn's system text", call.System, "CONTEXT-TEXT")

	_, call = g.say(t, "", "c1", "", "echo hello")
	contains(t, "main's system text", call.System, "SOUL-TEXT", "WORKFLOW-TEXT", "MEMORY-TEXT", "SKILL-ABOUT")
	if key, ok := openclaw.SessionOf(call.System); !ok || key != openclaw.SessionKey(openclaw.Main, "", "c1") {
		t.Errorf("SessionOf main's request = %q, %v", key, ok)
	}
}

func TestRealPeersNeverMeet(t *testing.T) {
	g := gateway(t)
	g.say(t, "Bob", "c1", "", "echo my code is 4711")
	_, call := g.say(t, "Bob", "c1", "", "echo remember")
	contains(t, "Bob's own session", string(call.Body), "4711")
	for _, other := range []struct{ peer, conversation string }{{"bob", "c1"}, {"Bob", "c2"}, {"Bob:c1", ""}, {"", "c1"}} {
		_, call := g.say(t, other.peer, other.conversation, "", "echo what is the code")
		lacks(t, fmt.Sprintf("the session of %q, %q", other.peer, other.conversation), string(call.Body), "4711")
	}
}

// A guest may read its own workspace and skills, and nothing else; it changes nothing.
func TestRealGuestIsShutIn(t *testing.T) {
	g := gateway(t)
	for i, path := range []string{"rules/refunds.md", filepath.Join(g.Home, "skills/greet/SKILL.md")} {
		answer, _ := g.say(t, "carol", fmt.Sprint("read", i), "", fmt.Sprintf(`call read {"path":%q}`, path))
		contains(t, path, answer, []string{"RULE-TEXT", "SKILL-TEXT"}[i])
	}
	link := filepath.Join(g.Home, "guest", "link.md")
	if err := os.Symlink("../workspace/MEMORY.md", link); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Remove(link) }()
	for i, path := range []string{
		"../workspace/MEMORY.md", filepath.Join(g.Home, "workspace/MEMORY.md"), "~/workspace/MEMORY.md", "link.md",
		g.SecretsPath, filepath.Join(g.Home, "openclaw.json"), "/proc/self/environ", "/etc/passwd",
	} {
		answer, _ := g.say(t, "carol", fmt.Sprint("out", i), "", fmt.Sprintf(`call read {"path":%q}`, path))
		lacks(t, path, answer, "MEMORY-TEXT", modelToken, "AGENTO_HOME", "root:")
		contains(t, path, answer, "escapes")
	}
	_, call := g.say(t, "carol", "tools", "", "echo tools")
	var names []string
	for _, tool := range call.Tools {
		names = append(names, tool.Name)
	}
	if got := strings.Join(names, " "); got != "read web_fetch" {
		t.Errorf("a guest's tools are %q, want read and web_fetch alone", got)
	}
}

func TestRealMainRunsCommands(t *testing.T) {
	g := gateway(t)
	answer, _ := g.say(t, "", "exec", "", `call exec {"command":"echo $GREETING; env"}`)
	contains(t, "the command's output", answer, "hello from the environment")
	lacks(t, "the command's environment", answer, gatewayToken, modelToken)
}

// Deltas are handed on while the model still speaks, and leaving ends its call.
func TestRealStreamAndLeave(t *testing.T) {
	g := gateway(t)
	gate := make(chan struct{})
	defer g.model.Script(devmodel.When("slowly", devmodel.Reply{Chunks: []string{"one ", "two ", "three ", "four"}, Gate: gate}))()
	ctx, leave := context.WithCancel(within(t))
	defer leave()
	before := g.model.Count()
	deltas := make(chan string, 10)
	done := make(chan error, 1)
	go func() {
		_, err := g.Turn(ctx, openclaw.TurnRequest{
			Entry: openclaw.Guest, SessionKey: openclaw.SessionKey(openclaw.Guest, "dave", "c"), Message: "tell me slowly",
		}, func(d string) error { deltas <- d; return nil })
		done <- err
	}()
	for range 2 { // OpenClaw holds a trailing space back until the next piece
		select {
		case gate <- struct{}{}:
		case <-ctx.Done():
			t.Fatal("the model was not called")
		}
	}
	select {
	case d := <-deltas:
		if d != "one" {
			t.Errorf("first delta = %q", d)
		}
	case <-ctx.Done():
		t.Fatal("nothing came while the model was still speaking")
	}
	leave()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Turn = %v", err)
	}
	call, err := g.model.Wait(within(t), before+1)
	if err != nil {
		t.Fatal(err)
	}
	if cancelled, err := call.Cancelled(within(t)); err != nil || !cancelled {
		t.Errorf("the model call was not aborted: %v %v", cancelled, err)
	}
}

func TestRealTurnsOfOneSessionQueue(t *testing.T) {
	g := gateway(t)
	g.say(t, "erin", "c", "", "echo hello") // two first turns at once can meet in making the session, and one fails
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			word := fmt.Sprintf("word%d", i)
			got, err := g.Turn(within(t), openclaw.TurnRequest{
				Entry: openclaw.Guest, SessionKey: openclaw.SessionKey(openclaw.Guest, "erin", "c"), Message: "echo " + word,
			}, ignore)
			if err != nil || got.Text != word {
				t.Errorf("Turn = %+v %v, want %s", got, err, word)
			}
		})
	}
	wg.Wait()
}

// What the provider says about a refused key comes through, if the model proxy
// answers as it should: 400, which costs no cooldown.
func TestRealProviderErrors(t *testing.T) {
	g := gateway(t)
	defer g.model.Script(devmodel.When("refuse me", devmodel.Reply{Status: 400, Error: "Anthropic refuses the key: invalid x-api-key."}))()
	turn := func(message string) *openclaw.TurnError {
		t.Helper()
		_, err := g.Turn(within(t), openclaw.TurnRequest{
			Entry: openclaw.Guest, SessionKey: openclaw.SessionKey(openclaw.Guest, "frank", "c"), Message: message,
		}, ignore)
		var e *openclaw.TurnError
		if !errors.As(err, &e) {
			t.Fatalf("Turn(%q) = %v, want a TurnError", message, err)
		}
		return e
	}
	if e := turn("refuse me"); e.Kind != openclaw.RefusedKey || e.Status != 400 || e.Message != "Anthropic refuses the key: invalid x-api-key." {
		t.Errorf("a refused key: %+v", e)
	}
	if e := turn("fail with 400"); e.Kind != openclaw.ModelFailed || e.Message != "The scripted model was asked to fail." {
		t.Errorf("another 400: %+v", e)
	}
	if answer, _ := g.say(t, "frank", "c", "", "echo fine again"); answer != "fine again" {
		t.Errorf("after the errors: %q", answer)
	}
}

func TestRealGatewayRefuses(t *testing.T) {
	g := gateway(t)
	var e *openclaw.TurnError
	_, err := g.Turn(within(t), openclaw.TurnRequest{Entry: "nobody", SessionKey: "agent:nobody:api:x", Message: "hi"}, ignore)
	if !errors.As(err, &e) || e.Kind != openclaw.Rejected {
		t.Errorf("an unknown entry: %v", err)
	}
	stranger := openclaw.NewGateway(openclaw.DialOf(g.Gateway), vault.NewSecret("wrong"))
	defer stranger.Close()
	_, err = stranger.Turn(within(t), openclaw.TurnRequest{Entry: openclaw.Main, SessionKey: "agent:main:api:x", Message: "hi"}, ignore)
	if !errors.As(err, &e) || e.Kind != openclaw.Rejected {
		t.Errorf("a wrong token over HTTP: %v", err)
	}
	var refused *openclaw.CallError
	if err := stranger.ReloadSecrets(within(t)); !errors.As(err, &refused) {
		t.Errorf("a wrong token over WebSocket: %v", err)
	}
}

func TestRealSessionsAndHistory(t *testing.T) {
	g := gateway(t)
	ctx := within(t)
	key := openclaw.SessionKey(openclaw.Guest, "grace", "c1")
	if messages, more, err := g.History(ctx, key, 10, 0); err != nil || more || len(messages) != 0 {
		t.Errorf("history before the first turn = %v %v %v", messages, more, err)
	}
	row, err := g.CreateSession(ctx, key, "Order 17")
	if err != nil || row.Key != key || row.CreatedAt.IsZero() || row.Name != "Order 17" {
		t.Errorf("CreateSession = %+v %v", row, err)
	}
	if _, err := g.CreateSession(ctx, key, "Order 17"); err != nil {
		t.Errorf("creating it again: %v", err)
	}
	long := strings.Repeat("lorem ipsum ", 5000)
	g.say(t, "grace", "c1", "", "echo "+long)
	g.say(t, "grace", "c1", "", `call read {"path":"rules/refunds.md"}`)

	messages, more, err := g.History(ctx, key, 20, 0)
	if err != nil || more {
		t.Fatalf("History = %v %v", more, err)
	}
	var said []string
	for _, m := range messages {
		if m.ID == "" || m.Time.IsZero() {
			t.Errorf("a message without id or time: %+v", m)
		}
		if !m.Internal {
			said = append(said, m.Role+" "+m.Text)
		}
	}
	if len(said) != 4 || said[0] != "user echo "+strings.TrimSpace(long) && said[0] != "user echo "+long ||
		!strings.HasPrefix(said[1], "assistant lorem") || len(said[1]) < 50_000 || !strings.HasPrefix(said[3], "assistant The tool read answered") {
		t.Errorf("said %d rows: %.200q", len(said), said)
	}
	rows, err := g.Sessions(ctx, 50)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, r := range rows {
		found = found || r.Key == key && r.Name == "Order 17" && !r.UpdatedAt.IsZero()
	}
	if !found {
		t.Errorf("Sessions lacks %s: %+v", key, rows)
	}
	if err := g.ResetSession(ctx, key); err != nil {
		t.Fatal(err)
	}
	_, call := g.say(t, "grace", "c1", "", "echo fresh")
	lacks(t, "a session after its reset", string(call.Body), "lorem")
	for range 2 {
		if err := g.DeleteSession(ctx, key); err != nil {
			t.Errorf("DeleteSession: %v", err)
		}
	}
	if messages, _, err := g.History(ctx, key, 10, 0); err != nil || len(messages) != 0 {
		t.Errorf("history of a deleted session = %v %v", messages, err)
	}
}

func TestRealAbort(t *testing.T) {
	g := gateway(t)
	ctx := within(t)
	gate := make(chan struct{})
	defer g.model.Script(devmodel.When("endless", devmodel.Reply{Chunks: []string{"never "}, Gate: gate}))()
	before := g.model.Count()
	key := openclaw.SessionKey(openclaw.Guest, "heidi", "c")
	done := make(chan error, 1)
	go func() {
		_, err := g.Turn(ctx, openclaw.TurnRequest{Entry: openclaw.Guest, SessionKey: key, Message: "endless"}, ignore)
		done <- err
	}()
	call, err := g.model.Wait(ctx, before+1)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Abort(ctx, key); err != nil {
		t.Fatal(err)
	}
	var e *openclaw.TurnError
	if err := <-done; !errors.As(err, &e) || e.Kind != openclaw.Aborted {
		t.Errorf("the aborted turn ended with %v", err)
	}
	if cancelled, err := call.Cancelled(ctx); err != nil || !cancelled {
		t.Errorf("the model call goes on: %v %v", cancelled, err)
	}
}

func TestRealSecretsReload(t *testing.T) {
	g := gateway(t)
	ctx := within(t)
	changed := g.agent
	changed.Model.Token = vault.NewSecret("another-model-token")
	for _, agent := range []openclaw.Agent{changed, g.agent} {
		secrets, err := agent.Secrets()
		if err != nil {
			t.Fatal(err)
		}
		if err := g.PutSecrets(secrets); err != nil {
			t.Fatal(err)
		}
		if err := g.ReloadSecrets(ctx); err != nil {
			t.Fatal(err)
		}
		_, call := g.say(t, "ivan", "c", "", "echo key")
		if call.Key.Reveal() != agent.Model.Token.Reveal() {
			t.Error("the model was not called with the key of the file")
		}
	}
}

func TestRealTelegram(t *testing.T) {
	g := gateway(t)
	ctx := within(t)
	sub, err := g.Subscribe(ctx, openclaw.EventMessage)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	g.bot.Write(5, 42, "Eve", "echo from afar")
	var told []openclaw.SessionMessage
	for len(told) < 2 {
		select {
		case <-ctx.Done():
			t.Fatalf("only told of %+v", told)
		case e := <-sub.C:
			if m, ok := openclaw.ParseSessionMessage(e); ok && strings.Contains(m.SessionKey, "telegram") && !m.Message.Internal {
				told = append(told, m)
			}
		}
	}
	if told[0].Message.Role != openclaw.RoleUser || told[0].Message.Text != "echo from afar" || told[0].Message.Sender != "Eve" {
		t.Errorf("the user's message: %+v", told[0])
	}
	if told[1].Message.Role != openclaw.RoleAssistant || told[1].Message.Text != "from afar" {
		t.Errorf("the answer: %+v", told[1])
	}
	s, ok := openclaw.ParseSessionKey(told[0].SessionKey)
	if !ok || s != (openclaw.Session{Entry: openclaw.Guest, Channel: "telegram", Peer: "42"}) {
		t.Errorf("the session is %s: %+v", told[0].SessionKey, s)
	}
	select {
	case <-ctx.Done():
		t.Fatal("nothing was sent to Telegram")
	case sent := <-g.bot.Sent():
		contains(t, "what was sent", sent, "from afar")
	}
	channels, err := g.Channels(ctx)
	if err != nil || len(channels) != 1 || channels[0].Channel != "telegram" || !channels[0].Running {
		t.Errorf("Channels = %+v %v", channels, err)
	}
}

func TestRealWarmUp(t *testing.T) {
	g := gateway(t)
	before := g.model.Count()
	if err := g.WarmUp(within(t)); err != nil {
		t.Fatal(err)
	}
	if n := g.model.Count() - before; n != 0 {
		t.Errorf("warming up cost %d model calls", n)
	}
}

// A running gateway takes another model, and each provider's protocol works: turns
// stream, the session is named in the request, a refusal comes through in words.
func TestRealOtherProviders(t *testing.T) {
	g := gateway(t)
	defer g.configure(t, g.agent)
	for _, tt := range []struct {
		model openclaw.Model
		api   devmodel.API
	}{
		{openclaw.Model{Provider: openclaw.OpenAI}, devmodel.OpenAIChat},
		{openclaw.Model{Provider: openclaw.OpenAI, Responses: true}, devmodel.OpenAIResponses},
		{openclaw.Model{Provider: openclaw.Google}, devmodel.Gemini},
	} {
		t.Run(string(tt.api), func(t *testing.T) {
			agent := g.agent
			agent.Model.Provider, agent.Model.Responses = tt.model.Provider, tt.model.Responses
			g.configure(t, agent)
			call := g.awaitAPI(t, tt.api)
			if call.Key.Reveal() != modelToken || call.Model != tt.model.Provider.DefaultModel() {
				t.Errorf("called %s with a key that is right: %v", call.Model, call.Key.Reveal() == modelToken)
			}
			if key, ok := sessionOf(call); !ok || key != openclaw.SessionKey(openclaw.Guest, "judy", string(tt.api)) {
				t.Errorf("SessionOf = %q, %v", key, ok)
			}
			_, err := g.Turn(within(t), openclaw.TurnRequest{
				Entry: openclaw.Guest, SessionKey: openclaw.SessionKey(openclaw.Guest, "judy", string(tt.api)), Message: "fail with 400",
			}, ignore)
			var e *openclaw.TurnError
			if !errors.As(err, &e) || e.Kind != openclaw.ModelFailed || e.Message != "The scripted model was asked to fail." {
				t.Errorf("a 400: %#v", err)
			}
		})
	}
}

// configure writes an agent's configuration under the running gateway.
func (r *real) configure(t *testing.T, agent openclaw.Agent) {
	t.Helper()
	spec, err := openclaw.Spec(agent)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range spec.Files {
		if err := os.WriteFile(filepath.Join(r.Home, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// awaitAPI has turns until the model is called by the given protocol. A turn that
// meets the very moment of the change may fail.
func (r *real) awaitAPI(t *testing.T, api devmodel.API) *devmodel.Call {
	t.Helper()
	ctx := within(t)
	for ctx.Err() == nil {
		before := r.model.Count()
		_, err := r.Turn(ctx, openclaw.TurnRequest{
			Entry: openclaw.Guest, SessionKey: openclaw.SessionKey(openclaw.Guest, "judy", string(api)), Message: "echo hello",
		}, ignore)
		if err != nil {
			continue
		}
		if call, err := r.model.Wait(ctx, before+1); err == nil && call.API == api {
			return call
		}
	}
	t.Fatalf("the gateway did not change to %s", api)
	return nil
}

// sessionOf looks where the model proxy has to: in the system text, else in what a
// user said last.
func sessionOf(call *devmodel.Call) (string, bool) {
	if key, ok := openclaw.SessionOf(call.System); ok {
		return key, true
	}
	for _, m := range slices.Backward(call.Messages) {
		if key, ok := openclaw.SessionOf(m.Text); ok && m.Role == devmodel.User {
			return key, true
		}
	}
	return "", false
}
