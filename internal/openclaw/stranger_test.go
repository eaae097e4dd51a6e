package openclaw_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/devmodel"
	"agento.host/agento/internal/openclaw"
)

// strangerTimeout bounds one message, on a busy machine.
const strangerTimeout = 20 * time.Second

// What a stranger writes is for the model, whatever it looks like: no command and no word
// that OpenClaw knows is answered by the gateway itself.
func TestGatewayGivesEveryMessageOfAChannelToTheModel(t *testing.T) {
	g := sharedGateway(t)
	g.drainSent()
	remove := g.model.Script(func(r devmodel.Request) (devmodel.Reply, bool) {
		return devmodel.Reply{Chunks: []string{fmt.Sprintf("The model has read message %d.", g.model.Count())}}, true
	})
	defer remove()
	for i, text := range []string{
		"/start", "/status", "/context list", "/models", "/model", "/reasoning on", "/think max", "/usage full", "/verbose on", "/trace on",
		"/allowlist", "/allowlist add dm 4242", "/new", "/reset", "/reset soft", "/compact", "/help", "/commands", "/whoami", "/tools", "/skill greet hello", "/greet",
		"/approve x allow", "/btw who", "/export-session", "/activation always", "/send off", "/name Evil", "/tts status", "/queue interrupt", "/elevated full",
		"/exec security=full", "/steer go", "/goal", "/tasks", "/login", "/agents", "/subagents list", "/dashboard", "/pair", "/stop", "stop", "abort",
		"! ls", "!poll", "!stop", "please /status and /whoami now", "hello /think max /reasoning on there", "STOP", "/STATUS", "/status@ada_bot", "／status",
	} {
		before := g.model.Count()
		marked, _ := openclaw.AsText(text) // as package botapi passes it on
		g.bot.Write(1000+i, 4242, "Eve", marked)
		if err := g.expectOnlyTheModel(t, before, marked, "The model has read message"); err != nil {
			t.Error(err)
		}
	}
	assertNothingSent(t, g)
}

// assertNothingSent checks that the bot has sent nothing that was not awaited.
func assertNothingSent(t *testing.T, g *realGateway) {
	t.Helper()
	select {
	case sent := <-g.bot.Sent():
		t.Errorf("a stranger also reads %s", sent)
	default:
	}
}

// expectOnlyTheModel waits until a message of a channel has reached the model, in the first
// call after the number before, and until the answer has been sent.
func (r *realGateway) expectOnlyTheModel(t *testing.T, before int, text, answer string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), strangerTimeout)
	defer cancel()
	call, err := r.model.WaitFor(ctx, func(c *devmodel.Call) bool { return c.Number > before })
	if err != nil {
		return fmt.Errorf("%q did not reach the model: %w", text, err)
	}
	if said := call.LastUser(); !strings.Contains(said, text) {
		t.Errorf("%q reached the model as %q", text, said)
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("%q: nothing was sent", text)
	case sent := <-r.bot.Sent():
		assertContains(t, fmt.Sprintf("what a stranger reads after %q", text), sent, answer)
	}
	return nil
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
