package openclaw_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/devmodel"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

// The tests in this file run on the real gateway.

// testTimeout returns a context that bounds a test on a busy machine.
func testTimeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// turn runs one turn and returns the answer and the turn's first model call.
func (r *realGateway) turn(t *testing.T, peer, conversation, system, message string) (string, *devmodel.Call) {
	t.Helper()
	before := r.model.Count()
	entry := openclaw.EntryFor(peer)
	var got answer
	_, err := r.Turn(testTimeout(t), openclaw.TurnRequest{
		Entry: entry, SessionKey: openclaw.SessionKey(entry, peer, conversation), System: system, Message: message,
	}, got.add)
	if err != nil {
		t.Fatalf("Turn(%q): %v", message, err)
	}
	call, err := r.model.Wait(testTimeout(t), before+1)
	if err != nil {
		t.Fatal(err)
	}
	return got.String(), call
}

func assertContains(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s does not contain %q:\n%s", what, w, text)
		}
	}
}

func assertLacks(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if strings.Contains(text, w) {
			t.Errorf("%s contains %q:\n%s", what, w, text)
		}
	}
}

func TestGatewayPromptOfEachEntry(t *testing.T) {
	g := sharedGateway(t)
	answer, call := g.turn(t, "alice", "c1", "CONTEXT-TEXT", "echo good morning")
	if answer != "good morning" {
		t.Errorf("answer = %q", answer)
	}
	assertContains(t, "the guest's system text", call.System,
		"SOUL-TEXT", "**Name:** Ada", "WORKFLOW-TEXT", "rules/refunds.md: How refunds work", "SKILL-ABOUT", "CONTEXT-TEXT")
	assertLacks(t, "the guest's system text", call.System, "MEMORY-TEXT", "RULE-TEXT", "clawhub", "control-ui")
	if call.Key.Reveal() != modelToken {
		t.Error("the gateway did not use its token for the model proxy")
	}
	if key := sessionOf(t, provider.Anthropic, call); key != openclaw.SessionKey(openclaw.Guest, "alice", "c1") {
		t.Errorf("the request's session = %q", key)
	}
	_, call = g.turn(t, "alice", "c1", "", "echo again")
	assertLacks(t, "the next turn's system text", call.System, "CONTEXT-TEXT")

	_, call = g.turn(t, "", "c1", "", "echo hello")
	assertContains(t, "main's system text", call.System, "SOUL-TEXT", "WORKFLOW-TEXT", "MEMORY-TEXT", "SKILL-ABOUT")
	if key := sessionOf(t, provider.Anthropic, call); key != openclaw.SessionKey(openclaw.Main, "", "c1") {
		t.Errorf("the session of main's request = %q", key)
	}
}

func TestGatewayKeepsPeersApart(t *testing.T) {
	g := sharedGateway(t)
	g.turn(t, "Bob", "c1", "", "echo my code is 4711")
	_, call := g.turn(t, "Bob", "c1", "", "echo remember")
	assertContains(t, "Bob's own session", string(call.Body), "4711")
	for _, other := range []struct{ peer, conversation string }{{"bob", "c1"}, {"Bob", "c2"}, {"Bob:c1", ""}, {"", "c1"}} {
		_, call := g.turn(t, other.peer, other.conversation, "", "echo what is the code")
		assertLacks(t, fmt.Sprintf("the session of %q, %q", other.peer, other.conversation), string(call.Body), "4711")
	}
}

// A guest reads its own workspace and the skills, and writes nothing.
func TestGatewayConfinesGuests(t *testing.T) {
	g := sharedGateway(t)
	for i, path := range []string{"rules/refunds.md", filepath.Join(g.Home, "skills/greet/SKILL.md")} {
		answer, _ := g.turn(t, "carol", fmt.Sprint("read", i), "", fmt.Sprintf(`call read {"path":%q}`, path))
		assertContains(t, path, answer, []string{"RULE-TEXT", "SKILL-TEXT"}[i])
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
		answer, _ := g.turn(t, "carol", fmt.Sprint("out", i), "", fmt.Sprintf(`call read {"path":%q}`, path))
		assertLacks(t, path, answer, "MEMORY-TEXT", modelToken, "AGENTO_HOME", "root:")
		assertContains(t, path, answer, "escapes")
	}
	_, call := g.turn(t, "carol", "tools", "", "echo tools")
	var names []string
	for _, tool := range call.Tools {
		names = append(names, tool.Name)
	}
	if got := strings.Join(names, " "); got != "platform__ping read web_fetch" {
		t.Errorf("a guest's tools are %q, want only the control plane's, read and web_fetch", got)
	}
}

