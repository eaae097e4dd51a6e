package chat

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/vault"
)

func TestTurnIsSavedOnBothSides(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	turn := env.begin(a, client.ChatRequest{Message: "Hello", PeerID: "alice", Context: map[string]any{"plan": "Pro"}})
	var pieces []string
	end, err := env.Follow(env.timeout(), turn, 0, func(seq int64, piece string) error {
		pieces = append(pieces, piece)
		return nil
	})
	env.must(err)
	if end.State != Done || end.StopReason != stopCompleted || end.LastSeq != 2 || end.EndedAt.IsZero() || end.ID != turn.ID {
		t.Errorf("the turn ended as %+v", end)
	}
	wantEqual(t, "the pieces", pieces, "You said: ", "Hello")
	wantEqual(t, "the history", env.messages(a, turn.SessionID), "user: Hello", "assistant: You said: Hello")
	key := env.session(a, client.ChatRequest{PeerID: "alice"}).GatewayKey
	wantEqual(t, "what the gateway received", env.gateways.received(), receivedTurn{Entry: "openclaw/guest", Session: key, Context: "plan: Pro", Message: "Hello"})
	if got := env.send(a, "", "Me too"); got != "You said: Me too" {
		t.Errorf("the answer is %q", got)
	}
	wantEqual(t, "the whole history", env.messages(a, ""), "user: Hello", "assistant: You said: Hello", "user: Me too", "assistant: You said: Me too")
	wantEqual(t, "the peer's history", env.messages(a, turn.SessionID), "user: Hello", "assistant: You said: Hello")
}

// TestEndlessAnswerIsTruncated: the turn is done with what was read, and the gateway's run
// ends.
func TestEndlessAnswerIsTruncated(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	ended := make(chan struct{})
	env.gateways.setScript(func(_ context.Context, _ receivedTurn, emit func(string) error) {
		defer close(ended)
		for emit(strings.Repeat("x", 10_000)) == nil {
		}
	})
	turn := env.begin(a, client.ChatRequest{Message: "Hello"})
	end, err := env.Follow(env.timeout(), turn, 0, func(int64, string) error { return nil })
	env.must(err)
	stored, text := env.find(turn)
	if end.State != Done || end.StopReason != stopTruncated || stored.StopReason != stopTruncated || len(text) != openclaw.MaxAnswer {
		t.Errorf("%d bytes: %+v", len(text), stored)
	}
	<-ended
}

// TestTurnEndsAndIsSaved: however a turn ends, the gateway's run ends with it, and its text
// until then is in the turn and in the history.
func TestTurnEndsAndIsSaved(t *testing.T) {
	for name, c := range map[string]struct {
		end    func(env *testEnv, turn Turn, pieces chan string)
		state  State
		reason string
		code   fault.Code
	}{
		"cancelled": {func(env *testEnv, turn Turn, _ chan string) {
			began := time.Now()
			end, err := env.Cancel(env.timeout(), env.caller, turn.AgentID, turn.ID)
			if err != nil || end.State != Cancelled || time.Since(began) > time.Second {
				env.t.Errorf("after %v Cancel returned %+v, %v", time.Since(began), end, err)
			}
		}, Cancelled, stopCancelled, fault.Conflict},
		"the model fails": {func(_ *testEnv, _ Turn, pieces chan string) {
			pieces <- errorPiece + "On fire."
			close(pieces)
		}, Failed, stopError, fault.Upstream},
		"the gateway dies": {func(env *testEnv, turn Turn, _ chan string) { env.driver.Kill(turn.AgentID, 137) }, Failed, stopError, fault.Unavailable},
		"the lease is lost": {func(env *testEnv, turn Turn, _ chan string) {
			env.must(env.db.Tx(env.t.Context(), "chat.test", func(ctx context.Context, tx *database.Tx) error {
				_, err := tx.ExecContext(env.t.Context(), `UPDATE turns SET lease_until = 1`)
				return err
			}))
		}, Failed, stopInterrupted, fault.Unavailable},
		"the server stops": {func(env *testEnv, _ Turn, _ chan string) { env.cancel(); env.loops.Wait() }, Failed, stopInterrupted, fault.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			env := newTestEnv(t)
			a := env.createAgent("ada")
			script, pieces := controlledScript()
			ended := make(chan struct{})
			env.gateways.setScript(func(ctx context.Context, r receivedTurn, emit func(string) error) {
				defer close(ended)
				script(ctx, r, emit)
			})
			turn := env.begin(a, client.ChatRequest{Message: "Hello"})
			followed := env.readAsync(env.timeout(), turn)
			pieces <- "I was about "
			pieces <- "to"
			env.waitForStored(turn, "I was about to")
			c.end(env, turn, pieces)
			if err := <-followed; !fault.Is(err, c.code) {
				t.Errorf("the turn ended with %v", err)
			}
			<-ended
			wantEqual(t, "the history", env.messages(a, ""), "user: Hello", "assistant: I was about to")
			got, text := env.find(turn)
			if got.State != c.state || got.StopReason != c.reason || text != "I was about to" || got.LastSeq != 2 || got.message != (vault.Text{}) {
				t.Errorf("the turn is %+v with the text %q", got, text)
			}
			if strings.Contains(env.log.String(), "level=ERROR") {
				t.Errorf("the log:\n%s", env.log)
			}
		})
	}
}

