package chat

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
)

func TestTurnIsSavedOnBothSides(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	turn := env.prepare(a, client.ChatRequest{Message: "Hello", PeerID: "alice", Context: map[string]any{"plan": "Pro"}})
	var pieces []string
	env.must(env.RunTurn(env.timeout(), turn, func(piece string) error {
		pieces = append(pieces, piece)
		return nil
	}))
	wantEqual(t, "the pieces", pieces, "You said: ", "Hello")
	wantEqual(t, "the history", env.messages(a, turn.session.ID), "user: Hello", "assistant: You said: Hello")
	wantEqual(t, "what the gateway received", env.gateways.received(), receivedTurn{"openclaw/guest", turn.session.GatewayKey, "plan: Pro", "Hello"})
	if got := env.send(a, "", "Me too"); got != "You said: Me too" {
		t.Errorf("the answer is %q", got)
	}
	wantEqual(t, "the whole history", env.messages(a, ""), "user: Hello", "assistant: You said: Hello", "user: Me too", "assistant: You said: Me too")
	wantEqual(t, "the peer's history", env.messages(a, turn.session.ID), "user: Hello", "assistant: You said: Hello")
}

// TestInterruptedTurnIsSaved: however a turn ends, the gateway's run ends with it, the
// answer up to then is saved, and its draft is deleted.
func TestInterruptedTurnIsSaved(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(env *testEnv, agentID identity.AgentID, disconnect func(), pieces chan string)
		want func(error) bool
		emit error
	}{
		"emit fails":             {func(_ *testEnv, _ identity.AgentID, _ func(), pieces chan string) { pieces <- "lost" }, func(err error) bool { return errors.Is(err, errClientGone) }, errClientGone},
		"the client disconnects": {func(_ *testEnv, _ identity.AgentID, disconnect func(), _ chan string) { disconnect() }, func(err error) bool { return errors.Is(err, context.Canceled) }, nil},
		"the model fails": {func(_ *testEnv, _ identity.AgentID, _ func(), pieces chan string) {
			pieces <- errorPiece + "On fire."
			close(pieces)
		}, func(err error) bool { return fault.Is(err, fault.Upstream) }, nil},
		"the gateway dies": {func(env *testEnv, id identity.AgentID, _ func(), _ chan string) { env.driver.Kill(id, 137) }, func(err error) bool { return fault.Is(err, fault.Unavailable) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			env := newTestEnvWith(t, time.Millisecond)
			a := env.createAgent("ada")
			script, pieces := controlledScript()
			ended := make(chan struct{})
			env.gateways.setScript(func(ctx context.Context, r receivedTurn, emit func(string) error) {
				defer close(ended)
				script(ctx, r, emit)
			})
			ctx, disconnect := context.WithCancel(env.timeout())
			emitted, out := make(chan string), make(chan error, 1)
			turn := env.prepare(a, client.ChatRequest{Message: "Hello"})
			go func() {
				out <- env.RunTurn(ctx, turn, func(piece string) error {
					if piece == "lost" {
						return c.emit
					}
					emitted <- piece
					return nil
				})
			}()
			pieces <- "I was about "
			<-emitted
			env.waitForDrafts("I was about ")
			pieces <- "to "
			<-emitted
			c.end(env, a.ID, disconnect, pieces)
			if err := <-out; !c.want(err) {
				t.Errorf("the turn ended with %v", err)
			}
			disconnect()
			<-ended
			want := "assistant: I was about to "
			if c.emit != nil {
				want += "lost" // the agent sent it
			}
			wantEqual(t, "the history", env.messages(a, ""), "user: Hello", want)
			wantEqual(t, "the drafts", env.drafts())
			if strings.Contains(env.log.String(), "level=ERROR") {
				t.Errorf("the log:\n%s", env.log)
			}
		})
	}
}