func TestGatewayMainRunsCommands(t *testing.T) {
	g := sharedGateway(t)
	answer, _ := g.turn(t, "", "exec", "", `call exec {"command":"echo $GREETING; env"}`)
	assertContains(t, "the command's output", answer, "hello from the environment")
	assertLacks(t, "the command's environment", answer, gatewayToken, modelToken, toolsToken)
}

// Deltas arrive while the model still answers, and cancelling ends the model call.
func TestGatewayStreamsAndCancels(t *testing.T) {
	g := sharedGateway(t)
	gate := make(chan struct{})
	defer g.model.Script(devmodel.When("slowly", devmodel.Reply{Chunks: []string{"one ", "two ", "three ", "four"}, Gate: gate}))()
	ctx, cancel := context.WithCancel(testTimeout(t))
	defer cancel()
	before := g.model.Count()
	deltas := make(chan string, 10)
	done := make(chan error, 1)
	go func() {
		_, err := g.Turn(ctx, openclaw.TurnRequest{
			Entry: openclaw.Guest, SessionKey: openclaw.SessionKey(openclaw.Guest, "dave", "c"), Message: "tell me slowly",
		}, func(d string) error { deltas <- d; return nil })
		done <- err
	}()
	for range 2 { // OpenClaw sends a trailing space only with the next piece
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
		t.Fatal("no delta before the model finished")
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Turn = %v", err)
	}
	call, err := g.model.Wait(testTimeout(t), before+1)
	if err != nil {
		t.Fatal(err)
	}
	if cancelled, err := call.Cancelled(testTimeout(t)); err != nil || !cancelled {
		t.Errorf("the model call was not aborted: %v %v", cancelled, err)
	}
}

func TestGatewayQueuesTurnsOfOneSession(t *testing.T) {
	g := sharedGateway(t)
	g.turn(t, "erin", "c", "", "echo hello") // two concurrent first turns can both create the session, and one fails
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			word := fmt.Sprintf("word%d", i)
			var got answer
			_, err := g.Turn(testTimeout(t), openclaw.TurnRequest{
				Entry: openclaw.Guest, SessionKey: openclaw.SessionKey(openclaw.Guest, "erin", "c"), Message: "echo " + word,
			}, got.add)
			if err != nil || got.String() != word {
				t.Errorf("Turn = %q %v, want %s", got.String(), err, word)
			}
		})
	}
	wg.Wait()
}

// The provider's message about a refused key arrives, because the model proxy answers
// 400, which starts no cooldown.
func TestGatewayPassesOnProviderErrors(t *testing.T) {
	g := sharedGateway(t)
	defer g.model.Script(devmodel.When("refuse me", devmodel.Reply{Status: 400, Error: "Anthropic refuses the key: invalid x-api-key."}))()
	fail := func(message string) *openclaw.TurnError {
		t.Helper()
		_, err := g.Turn(testTimeout(t), openclaw.TurnRequest{
			Entry: openclaw.Guest, SessionKey: openclaw.SessionKey(openclaw.Guest, "frank", "c"), Message: message,
		}, discard)
		var e *openclaw.TurnError
		if !errors.As(err, &e) {
			t.Fatalf("Turn(%q) = %v, want a TurnError", message, err)
		}
		return e
	}
	if e := fail("refuse me"); e.Kind != openclaw.RefusedKey || e.Status != 400 || e.Message != "Anthropic refuses the key: invalid x-api-key." {
		t.Errorf("a refused key: %+v", e)
	}
	if e := fail("fail with 400"); e.Kind != openclaw.ModelFailed || e.Message != "The scripted model was asked to fail." {
		t.Errorf("another 400: %+v", e)
	}
	if answer, _ := g.turn(t, "frank", "c", "", "echo fine again"); answer != "fine again" {
		t.Errorf("after the errors: %q", answer)
	}
}

