package chat

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/openclaw"
)

func TestASessionIsItsOwners(t *testing.T) {
	w := newWorld(t)
	a, b, guarded := w.create("ada"), w.create("bob"), w.create("eve", shared)
	hello := client.ChatRequest{Message: "Hello"}
	key := w.prepare(a, hello).session
	if key.Owner != "key:key_1" || key.PeerID != "" || key.Entry != openclaw.Main || key.Channel != viaAPI || key.AgentID != string(a.ID) || key.AccountID != "acct_1" {
		t.Errorf("the key's session: %+v", key)
	}
	hello.PeerID = "alice"
	alice := w.prepare(a, hello).session
	if alice.Owner != "peer:alice" || alice.PeerID != "alice" || alice.Entry != openclaw.Guest || alice.GatewayKey != openclaw.SessionKey(openclaw.Guest, "alice", alice.ID) {
		t.Errorf("the peer's session: %+v", alice)
	}
	other := access.Principal{AccountID: "acct_1", KeyID: "key_2"}
	same, err := w.Prepare(t.Context(), other, string(a.ID), hello)
	if err != nil || same.session.ID != alice.ID {
		t.Errorf("a peer that writes through another key has session %s, want %s (%v)", same.session.ID, alice.ID, err)
	}
	second, err := w.Prepare(t.Context(), other, string(a.ID), client.ChatRequest{Message: "Hello"})
	if err != nil || second.session.Owner != "key:key_2" {
		t.Errorf("another key's session: %+v, %v", second.session, err)
	}
	ids := map[string]bool{key.ID: true, alice.ID: true, second.session.ID: true, w.prepare(b, hello).session.ID: true, w.prepare(a, client.ChatRequest{Message: "m", PeerID: "Alice"}).session.ID: true}
	if len(ids) != 5 {
		t.Errorf("two owners share a session: %v", ids)
	}
	if got := w.prepare(a, hello).session; got != alice {
		t.Errorf("the peer's next message: %+v, want %+v", got, alice)
	}
	if got := w.prepare(guarded, client.ChatRequest{Message: "Hello"}).session; got.Entry != openclaw.Guest || got.Owner != "key:key_1" {
		t.Errorf("in shared mode: %+v", got)
	}
}

func TestASessionIDOfAnotherIsNotFound(t *testing.T) {
	w := newWorld(t)
	a, b := w.create("ada"), w.create("bob")
	alice := w.prepare(a, client.ChatRequest{Message: "m", PeerID: "alice"}).session
	mine := w.prepare(a, client.ChatRequest{Message: "m"}).session
	for name, c := range map[string]struct {
		agent, session, peer string
		want                 fault.Code // empty: none
	}{
		"the peer's own":         {string(a.ID), alice.ID, "alice", ""},
		"the key's own":          {string(a.ID), mine.ID, "", ""},
		"of another agent":       {string(b.ID), alice.ID, "alice", fault.NotFound},
		"of another peer":        {string(a.ID), alice.ID, "bob", fault.NotFound},
		"of a key, for a peer":   {string(a.ID), mine.ID, "alice", fault.NotFound},
		"of nobody":              {string(a.ID), "sess_none", "", fault.NotFound},
		"of an agent of nowhere": {"nowhere", alice.ID, "alice", fault.NotFound},
	} {
		got, err := w.Prepare(t.Context(), w.who, c.agent, client.ChatRequest{Message: "m", SessionID: c.session, PeerID: c.peer})
		if c.want == "" && (err != nil || got.session.ID != c.session) || c.want != "" && !fault.Is(err, c.want) {
			t.Errorf("%s: %s, %v", name, got.session.ID, err)
		}
	}
	stranger := access.Principal{AccountID: "acct_2", KeyID: "key_9"}
	_, prepared := w.Prepare(t.Context(), stranger, string(a.ID), client.ChatRequest{Message: "m", SessionID: mine.ID})
	_, _, read := w.History(t.Context(), stranger, string(a.ID), "", time.Time{}, 50)
	_, _, listed := w.Sessions(t.Context(), stranger, string(a.ID))
	_, begun := w.NewSession(t.Context(), stranger, string(a.ID), "")
	for _, err := range []error{prepared, read, listed, begun} {
		if !fault.Is(err, fault.NotFound) {
			t.Errorf("another account gets %v", err)
		}
	}
	if _, _, err := w.History(t.Context(), w.who, string(b.ID), alice.ID, time.Time{}, 50); !fault.Is(err, fault.NotFound) {
		t.Errorf("the history of another agent's session: %v", err)
	}
}

