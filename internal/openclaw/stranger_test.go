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