func TestGatewayRejectsUnknownEntriesAndTokens(t *testing.T) {
	g := sharedGateway(t)
	var e *openclaw.TurnError
	_, err := g.Turn(testTimeout(t), openclaw.TurnRequest{Entry: "nobody", SessionKey: "agent:nobody:api:x", Message: "hi"}, discard)
	if !errors.As(err, &e) || e.Kind != openclaw.Rejected {
		t.Errorf("an unknown entry: %v", err)
	}
	unauthorized := openclaw.NewGateway(openclaw.DialOf(g.Gateway), vault.NewSecret("wrong"))
	defer unauthorized.Close()
	_, err = unauthorized.Turn(testTimeout(t), openclaw.TurnRequest{Entry: openclaw.Main, SessionKey: "agent:main:api:x", Message: "hi"}, discard)
	if !errors.As(err, &e) || e.Kind != openclaw.Rejected {
		t.Errorf("a wrong token over HTTP: %v", err)
	}
	var refused *openclaw.CallError
	if err := unauthorized.ReloadSecrets(testTimeout(t), vault.NewSecret("x")); !errors.As(err, &refused) {
		t.Errorf("a wrong token over WebSocket: %v", err)
	}
}

func TestGatewaySessionsAndHistory(t *testing.T) {
	g := sharedGateway(t)
	ctx := testTimeout(t)
	key := openclaw.SessionKey(openclaw.Guest, "grace", "c1")
	if messages, more, err := g.History(ctx, key, 10, 0); err != nil || more || len(messages) != 0 {
		t.Errorf("history before the first turn = %v %v %v", messages, more, err)
	}
	long := strings.Repeat("lorem ipsum ", 5000)
	g.turn(t, "grace", "c1", "", "echo "+long)
	g.turn(t, "grace", "c1", "", `call read {"path":"rules/refunds.md"}`)

	messages, more, err := g.History(ctx, key, 20, 0)
	if err != nil || more {
		t.Fatalf("History = %v %v", more, err)
	}
	var public []string
	for _, m := range messages {
		if m.ID == "" || m.Time.IsZero() {
			t.Errorf("a message without id or time: %+v", m)
		}
		if !m.Internal {
			public = append(public, m.Role+" "+m.Text)
		}
	}
	if len(public) != 4 || public[0] != "user echo "+strings.TrimSpace(long) && public[0] != "user echo "+long ||
		!strings.HasPrefix(public[1], "assistant lorem") || len(public[1]) < 50_000 || !strings.HasPrefix(public[3], "assistant The tool read answered") {
		t.Errorf("%d messages: %.200q", len(public), public)
	}
	keys, err := g.SessionKeys(ctx, 50)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(keys, key) {
		t.Errorf("SessionKeys lacks %s: %q", key, keys)
	}
}

func TestGatewayReportsAnAbortedRun(t *testing.T) {
	g := sharedGateway(t)
	ctx := testTimeout(t)
	gate := make(chan struct{})
	defer g.model.Script(devmodel.When("endless", devmodel.Reply{Chunks: []string{"never "}, Gate: gate}))()
	before := g.model.Count()
	key := openclaw.SessionKey(openclaw.Guest, "heidi", "c")
	done := make(chan error, 1)
	go func() {
		_, err := g.Turn(ctx, openclaw.TurnRequest{Entry: openclaw.Guest, SessionKey: key, Message: "endless"}, discard)
		done <- err
	}()
	call, err := g.model.Wait(ctx, before+1)
	if err != nil {
		t.Fatal(err)
	}
	if err := openclaw.Call(g.Gateway, ctx, "sessions.abort", map[string]any{"key": key, "clearQueued": true}, nil); err != nil {
		t.Fatal(err)
	}
	var e *openclaw.TurnError
	if err := <-done; !errors.As(err, &e) || e.Kind != openclaw.Aborted {
		t.Errorf("the aborted turn ended with %v", err)
	}
	if cancelled, err := call.Cancelled(ctx); err != nil || !cancelled {
		t.Errorf("the model call was not aborted: %v %v", cancelled, err)
	}
}