// TestReadersResume: a reader that leaves at any event goes on exactly there, while the
// turn runs and after its end. The turn goes on without it.
func TestReadersResume(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	script, pieces := controlledScript()
	env.gateways.setScript(script)
	turn := env.begin(a, client.ChatRequest{Message: "Count"})
	words := []string{"one ", "two ", "three ", "four ", "five "}
	errLeft := errors.New("left")
	for i, word := range words {
		pieces <- word
		_, err := env.Follow(env.timeout(), turn, int64(i), func(seq int64, text string) error {
			if seq != int64(i+1) || text != word {
				t.Errorf("after %d comes %d: %q", i, seq, text)
			}
			return errLeft
		})
		if !errors.Is(err, errLeft) {
			t.Fatalf("following ended with %v", err)
		}
	}
	check := func(when string) {
		t.Helper()
		for after := range len(words) + 1 {
			if got, err := env.read(env.timeout(), turn, int64(after)); err != nil || got != strings.Join(words[after:], "") {
				t.Errorf("%s, after %d: %q, %v", when, after, got, err)
			}
		}
	}
	var during sync.WaitGroup
	for after := range len(words) + 1 {
		during.Go(func() {
			if got, err := env.read(env.timeout(), turn, int64(after)); err != nil || got != strings.Join(words[after:], "") {
				t.Errorf("after %d: %q, %v", after, got, err)
			}
		})
	}
	close(pieces)
	during.Wait()
	check("after the end")
	env.crashServer()
	env.startServer()
	check("after a restart")
	env.must(env.db.Tx(t.Context(), "chat.test", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(t.Context(), `UPDATE turns SET ended_at = 2`)
		if err == nil {
			_, err = tx.ExecContext(t.Context(), `UPDATE turn_pieces SET at = 1`)
		}
		return err
	}))
	env.must(env.prunePieces(t.Context()))
	got := ""
	_, err := env.Follow(env.timeout(), turn, 0, func(seq int64, text string) error {
		got += text
		return nil
	})
	if err != nil || got != strings.Join(words, "") {
		t.Errorf("long after the end: %q, %v", got, err)
	}
	if _, err := env.read(env.timeout(), turn, 3); !fault.Is(err, fault.Conflict) {
		t.Errorf("resuming long after the end: %v", err)
	}
	if _, err := env.read(env.timeout(), turn, 5); err != nil {
		t.Errorf("resuming at the last event: %v", err)
	}
}

func TestMessagesOfASessionAreAnsweredInOrder(t *testing.T) {
	inSynctest(t, func(t *testing.T, env *testEnv) {
		a := env.createAgent("ada")
		script, pieces := controlledScript()
		env.gateways.setScript(script)
		var turns []Turn
		for _, message := range []string{"one", "two", "three"} {
			turns = append(turns, env.begin(a, client.ChatRequest{Message: message}))
			synctest.Wait()
		}
		gone := env.begin(a, client.ChatRequest{Message: "never mind"})
		turns = append(turns, env.begin(a, client.ChatRequest{Message: "four"}), env.begin(a, client.ChatRequest{Message: "aside", PeerID: "p"}))
		synctest.Wait()
		wantEqual(t, "the history while turns wait", env.messages(a, ""), "user: one", "user: aside")
		if end, err := env.Cancel(t.Context(), env.caller, a.ID, gone.ID); err != nil || end.State != Cancelled {
			t.Errorf("cancelling a queued turn: %+v, %v", end, err)
		}
		queued, total, err := env.Turns(t.Context(), env.caller, a.ID, TurnQuery{State: Queued, Session: turns[0].SessionID, Limit: 10})
		if err != nil || total != 3 || len(queued) != 3 || queued[0].ID != turns[3].ID {
			t.Errorf("the queued turns: %+v of %d, %v", queued, total, err)
		}
		close(pieces)
		for _, turn := range turns {
			_, err := env.read(t.Context(), turn, 0)
			env.must(err)
		}
		var order []string
		for _, r := range env.gateways.received() {
			order = append(order, r.Message)
		}
		wantEqual(t, "the order at the gateway", order, "one", "aside", "two", "three", "four")
		wantEqual(t, "the history", env.messages(a, turns[0].SessionID), "user: one", "user: two", "user: three", "user: four")
		if n := len(env.runs.byTurn) + len(env.runs.bySession); n != 0 {
			t.Errorf("%d turns are left in memory", n)
		}
	})
}

