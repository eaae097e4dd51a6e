package chat

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

func TestHistory(t *testing.T) {
	env := newTestEnv(t)
	a, b := env.createAgent("ada"), env.createAgent("bob")
	alice := env.session(a, client.ChatRequest{Message: "m", PeerID: "alice"})
	bob := env.session(a, client.ChatRequest{Message: "m", PeerID: "bob"})
	elsewhere := env.session(b, client.ChatRequest{Message: "m"})
	start := time.UnixMilli(1_700_000_000_000).UTC()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	env.must(env.db.Tx(t.Context(), "chat.test", func(ctx context.Context, tx *database.Tx) error {
		for _, m := range []struct {
			session Session
			text    string
			at      int
		}{
			{alice, "a1", 0}, {alice, "a2", 10}, {bob, "b1", 10}, // same time: in the order of arrival
			{elsewhere, "other", 15},
			{alice, "a4", 30}, {alice, "a3", 20}, // the clock was set back
		} {
			if _, err := env.insertMessage(tx, m.session, Message{Role: "user", Content: m.text, At: at(m.at)}, ""); err != nil {
				return err
			}
		}
		return nil
	}))
	for name, c := range map[string]struct {
		session identity.SessionID
		since   time.Time
		limit   int
		want    []string
		total   int
	}{
		"all":             {"", time.Time{}, 200, []string{"a1", "a2", "b1", "a4", "a3"}, 5},
		"one session":     {alice.ID, time.Time{}, 200, []string{"a1", "a2", "a4", "a3"}, 4},
		"the last":        {"", time.Time{}, 2, []string{"a4", "a3"}, 5},
		"the very last":   {alice.ID, time.Time{}, 1, []string{"a3"}, 4},
		"since":           {"", at(10), 200, []string{"a4", "a3"}, 2},
		"just before":     {"", at(9), 200, []string{"a2", "b1", "a4", "a3"}, 4},
		"since, the last": {alice.ID, at(0), 2, []string{"a4", "a3"}, 3},
		"since the end":   {"", at(30), 200, []string{}, 0},
	} {
		page, err := env.History(t.Context(), env.caller, a.ID, HistoryQuery{Session: c.session, Since: c.since, Limit: c.limit})
		env.must(err)
		var texts []string
		for _, m := range page.Messages {
			texts = append(texts, m.Content)
		}
		wantEqual(t, name, texts, c.want...)
		if page.Total != c.total || page.HasMore != (len(c.want) < c.total) {
			t.Errorf("%s: a total of %d, more: %v; want %d", name, page.Total, page.HasMore, c.total)
		}
	}
	env.stopAgent(a)
	if got := env.messages(a, alice.ID); len(got) != 4 {
		t.Errorf("the history of a stopped agent: %v", got)
	}
}

// TestHistoryIsCutByBytes: a page has the newest messages that fit, and one at least.
func TestHistoryIsCutByBytes(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	session := env.session(a, client.ChatRequest{Message: "m", PeerID: "alice"})
	long := strings.Repeat("ö", maxHistory/4) // two of them fit
	for i, text := range []string{long, long, long + long + "x", long, long} {
		env.must(env.db.Tx(t.Context(), "chat.test", func(ctx context.Context, tx *database.Tx) error {
			_, err := env.insertMessage(tx, session, Message{Role: "user", Content: text, At: time.UnixMilli(int64(i + 1))}, "")
			return err
		}))
		page, err := env.History(t.Context(), env.caller, a.ID, HistoryQuery{Session: session.ID, Limit: 200})
		env.must(err)
		got := page.Messages
		if want := []int{1, 2, 1, 1, 2}[i]; len(got) != want || page.Total != i+1 || page.HasMore != (want < i+1) || got[len(got)-1].Content != text {
			t.Errorf("after %d messages: %d of %d, more: %v; want %d", i+1, len(got), page.Total, page.HasMore, want)
		}
	}
}

// TestHistoryHasTheMessagesOfRunningTurns: they are not in the history yet.
func TestHistoryHasTheMessagesOfRunningTurns(t *testing.T) {
	env := newTestEnv(t)
	a, b := env.createAgent("ada"), env.createAgent("bob")
	env.send(a, "alice", "Before")
	script, pieces := controlledScript()
	env.gateways.setScript(script)
	peers := env.begin(a, client.ChatRequest{Message: "From Alice", PeerID: "alice"})
	owners := env.begin(a, client.ChatRequest{Message: "From the owner"})
	env.begin(a, client.ChatRequest{Message: "It waits", PeerID: "alice"})
	env.begin(b, client.ChatRequest{Message: "To another agent"})
	guest := env.caller
	guest.Owner = false
	for name, c := range map[string]struct {
		caller  Caller
		session identity.SessionID
		since   time.Time
		limit   int
		want    []string
		total   int
	}{
		"all":            {env.caller, "", time.Time{}, 200, []string{"Before", "From Alice", "From the owner"}, 4},
		"the last":       {env.caller, owners.SessionID, time.Time{}, 1, []string{"From the owner"}, 1},
		"one session":    {env.caller, peers.SessionID, time.Time{}, 200, []string{"Before", "From Alice"}, 3},
		"guest":          {guest, "", time.Time{}, 200, []string{"Before", "From Alice"}, 3},
		"since the last": {env.caller, "", owners.StartedAt, 200, nil, 0},
	} {
		page, err := env.History(t.Context(), c.caller, a.ID, HistoryQuery{Session: c.session, Since: c.since, Limit: c.limit})
		env.must(err)
		var texts []string
		for _, m := range page.Messages {
			if m.Role == "user" {
				texts = append(texts, m.Content)
			}
		}
		wantEqual(t, name, texts, c.want...)
		if page.Total != c.total {
			t.Errorf("%s: a total of %d, want %d", name, page.Total, c.total)
		}
	}
	close(pieces)
}

// TestGatewayMessageIsInsertedOnce: a session has one message of each gateway id.
// Messages without a gateway id are all inserted.
func TestGatewayMessageIsInsertedOnce(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	one := env.session(a, client.ChatRequest{Message: "m", PeerID: "1"})
	two := env.session(a, client.ChatRequest{Message: "m", PeerID: "2"})
	env.must(env.db.Tx(t.Context(), "chat.test", func(ctx context.Context, tx *database.Tx) error {
		for i, c := range []struct {
			session   Session
			gatewayID string
			inserted  bool
		}{{one, "x", true}, {one, "x", false}, {two, "x", true}, {one, "", true}, {one, "", true}} {
			inserted, err := env.insertMessage(tx, c.session, Message{Role: "user", Content: fmt.Sprint(i), At: time.Now()}, c.gatewayID)
			if err != nil || inserted != c.inserted {
				t.Errorf("%d: inserted %v, %v", i, inserted, err)
			}
		}
		return nil
	}))
	wantEqual(t, "the first session", env.messages(a, one.ID), "user: 0", "user: 3", "user: 4")
}