func TestGatewayReloadsSecrets(t *testing.T) {
	g := sharedGateway(t)
	ctx := testTimeout(t)
	changed := g.agent
	changed.Model.Token, changed.Token = vault.NewSecret("another-model-token"), vault.NewSecret("another-gateway-token")
	for _, agent := range []openclaw.Agent{changed, g.agent} {
		secrets, err := agent.Secrets()
		if err != nil {
			t.Fatal(err)
		}
		if err := g.PutSecrets(secrets); err != nil {
			t.Fatal(err)
		}
		before := g.accepts(t, gatewayToken)
		if err := g.ReloadSecrets(ctx, agent.Token); err != nil {
			t.Fatal(err)
		}
		if after := g.accepts(t, gatewayToken); before == after {
			t.Errorf("the gateway accepts its former token: %v before, %v after", before, after)
		}
		_, call := g.turn(t, "ivan", "c", "", "echo key")
		if call.Key.Reveal() != agent.Model.Token.Reveal() {
			t.Error("the model was not called with the key of the file")
		}
	}
}

// The tools token is in the secrets file alone, and a new one is used at once, in sessions
// that have called tools before too.
func TestGatewayCallsToolsWithTheTokenOfTheFile(t *testing.T) {
	g := sharedGateway(t)
	ctx := testTimeout(t)
	changed := g.agent
	changed.MCP = &openclaw.MCP{URL: g.agent.MCP.URL, Token: vault.NewSecret("tools-token-that-replaces-it")}
	for i, agent := range []openclaw.Agent{g.agent, changed, g.agent} {
		secrets, err := agent.Secrets()
		if err != nil {
			t.Fatal(err)
		}
		if err := g.PutSecrets(secrets); err != nil {
			t.Fatal(err)
		}
		if err := g.ReloadSecrets(ctx, agent.Token); err != nil {
			t.Fatal(err)
		}
		// OpenClaw notices the change of the included file some time after the reload, and
		// then fails a tool call that is under way: that turn says so, and the next one calls
		// with the new token.
		var used []http.Header
		for uses, answer := "", ""; uses != "Bearer "+agent.MCP.Token.Reveal(); {
			if ctx.Err() != nil {
				t.Fatalf("turn %d: the tools are still called with %q; the last answer: %s", i, uses, answer)
			}
			answer, _ = g.turn(t, "", "tools", "", "call platform__ping {}")
			used = g.tools.take()
			if strings.Contains(answer, `"status": "error"`) {
				continue
			}
			assertContains(t, "the tool's answer", answer, "pong-of-the-tool")
			if len(used) == 0 {
				t.Fatal("no tool was called")
			}
			uses = used[len(used)-1].Get("Authorization")
		}
		for _, h := range used {
			for name, values := range h {
				if text := strings.Join(values, " "); strings.Contains(text, gatewayToken) || strings.Contains(text, modelToken) || strings.Contains(text, "1:bot") {
					t.Errorf("header %s has a secret", name)
				}
			}
		}
	}
	out, err := exec.CommandContext(ctx, "grep", "-rlE", toolsToken+"|tools-token-that-replaces-it|"+gatewayToken+"|"+modelToken, g.Home).CombinedOutput()
	if len(out) > 0 {
		t.Errorf("a token is on the disk: %s %v", out, err)
	}
}

// accepts reports whether the gateway accepts a token.
func (r *realGateway) accepts(t *testing.T, token string) bool {
	t.Helper()
	dial := func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", r.Port))
	}
	other := openclaw.NewGateway(dial, vault.NewSecret(token))
	defer other.Close()
	_, err := other.SessionKeys(testTimeout(t), 1)
	refused := (*openclaw.CallError)(nil)
	if err != nil && !errors.As(err, &refused) {
		t.Fatal(err)
	}
	return err == nil
}

