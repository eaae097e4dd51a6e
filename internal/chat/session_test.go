package chat

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
)

func TestOwnersDoNotShareASession(t *testing.T) {
	env := newTestEnv(t)
	a, b, sharedAgent := env.createAgent("ada"), env.createAgent("bob"), env.createAgent("eve", withSharedMode)
	hello := client.ChatRequest{Message: "Hello"}
	key := env.session(a, hello)
	if key.Owner != "key:key_1" || key.PeerID != "" || key.Entry != openclaw.Main || key.Channel != apiChannel || key.AgentID != a.ID || key.AccountID != account {
		t.Errorf("the key's session: %+v", key)
	}
	hello.PeerID = "alice"
	alice := env.session(a, hello)
	if alice.Owner != "peer:alice" || alice.PeerID != "alice" || alice.Entry != openclaw.Guest || alice.GatewayKey != openclaw.SessionKey(openclaw.Guest, "alice", string(alice.ID)) {
		t.Errorf("the peer's session: %+v", alice)
	}
	other := byOwner(identity.ByKey(account, "key_2"))
	same, err := env.findOrStart(other, a, hello)
	if err != nil || same.ID != alice.ID {
		t.Errorf("the peer's session through another key is %s, want %s (%v)", same.ID, alice.ID, err)
	}
	second, err := env.findOrStart(other, a, client.ChatRequest{Message: "Hello"})
	if err != nil || second.Owner != "key:key_2" {
		t.Errorf("another key's session: %+v, %v", second, err)
	}
	ids := map[identity.SessionID]bool{key.ID: true, alice.ID: true, second.ID: true, env.session(b, hello).ID: true, env.session(a, client.ChatRequest{Message: "m", PeerID: "Alice"}).ID: true}
	if len(ids) != 5 {
		t.Errorf("two owners share a session: %v", ids)
	}
	if got := env.session(a, hello); got != alice {
		t.Errorf("the peer's next message: %+v, want %+v", got, alice)
	}
	if got := env.session(sharedAgent, client.ChatRequest{Message: "Hello"}); got.Entry != openclaw.Guest || got.Owner != "key:key_1" {
		t.Errorf("in shared mode: %+v", got)
	}
}

func TestSessionOfAnotherOwnerIsNotFound(t *testing.T) {
	env := newTestEnv(t)
	a, b := env.createAgent("ada"), env.createAgent("bob")
	alice := env.session(a, client.ChatRequest{Message: "m", PeerID: "alice"})
	mine := env.session(a, client.ChatRequest{Message: "m"})
	for name, c := range map[string]struct {
		agent   identity.AgentID
		session identity.SessionID
		peer    string
		want    fault.Code // empty: no fault
	}{
		"the peer's own":       {a.ID, alice.ID, "alice", ""},
		"the key's own":        {a.ID, mine.ID, "", ""},
		"of another agent":     {b.ID, alice.ID, "alice", fault.NotFound},
		"of another peer":      {a.ID, alice.ID, "bob", fault.NotFound},
		"of a key, for a peer": {a.ID, mine.ID, "alice", fault.NotFound},
		"unknown session":      {a.ID, "sess_none", "", fault.NotFound},
		"of an unknown agent":  {"nowhere", alice.ID, "alice", fault.NotFound},
	} {
		got, err := env.Start(t.Context(), env.caller, c.agent, client.ChatRequest{Message: "m", SessionID: string(c.session), PeerID: c.peer})
		if c.want == "" && (err != nil || got.SessionID != c.session) || c.want != "" && !fault.Is(err, c.want) {
			t.Errorf("%s: %s, %v", name, got.SessionID, err)
		}
	}
	outsider := byOwner(identity.ByKey("acct_2", "key_9"))
	_, prepared := env.Start(t.Context(), outsider, a.ID, client.ChatRequest{Message: "m", SessionID: string(mine.ID)})
	_, read := env.History(t.Context(), outsider, a.ID, HistoryQuery{Limit: 50})
	_, _, listed := env.Sessions(t.Context(), outsider, a.ID, SessionQuery{Limit: 50})
	_, started := env.NewSession(t.Context(), outsider, a.ID, "", "")
	_, renamed := env.RenameSession(t.Context(), outsider, a.ID, mine.ID, "Mine")
	for _, err := range []error{prepared, read, listed, started, renamed} {
		if !fault.Is(err, fault.NotFound) {
			t.Errorf("another account gets %v", err)
		}
	}
	if _, err := env.History(t.Context(), env.caller, a.ID, HistoryQuery{Session: alice.ID, Peer: "bob", Limit: 50}); !fault.Is(err, fault.NotFound) {
		t.Errorf("the history of another peer's session: %v", err)
	}
	if _, err := env.History(t.Context(), env.caller, b.ID, HistoryQuery{Session: alice.ID, Limit: 50}); !fault.Is(err, fault.NotFound) {
		t.Errorf("the history of another agent's session: %v", err)
	}
}