func TestFirstMessagesAtOnceShareASession(t *testing.T) {
	w := newWorld(t)
	a := w.create("ada")
	var all sync.WaitGroup
	ids := make([]string, 20)
	for i := range ids {
		all.Go(func() {
			turn, err := w.Prepare(w.patient(), w.who, string(a.ID), client.ChatRequest{Message: "m", PeerID: fmt.Sprint(i % 2)})
			if err != nil {
				t.Error(err)
			}
			ids[i] = turn.session.ID
		})
	}
	all.Wait()
	slices.Sort(ids)
	if n := len(slices.Compact(ids)); n != 2 {
		t.Errorf("two peers have %d sessions", n)
	}
}

// In a bubble everything happens within one millisecond.
func TestTheSessionStartedLastIsTheNewest(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a := w.create("ada")
		ids := []string{w.prepare(a, client.ChatRequest{Message: "m", PeerID: "alice"}).session.ID}
		for range 4 {
			v, err := w.NewSession(t.Context(), w.who, string(a.ID), "alice")
			w.must(err)
			ids = append(ids, v.ID)
			if got := w.prepare(a, client.ChatRequest{Message: "m", PeerID: "alice"}).session; got.ID != v.ID || !got.StartedAt.Equal(v.StartedAt) {
				t.Errorf("after a fresh start the message goes to %s, want %s", got.ID, v.ID)
			}
		}
		listed, total, err := w.Sessions(t.Context(), w.who, string(a.ID))
		w.must(err)
		slices.Reverse(listed)
		got := []string{}
		for _, v := range listed {
			got = append(got, v.ID)
		}
		wants(t, "the sessions, oldest first", got, ids...)
		if total != len(ids) {
			t.Errorf("a total of %d", total)
		}
		if v := w.prepare(a, client.ChatRequest{Message: "m", PeerID: "alice", SessionID: ids[1]}).session; v.ID != ids[1] {
			t.Errorf("an older session, asked for by its id, is %s", v.ID)
		}
		events, err := database.All(t.Context(), w.DB, database.Scalar[string],
			`SELECT actor FROM events WHERE kind = 'session.created' AND topic = $1`, "agent/"+string(a.ID))
		w.must(err)
		wants(t, "who the audit log names", events, "key_1", "key_1", "key_1", "key_1")
	})
}

func TestTheListHasTheLastHundred(t *testing.T) {
	w := newWorld(t)
	a := w.create("ada")
	start := time.UnixMilli(1_700_000_000_000).UTC()
	w.must(w.DB.Tx(t.Context(), func(tx *database.Tx) error {
		for i := range 103 {
			v := newSession(w.who, a, fmt.Sprint(i))
			v.StartedAt = start.Add(time.Duration(i*37%103) * time.Second)
			if err := insert(t.Context(), tx, v); err != nil {
				return err
			}
		}
		return nil
	}))
	listed, total, err := w.Sessions(t.Context(), w.who, string(a.ID))
	if err != nil || total != 103 || len(listed) != 100 {
		t.Fatalf("%d sessions of %d, %v", len(listed), total, err)
	}
	for i, v := range listed {
		if want := start.Add(time.Duration(102-i) * time.Second); !v.StartedAt.Equal(want) {
			t.Fatalf("session %d was started at %v, want %v", i, v.StartedAt, want)
		}
	}
}

func TestOnlyAnAgentThatRunsIsSpokenTo(t *testing.T) {
	w := newWorld(t)
	a := w.create("ada")
	turn := w.prepare(a, client.ChatRequest{Message: "m"})
	w.stop(a)
	_, prepared := w.Prepare(t.Context(), w.who, string(a.ID), client.ChatRequest{Message: "m"})
	_, begun := w.NewSession(t.Context(), w.who, string(a.ID), "")
	ran := w.Run(t.Context(), turn, func(string) error { return nil })
	for _, err := range []error{prepared, begun, ran} {
		if !fault.Is(err, fault.NotRunning) {
			t.Errorf("a stopped agent: %v", err)
		}
	}
	wants(t, "what is recorded of a message that was not delivered", w.recorded(a, ""))
	if _, err := w.NewSession(t.Context(), w.who, string(a.ID), "a\x00"); !fault.Is(err, fault.Invalid) {
		t.Errorf("a peer with a NUL: %v", err)
	}
}