func TestGatewayServesTelegram(t *testing.T) {
	g := sharedGateway(t)
	ctx := testTimeout(t)
	sub, err := g.Subscribe(ctx, openclaw.EventMessage)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	g.bot.Write(5, 42, "Eve", "echo from afar")
	var received []openclaw.SessionMessage
	for len(received) < 2 {
		select {
		case <-ctx.Done():
			t.Fatalf("received only %+v", received)
		case e := <-sub.C:
			if m, ok := openclaw.ParseSessionMessage(e); ok && strings.Contains(m.SessionKey, "telegram") && !m.Message.Internal {
				received = append(received, m)
			}
		}
	}
	if received[0].Message.Role != openclaw.RoleUser || received[0].Message.Text != "echo from afar" || received[0].Message.Sender != "Eve" {
		t.Errorf("the user's message: %+v", received[0])
	}
	if received[1].Message.Role != openclaw.RoleAssistant || received[1].Message.Text != "from afar" {
		t.Errorf("the answer: %+v", received[1])
	}
	s, ok := openclaw.ParseSessionKey(received[0].SessionKey)
	if !ok || s != (openclaw.Session{Entry: openclaw.Guest, Channel: "telegram", Peer: "42"}) {
		t.Errorf("the session is %s: %+v", received[0].SessionKey, s)
	}
	select {
	case <-ctx.Done():
		t.Fatal("nothing was sent to Telegram")
	case sent := <-g.bot.Sent():
		assertContains(t, "what was sent", sent, "from afar")
	}
}

// A running gateway accepts another model, and each provider's protocol works: turns
// stream, the request names the session, and errors arrive with their message.
func TestGatewayServesEveryProtocol(t *testing.T) {
	g := sharedGateway(t)
	defer func() { // the tests that follow find the gateway as it was
		g.configure(t, g.agent)
		g.waitProtocol(t, g.agent.Model.Provider.Protocol)
	}()
	for _, tt := range []struct {
		provider provider.Name
		protocol provider.Protocol
	}{
		{provider.OpenAI, provider.OpenAICompletions},
		{provider.OpenAI, provider.OpenAIResponses},
		{provider.Google, provider.GoogleGenerativeAI},
	} {
		t.Run(string(tt.protocol), func(t *testing.T) {
			agent := g.agent
			agent.Model.Provider, agent.Model.Protocol = findProvider(tt.provider), tt.protocol
			g.configure(t, agent)
			call := g.waitProtocol(t, tt.protocol)
			if call.Key.Reveal() != modelToken || call.Model != agent.Model.Provider.DefaultModel {
				t.Errorf("called %s, with the right key: %v", call.Model, call.Key.Reveal() == modelToken)
			}
			if key := sessionOf(t, tt.provider, call); key != openclaw.SessionKey(openclaw.Guest, "judy", string(tt.protocol)) {
				t.Errorf("the request's session = %q", key)
			}
			_, err := g.Turn(testTimeout(t), openclaw.TurnRequest{
				Entry: openclaw.Guest, SessionKey: openclaw.SessionKey(openclaw.Guest, "judy", string(tt.protocol)), Message: "fail with 400",
			}, discard)
			var e *openclaw.TurnError
			if !errors.As(err, &e) || e.Kind != openclaw.ModelFailed || e.Message != "The scripted model was asked to fail." {
				t.Errorf("a 400: %#v", err)
			}
		})
	}
}

// configure replaces the configuration file of the running gateway.
func (r *realGateway) configure(t *testing.T, agent openclaw.Agent) {
	t.Helper()
	spec, err := openclaw.Spec(agent)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.WriteSpecFiles(spec); err != nil {
		t.Fatal(err)
	}
}