func TestConcurrentFirstMessagesShareASession(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	var all sync.WaitGroup
	ids := make([]identity.SessionID, 20)
	for i := range ids {
		all.Go(func() {
			turn, err := env.Start(env.timeout(), env.caller, a.ID, client.ChatRequest{Message: "m", PeerID: fmt.Sprint(i % 2)})
			if err != nil {
				t.Error(err)
			}
			ids[i] = turn.SessionID
		})
	}
	all.Wait()
	slices.Sort(ids)
	if n := len(slices.Compact(ids)); n != 2 {
		t.Errorf("two peers have %d sessions", n)
	}
}

// TestLatestSessionIsTheDefault: in a synctest bubble all sessions start in the same
// millisecond.
func TestLatestSessionIsTheDefault(t *testing.T) {
	inSynctest(t, func(t *testing.T, env *testEnv) {
		a := env.createAgent("ada")
		ids := []identity.SessionID{env.session(a, client.ChatRequest{Message: "m", PeerID: "alice"}).ID}
		for range 4 {
			v, err := env.NewSession(t.Context(), env.caller, a.ID, "alice", "")
			env.must(err)
			ids = append(ids, v.ID)
			if got := env.session(a, client.ChatRequest{Message: "m", PeerID: "alice"}); got.ID != v.ID || !got.StartedAt.Equal(v.StartedAt) {
				t.Errorf("after NewSession the message belongs to %s, want %s", got.ID, v.ID)
			}
		}
		listed, total, err := env.Sessions(t.Context(), env.caller, a.ID, SessionQuery{Limit: MaxSessions})
		env.must(err)
		slices.Reverse(listed)
		got := []identity.SessionID{}
		for _, v := range listed {
			got = append(got, v.ID)
		}
		wantEqual(t, "the sessions, oldest first", got, ids...)
		if total != len(ids) {
			t.Errorf("a total of %d", total)
		}
		if v := env.session(a, client.ChatRequest{Message: "m", PeerID: "alice", SessionID: string(ids[1])}); v.ID != ids[1] {
			t.Errorf("the session of an earlier id is %s", v.ID)
		}
		events, err := database.All(t.Context(), env.db, database.Scalar[string],
			`SELECT actor FROM events WHERE kind = 'session.created' AND topic = $1`, event.AgentTopic(a.ID))
		env.must(err)
		wantEqual(t, "the actors in the audit log", events, "key_1", "key_1", "key_1", "key_1")
	})
}

// TestSessionsAreListedInTheOrderOfTheirStart: whatever the clock says.
func TestSessionsAreListedInTheOrderOfTheirStart(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	start := time.UnixMilli(1_700_000_000_000).UTC()
	env.must(env.db.Tx(t.Context(), "chat.test", func(ctx context.Context, tx *database.Tx) error {
		for i := range 103 {
			v := newSession(env.caller, a, fmt.Sprint(i))
			v.StartedAt = start.Add(time.Duration(i*37%103) * time.Second)
			if err := insertSession(t.Context(), tx, v); err != nil {
				return err
			}
		}
		return nil
	}))
	listed, total, err := env.Sessions(t.Context(), env.caller, a.ID, SessionQuery{Limit: MaxSessions})
	if err != nil || total != 103 || len(listed) != 100 {
		t.Fatalf("%d sessions of %d, %v", len(listed), total, err)
	}
	rest, total, err := env.Sessions(t.Context(), env.caller, a.ID, SessionQuery{Limit: MaxSessions, Offset: 100})
	if err != nil || total != 103 || len(rest) != 3 {
		t.Fatalf("%d more sessions of %d, %v", len(rest), total, err)
	}
	for i, v := range append(listed, rest...) {
		if want := fmt.Sprint(102 - i); v.PeerID != want {
			t.Fatalf("session %d is that of peer %s, want %s", i, v.PeerID, want)
		}
	}
	of, total, err := env.Sessions(t.Context(), env.caller, a.ID, SessionQuery{Peer: "7", Limit: MaxSessions})
	if err != nil || total != 1 || len(of) != 1 || of[0].PeerID != "7" {
		t.Errorf("the sessions of a peer: %+v of %d, %v", of, total, err)
	}
}