// TestQueueLimits sends more messages at once than may be queued.
func TestQueueLimits(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	script, _ := controlledScript()
	env.gateways.setScript(script)
	flood := func(sender func(i int) client.ChatRequest, senders int) (accepted int) {
		var all sync.WaitGroup
		var ok atomic.Int64
		for i := range senders {
			all.Go(func() {
				_, err := env.Start(env.timeout(), env.caller, a.ID, sender(i))
				var f *fault.Fault
				switch {
				case err == nil:
					ok.Add(1)
				case !errors.As(err, &f) || f.Code != fault.RateLimited || f.RetryAfter == 0:
					t.Errorf("a message over the limit: %v", err)
				}
			})
		}
		all.Wait()
		return int(ok.Load())
	}
	if n := flood(func(int) client.ChatRequest { return client.ChatRequest{Message: "m", PeerID: "p"} }, 50); n != maxQueuedOfSession+1 {
		t.Errorf("%d messages of a session were accepted", n)
	}
	const peers = 30
	if n := flood(func(i int) client.ChatRequest { return client.ChatRequest{Message: "m", PeerID: fmt.Sprint(i % peers)} }, 10*peers); n != peers+maxQueuedOfAccount-maxQueuedOfSession {
		t.Errorf("%d messages of an account were accepted", n)
	}
	wantEqual(t, "the history of the refused", env.messages(a, env.session(a, client.ChatRequest{PeerID: "p"}).ID), "user: m")
}

// TestRefusedTurnLeavesNoMessage: the agent is stopped while a message waits.
func TestRefusedTurnLeavesNoMessage(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	script, pieces := controlledScript()
	env.gateways.setScript(script)
	first := env.begin(a, client.ChatRequest{Message: "one"})
	second := env.begin(a, client.ChatRequest{Message: "two"})
	pieces <- "Hm"
	waitUntil(t, "the piece arrives", func() bool { _, text := env.find(first); return text == "Hm" })
	env.stopAgent(a)
	if _, err := env.read(env.timeout(), second, 0); !fault.Is(err, fault.NotRunning) {
		t.Errorf("the queued turn of a stopped agent: %v", err)
	}
	wantEqual(t, "the history", env.messages(a, ""), "user: one", "assistant: Hm")
}

// TestAgentDeletedDuringATurn: nothing of the agent stays, and no error is logged.
func TestAgentDeletedDuringATurn(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	env.send(a, "alice", "Hello")
	script, pieces := controlledScript()
	env.gateways.setScript(script)
	started := env.begin(a, client.ChatRequest{Message: "Hello"})
	turn := env.readAsync(env.timeout(), started)
	pieces <- "I was "
	env.waitForStored(started, "I was ")
	outcome, err := env.agents.Delete(t.Context(), env.actor, a.ID)
	env.must(err)
	env.must(env.agents.AwaitDeleted(env.timeout(), outcome))
	if err := <-turn; err == nil {
		t.Error("the turn of a deleted agent succeeded")
	}
	for _, table := range []string{"messages", "sessions", "turns", "turn_pieces"} {
		if n, err := database.One(t.Context(), env.db, database.Scalar[int], `SELECT count(*) FROM `+table); err != nil || n != 0 {
			t.Errorf("%d %s are left, %v", n, table, err)
		}
	}
	if strings.Contains(env.log.String(), "level=ERROR") {
		t.Errorf("the log:\n%s", env.log)
	}
}