// waitProtocol runs turns until the model is called in the given protocol. A turn
// during the change of the configuration may fail.
func (r *realGateway) waitProtocol(t *testing.T, p provider.Protocol) *devmodel.Call {
	t.Helper()
	ctx := testTimeout(t)
	for ctx.Err() == nil {
		before := r.model.Count()
		_, err := r.Turn(ctx, openclaw.TurnRequest{
			Entry: openclaw.Guest, SessionKey: openclaw.SessionKey(openclaw.Guest, "judy", string(p)), Message: "echo hello",
		}, discard)
		if err != nil {
			continue
		}
		if call, err := r.model.Wait(ctx, before+1); err == nil && call.Protocol == p {
			return call
		}
	}
	t.Fatalf("the gateway did not change to %s", p)
	return nil
}

// sessionOf returns the session that a model call names.
func sessionOf(t *testing.T, p provider.Name, call *devmodel.Call) string {
	t.Helper()
	r := openclaw.NewSessionReader(p)
	r.SystemText(inJSON(t, call.System))
	for _, m := range call.Messages {
		r.MessageText(m.Role, inJSON(t, m.Text))
	}
	return r.Key()
}

// pixel is a PNG of one pixel, as a data URL.
const pixel = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

// TestGatewayKeepsNothingOfAOneShotTurn in its home, neither during the turn nor afterwards.
func TestGatewayKeepsNothingOfAOneShotTurn(t *testing.T) {
	g := sharedGateway(t)
	for _, entry := range []openclaw.Entry{openclaw.Guest, openclaw.Task} {
		t.Run(string(entry), func(t *testing.T) {
			key := openclaw.OneShotKey(entry, "sess_once"+string(entry))
			before := g.model.Count()
			said := "echo one-shot-words-of-" + string(entry)
			var got answer
			_, err := g.Turn(testTimeout(t), openclaw.TurnRequest{Entry: entry, SessionKey: key, System: "CONTEXT-OF-ONE-SHOT", Message: said, Images: []string{pixel}}, got.add)
			if err != nil || !strings.HasPrefix(got.String(), "one-shot-words-of-") {
				t.Fatalf("answered %q, %v", got.String(), err)
			}
			call, err := g.model.Wait(testTimeout(t), before+1)
			if err != nil {
				t.Fatal(err)
			}
			assertContains(t, "the system text", call.System, "CONTEXT-OF-ONE-SHOT", "session="+strings.ToLower(key))
			assertContains(t, "the request", string(call.Body), strings.TrimPrefix(pixel, "data:image/png;base64,"))
			if tools := len(call.Tools); (entry == openclaw.Task) != (tools == 0) {
				t.Errorf("%d tools", tools)
			}
			if entry == openclaw.Task {
				assertLacks(t, "the system text", call.System, "SOUL-TEXT", "MEMORY-TEXT", "WORKFLOW-TEXT", "SKILL-ABOUT")
			}
			if err := g.DeleteSession(testTimeout(t), key); err != nil {
				t.Fatal(err)
			}
			if err := g.DeleteSession(testTimeout(t), key); err != nil {
				t.Errorf("deleting a session that does not exist: %v", err)
			}
			messages, _, err := g.History(testTimeout(t), key, 10, 0)
			if err != nil || len(messages) > 0 {
				t.Errorf("the history has %v, %v", messages, err)
			}
			keys, err := g.SessionKeys(testTimeout(t), 200)
			if err != nil || slices.Contains(keys, key) {
				t.Errorf("sessions %v, %v", keys, err)
			}
			assertLacks(t, "the output", g.Log(), "one-shot-words-of-"+string(entry))
			assertContains(t, "the output", g.Log(), `"subsystem"`)
			assertNowhere(t, g.Home, "one-shot-words-of-"+string(entry), "CONTEXT-OF-ONE-SHOT", strings.TrimPrefix(pixel, "data:image/png;base64,"))
		})
	}
}

// assertNowhere fails the test if a file below a directory contains one of the texts.
func assertNowhere(t *testing.T, dir string, texts ...string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(name)
		for _, text := range texts {
			if strings.Contains(string(content), text) {
				t.Errorf("%s contains %q", name, text)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