// TestRecentSessionsAreThoseOfAllAgents: the one with the newest message is the first. Guests
// see those of guests, and nobody those of a deleted agent.
func TestRecentSessionsAreThoseOfAllAgents(t *testing.T) {
	env := newTestEnv(t)
	ada, bob, eve := env.createAgent("ada"), env.createAgent("bob"), env.createAgent("eve")
	at := time.Now().UTC().Truncate(time.Millisecond)
	start := func(a agent.Agent, peer string, messageAt time.Time) {
		t.Helper()
		v := newSession(env.caller, a, peer)
		v.StartedAt = at
		env.must(env.db.Tx(t.Context(), "chat.test", func(ctx context.Context, tx *database.Tx) error {
			if err := insertSession(ctx, tx, v); err != nil || messageAt.IsZero() {
				return err
			}
			_, err := tx.ExecContext(ctx, `UPDATE sessions SET last_message_at = $1 WHERE id = $2`, messageAt.UnixMilli(), v.ID)
			return err
		}))
	}
	start(ada, "old", at.Add(time.Minute))
	start(bob, "", at.Add(time.Hour)) // without a peer, it is the owner's
	start(ada, "guest", at.Add(2*time.Minute))
	start(bob, "silent", time.Time{})
	start(eve, "deleted", at.Add(2*time.Hour))
	_, err := env.agents.Delete(env.timeout(), env.actor, eve.ID)
	env.must(err)

	check := func(caller Caller, query SessionQuery, total int, want ...string) {
		t.Helper()
		found, n, err := env.RecentSessions(t.Context(), caller, query)
		env.must(err)
		var peers []string
		for _, v := range found {
			peers = append(peers, v.AgentName+" "+v.PeerID)
		}
		wantEqual(t, "the sessions", peers, want...)
		wantEqual(t, "how many", []int{n}, total)
	}
	check(env.caller, SessionQuery{Limit: 10}, 4, "bob ", "ada guest", "ada old", "bob silent")
	check(env.caller, SessionQuery{Limit: 2, Offset: 1}, 4, "ada guest", "ada old")
	check(env.caller, SessionQuery{Limit: 10, Peer: "old"}, 1, "ada old")
	check(env.caller, SessionQuery{Limit: 10, Search: "OLD"}, 1, "ada old")
	check(env.caller, SessionQuery{Limit: 2, Offset: 1, Search: "sess_"}, 4, "ada guest", "ada old")
	check(env.caller, SessionQuery{Limit: 2, Offset: 9, Search: "sess_"}, 4)
	check(Caller{Actor: env.actor}, SessionQuery{Limit: 10, Search: "nobody"}, 0)
	check(Caller{Actor: env.actor}, SessionQuery{Limit: 10}, 3, "ada guest", "ada old", "bob silent")
	check(Caller{Actor: identity.ByKey("acct_other", "key_9"), Owner: true}, SessionQuery{Limit: 10}, 0)
}

func TestStoppedAgentIsNotRunning(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	env.stopAgent(a)
	_, prepared := env.Start(t.Context(), env.caller, a.ID, client.ChatRequest{Message: "m"})
	_, started := env.NewSession(t.Context(), env.caller, a.ID, "", "")
	for _, err := range []error{prepared, started} {
		if !fault.Is(err, fault.NotRunning) {
			t.Errorf("a stopped agent: %v", err)
		}
	}
	wantEqual(t, "the history after a message that was not delivered", env.messages(a, ""))
	if _, err := env.NewSession(t.Context(), env.caller, a.ID, "a\x00", ""); !fault.Is(err, fault.Invalid) {
		t.Errorf("a peer with a NUL: %v", err)
	}
}

// TestGuestsHaveTheirOwnSessions: an actor with the rights of an owner and without them has
// two sessions, and each finds its own again.
func TestGuestsHaveTheirOwnSessions(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	hello := client.ChatRequest{Message: "Hello"}
	guest := Caller{Actor: env.actor}
	first := env.session(a, hello)
	mine, err := env.findOrStart(guest, a, hello)
	env.must(err)
	if mine.ID == first.ID || mine.Entry != openclaw.Guest || mine.Owner != "key:key_1" || mine.GatewayKey != openclaw.SessionKey(openclaw.Guest, "", string(mine.ID)) {
		t.Errorf("the guest's session: %+v", mine)
	}
	again, err := env.findOrStart(guest, a, hello)
	env.must(err)
	if again != mine || env.session(a, hello) != first {
		t.Errorf("the next messages belong to %s and %s", again.ID, env.session(a, hello).ID)
	}
	if _, err := env.Start(t.Context(), guest, a.ID, client.ChatRequest{Message: "m", SessionID: string(first.ID)}); !fault.Is(err, fault.NotFound) {
		t.Errorf("a guest in the owner's session: %v", err)
	}
}

// TestSharedModeClosesTheMainEntry: sessions of the main entry cannot be continued once every
// caller is a guest.
func TestSharedModeClosesTheMainEntry(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	before := env.session(a, client.ChatRequest{Message: "m"})
	_, err := env.agents.Update(env.timeout(), env.actor, a.ID, client.UpdateAgentRequest{Config: map[string]any{"sharedMode": true}})
	env.must(err)
	a, err = env.agents.Find(t.Context(), account, a.ID)
	env.must(err)
	if after := env.session(a, client.ChatRequest{Message: "m"}); after.ID == before.ID || after.Entry != openclaw.Guest {
		t.Errorf("the next message belongs to %+v", after)
	}
	if _, err := env.Start(t.Context(), env.caller, a.ID, client.ChatRequest{Message: "m", SessionID: string(before.ID)}); !fault.Is(err, fault.Conflict) {
		t.Errorf("a message to the old session: %v", err)
	}
}