// TestTurnWhoseRowsAreGone ends without an error of the database, also if all of its text is stored.
func TestTurnWhoseRowsAreGone(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	script, pieces := controlledScript()
	env.gateways.setScript(script)
	started := env.begin(a, client.ChatRequest{Message: "Hello"})
	turn := env.readAsync(env.timeout(), started)
	pieces <- "I was "
	env.waitForStored(started, "I was ")
	env.must(env.db.Tx(t.Context(), "test", func(ctx context.Context, tx *database.Tx) error { return DeleteAgent(ctx, tx, env.actor, a.ID) }))
	close(pieces)
	if err := <-turn; err == nil {
		t.Error("the turn of a deleted agent succeeded")
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
	hello := client.ChatRequest{Message: "Hello", PeerID: "alice"}
	alice := env.session(a, hello)
	turn := env.begin(a, hello)
	pieces <- "Hello"
	for _, c := range []struct{ key, peer, session string }{
		{alice.GatewayKey, "alice", string(alice.ID)},
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
	for key, allowed := range map[string]bool{
		alice.GatewayKey: true, openclaw.SessionKey(openclaw.Main, "", "sess_c"): false, openclaw.SessionKey(openclaw.Guest, "bob", "sess_b"): false,
		"agent:guest:telegram:direct:42": true, "agent:main:main": true, "": true,
	} {
		if err := env.CheckModelCall(key); (err == nil) != allowed {
			t.Errorf("a model call of %q: %v", key, err)
		}
	}
	close(pieces)
	_, err := env.read(env.timeout(), turn, 0)
	env.must(err)
	if err := env.CheckModelCall(alice.GatewayKey); err == nil {
		t.Error("a model call after the turn is allowed")
	}
	if peer, _ := env.Attribute(alice.GatewayKey); peer != openclaw.PeerTag("alice") {
		t.Errorf("after the turn the peer is %q", peer)
	}
}

// TestTurnsOfARevokedKeyAreCancelled: those that run and those that wait, and no others.
func TestTurnsOfARevokedKeyAreCancelled(t *testing.T) {
	inSynctest(t, func(t *testing.T, env *testEnv) {
		a := env.createAgent("ada")
		script, _ := controlledScript()
		env.gateways.setScript(script)
		revoked := Caller{Actor: identity.ByKey(account, "key_2")}
		start := func(caller Caller, peer string) Turn {
			turn, err := env.Start(env.timeout(), caller, a.ID, client.ChatRequest{Message: "m", PeerID: peer})
			env.must(err)
			return turn
		}
		running, waiting := start(revoked, "alice"), start(revoked, "alice")
		others, behind := start(env.caller, "bob"), start(env.caller, "alice")
		began := time.Now()
		env.revoked.ids.Store(identity.KeyID("key_2"), true)
		for _, turn := range []Turn{waiting, running} {
			if err := <-env.readAsync(env.timeout(), turn); !fault.Is(err, fault.Conflict) {
				t.Errorf("its reader gets %v", err)
			}
			if end, _ := env.find(turn); end.State != Cancelled || end.StopReason != stopCancelled {
				t.Errorf("it ended as %+v", end)
			}
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
		synctest.Wait()
		for _, turn := range []Turn{others, behind} {
			if found, _ := env.find(turn); found.State != Running {
				t.Errorf("the turn of another key: %+v", found)
			}
		}
	})
}

// TestTurnOfAKeyThatWasRevokedBeforeTheStart: it waited while no server ran.
func TestTurnOfAKeyThatWasRevokedBeforeTheStart(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	script, _ := controlledScript()
	env.gateways.setScript(script)
	env.begin(a, client.ChatRequest{Message: "first"})
	waiting := env.begin(a, client.ChatRequest{Message: "second"})
	env.crashServer()
	env.revoked.ids.Store(identity.KeyID(env.actor.ID), true)
	env.startServer()
	waitUntil(t, "the turn that waited has ended", func() bool {
		found, _ := env.find(waiting)
		return found.Ended()
	})
	if found, _ := env.find(waiting); found.State != Cancelled {
		t.Errorf("it ended as %+v", found)
	}
	for _, r := range env.gateways.received() {
		if r.Message == "second" {
			t.Error("the gateway got its message")
		}
	}
}

// TestTurnThatCannotBeginIsGivenAgain: some seconds after a gateway was killed in a turn, it fails
// turns before they begin. The caller does not have to send the message again.
func TestTurnThatCannotBeginIsGivenAgain(t *testing.T) {
	inSynctest(t, func(t *testing.T, env *testEnv) {
		a := env.createAgent("ada")
		failures := 2
		env.gateways.setScript(func(_ context.Context, r receivedTurn, emit func(string) error) {
			if failures--; failures >= 0 {
				_ = emit(errorPiece + "internal error")
				return
			}
			_ = emit("You said: " + r.Message)
		})
		if got := env.send(a, "", "Hello"); got != "You said: Hello" {
			t.Errorf("the answer is %q", got)
		}
		wantEqual(t, "the history", env.messages(a, ""), "user: Hello", "assistant: You said: Hello")

		failures = 1_000_000
		turn := env.begin(a, client.ChatRequest{Message: "Hello"})
		if _, err := env.read(env.timeout(), turn, 0); !fault.Is(err, fault.Unavailable) {
			t.Errorf("the turn ended with %v", err)
		}
		if given := 1_000_000 - failures; given != 5 {
			t.Errorf("the message was given %d times", given)
		}
	})
}
