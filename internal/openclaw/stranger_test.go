package openclaw_test

import (
	"fmt"
	"strings"
	"testing"

	"agento.host/agento/internal/devmodel"
	"agento.host/agento/internal/openclaw"
)

// What a stranger writes is for the model, whatever it looks like: no command and no word
// that OpenClaw knows is answered by the gateway itself.
func TestGatewayGivesEveryMessageOfAChannelToTheModel(t *testing.T) {
	g := sharedGateway(t)
	g.drainSent()
	remove := g.model.Script(func(devmodel.Request) (devmodel.Reply, bool) {
		return devmodel.Reply{Chunks: []string{fmt.Sprintf("Answer of call %d.", g.model.Count())}}, true
	})
	defer remove()
	for i, text := range []string{
		"/start", "/status", "/context list", "/models", "/reasoning on", "/think max", "/usage full", "/verbose on", "/allowlist add dm 4242",
		"/new", "/reset soft", "/compact", "/help", "/whoami", "/skill greet hello", "/approve x allow", "/export-session", "/exec security=full",
		"/stop", "stop", "! ls", "!poll", "please /status now", "hello /think max /reasoning on there", "/STATUS@ada_bot",
	} {
		before := g.model.Count()
		marked, _ := openclaw.AsText(text) // as package botapi passes it on
		g.bot.Write(1000+i, 4242, "Eve", marked)
		g.expectOnlyTheModel(t, before, marked)
	}
	select {
	case sent := <-g.bot.Sent():
		t.Errorf("a stranger also reads %s", sent)
	default:
	}
}

// Options that a person of a channel could set before are taken back; those of other sessions
// stay.
func TestGatewayClearsTheOptionsOfChannels(t *testing.T) {
	g := sharedGateway(t)
	ctx := testTimeout(t)
	mine, other := openclaw.SessionKey(openclaw.Guest, "laura", "c1"), openclaw.SessionKey(openclaw.Guest, "laura", "c2")
	for _, conversation := range []string{"c1", "c2"} {
		g.turn(t, "laura", conversation, "", "echo hello")
	}
	for _, key := range []string{mine, other} {
		options := map[string]any{"key": key, "verboseLevel": "on", "reasoningLevel": "on", "responseUsage": "full", "traceLevel": "on", "thinkingLevel": "high"}
		if err := openclaw.Call(g.Gateway, ctx, "sessions.patch", options, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.ClearOptions(ctx, 50, func(key string) bool { return key == mine }); err != nil {
		t.Fatal(err)
	}
	var out struct{ Sessions []map[string]any }
	if err := openclaw.Call(g.Gateway, ctx, "sessions.list", map[string]any{"limit": 50}, &out); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, row := range out.Sessions {
		for _, option := range []string{"verboseLevel", "reasoningLevel", "responseUsage", "traceLevel", "thinkingLevel"} {
			if row["key"] == mine && row[option] != nil || row["key"] == other && row[option] == nil {
				t.Errorf("%s of %s is %v", option, row["key"], row[option])
			}
		}
		if row["key"] == mine || row["key"] == other {
			found++
		}
	}
	if found != 2 {
		t.Errorf("%d sessions", found)
	}
}

// expectOnlyTheModel waits until a message of a channel has reached the model, in a call after
// the number before, and until the answer of that call has been sent.
func (r *realGateway) expectOnlyTheModel(t *testing.T, before int, text string) {
	t.Helper()
	ctx := testTimeout(t)
	call, err := r.model.WaitFor(ctx, func(c *devmodel.Call) bool { return c.Number > before && strings.Contains(c.LastUser(), text) })
	if err != nil {
		t.Fatalf("%q did not reach the model: %v", text, err)
	}
	for answer := fmt.Sprintf("Answer of call %d.", call.Number); ; {
		select {
		case <-ctx.Done():
			t.Fatalf("%q: the model's answer was not sent", text)
		case sent := <-r.bot.Sent():
			if !strings.Contains(sent, "Answer of call ") {
				t.Errorf("after %q a stranger reads %s", text, sent)
			}
			if strings.Contains(sent, answer) {
				return
			}
		}
	}
}

// drainSent forgets what the bot has sent until now.
func (r *realGateway) drainSent() {
	for {
		select {
		case <-r.bot.Sent():
		default:
			return
		}
	}
}