func TestMessagesOfASessionAreAnsweredInOrder(t *testing.T) {
	inSynctest(t, func(t *testing.T, env *testEnv) {
		a := env.createAgent("ada")
		script, pieces := controlledScript()
		env.gateways.setScript(script)
		var ends []<-chan error
		for _, message := range []string{"one", "two", "three"} {
			ends = append(ends, env.sendAsync(t.Context(), env.prepare(a, client.ChatRequest{Message: message})))
			synctest.Wait()
		}
		cancelled, cancel := context.WithCancel(t.Context())
		gone := env.sendAsync(cancelled, env.prepare(a, client.ChatRequest{Message: "never mind"}))
		ends = append(ends, env.sendAsync(t.Context(), env.prepare(a, client.ChatRequest{Message: "aside", PeerID: "p"})))
		synctest.Wait()
		wantEqual(t, "the history while turns wait", env.messages(a, ""), "user: one", "user: aside")
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("the cancelled turn ended with %v", err)
		}
		close(pieces)
		for _, end := range ends {
			env.must(<-end)
		}
		var order []string
		for _, r := range env.gateways.received() {
			order = append(order, r.Message)
		}
		wantEqual(t, "the order at the gateway", order, "one", "aside", "two", "three")
		synctest.Wait() // until the cancelled turn has left the queue
		if n := len(env.queue.last); n != 0 {
			t.Errorf("%d sessions are left in the queue", n)
		}
	})
}

// TestAgentDeletedDuringATurn: nothing of the agent stays, and no error is logged.
func TestAgentDeletedDuringATurn(t *testing.T) {
	env := newTestEnvWith(t, time.Millisecond)
	a := env.createAgent("ada")
	env.send(a, "alice", "Hello")
	script, pieces := controlledScript()
	env.gateways.setScript(script)
	turn := env.sendAsync(env.timeout(), env.prepare(a, client.ChatRequest{Message: "Hello"}))
	pieces <- "I was "
	env.waitForDrafts("I was ")
	outcome, err := env.agents.Delete(t.Context(), env.actor, a.ID)
	env.must(err)
	env.must(env.agents.AwaitDeleted(env.timeout(), outcome))
	if err := <-turn; err == nil {
		t.Error("the turn of a deleted agent succeeded")
	}
	for _, table := range []string{"messages", "sessions", "drafts"} {
		if n, err := database.One(t.Context(), env.db, database.Scalar[int], `SELECT count(*) FROM `+table); err != nil || n != 0 {
			t.Errorf("%d %s are left, %v", n, table, err)
		}
	}
	if strings.Contains(env.log.String(), "level=ERROR") {
		t.Errorf("the log:\n%s", env.log)
	}
}

func TestModelCallsAreAttributedToPeerAndSession(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	script, pieces := controlledScript()
	env.gateways.setScript(script)
	alice := env.prepare(a, client.ChatRequest{Message: "Hello", PeerID: "alice"})
	turn := env.sendAsync(env.timeout(), alice)
	pieces <- "Hello"
	for _, c := range []struct{ key, peer, session string }{
		{alice.session.GatewayKey, "alice", string(alice.session.ID)},
		{openclaw.SessionKey(openclaw.Guest, "bob", "sess_b"), openclaw.PeerTag("bob"), "sess_b"},
		{openclaw.SessionKey(openclaw.Main, "", "sess_c"), "", "sess_c"},
		{"agent:guest:telegram:direct:42", "42", ""},
		{"agent:main:main", "", "agent:main:main"},
		{"", "", ""},
	} {
		if peer, session := env.Attribute(c.key); peer != c.peer || string(session) != c.session {
			t.Errorf("%q belongs to peer %q and session %q, want %q and %q", c.key, peer, session, c.peer, c.session)
		}
	}
	close(pieces)
	env.must(<-turn)
	if peer, _ := env.Attribute(alice.session.GatewayKey); peer != openclaw.PeerTag("alice") {
		t.Errorf("after the turn the peer is %q", peer)
	}
}
