package chat

import (
	"fmt"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
)

func TestHistory(t *testing.T) {
	w := newWorld(t)
	a, b := w.create("ada"), w.create("bob")
	alice := w.prepare(a, client.ChatRequest{Message: "m", PeerID: "alice"}).session
	bob := w.prepare(a, client.ChatRequest{Message: "m", PeerID: "bob"}).session
	elsewhere := w.prepare(b, client.ChatRequest{Message: "m"}).session
	start := time.UnixMilli(1_700_000_000_000).UTC()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	w.must(w.DB.Tx(t.Context(), func(tx *database.Tx) error {
		for _, m := range []struct {
			session Session
			text    string
			at      int
		}{
			{alice, "a1", 0}, {alice, "a2", 10}, {bob, "b1", 10}, // at once: in the order in which they came
			{elsewhere, "other", 15},
			{alice, "a4", 30}, {alice, "a3", 20}, // one that came late by a channel
		} {
			if _, err := add(t.Context(), tx, m.session, Message{Role: "user", Content: m.text, At: at(m.at)}, ""); err != nil {
				return err
			}
		}
		return nil
	}))
	for name, c := range map[string]struct {
		session string
		since   time.Time
		limit   int
		want    []string
		total   int
	}{
		"all":             {"", time.Time{}, 200, []string{"a1", "a2", "b1", "a3", "a4"}, 5},
		"one session":     {alice.ID, time.Time{}, 200, []string{"a1", "a2", "a3", "a4"}, 4},
		"the last":        {"", time.Time{}, 2, []string{"a3", "a4"}, 5},
		"the very last":   {alice.ID, time.Time{}, 1, []string{"a4"}, 4},
		"since":           {"", at(10), 200, []string{"a3", "a4"}, 2},
		"just before":     {"", at(9), 200, []string{"a2", "b1", "a3", "a4"}, 4},
		"since, the last": {alice.ID, at(0), 2, []string{"a3", "a4"}, 3},
		"since the end":   {"", at(30), 200, []string{}, 0},
	} {
		got, total, err := w.History(t.Context(), w.who, string(a.ID), c.session, c.since, c.limit)
		w.must(err)
		var texts []string
		for _, m := range got {
			texts = append(texts, m.Content)
		}
		wants(t, name, texts, c.want...)
		if total != c.total {
			t.Errorf("%s: a total of %d, want %d", name, total, c.total)
		}
	}
	w.stop(a)
	if got := w.recorded(a, alice.ID); len(got) != 4 {
		t.Errorf("of a stopped agent: %v", got)
	}
}

// Of one origin there is one message a session; those without one are all kept.
func TestAnOriginIsAddedOnce(t *testing.T) {
	w := newWorld(t)
	a := w.create("ada")
	one := w.prepare(a, client.ChatRequest{Message: "m", PeerID: "1"}).session
	two := w.prepare(a, client.ChatRequest{Message: "m", PeerID: "2"}).session
	w.must(w.DB.Tx(t.Context(), func(tx *database.Tx) error {
		for i, c := range []struct {
			session Session
			origin  string
			added   bool
		}{{one, "x", true}, {one, "x", false}, {two, "x", true}, {one, "", true}, {one, "", true}} {
			added, err := add(t.Context(), tx, c.session, Message{Role: "user", Content: fmt.Sprint(i), At: time.Now()}, c.origin)
			if err != nil || added != c.added {
				t.Errorf("%d: added %v, %v", i, added, err)
			}
		}
		return nil
	}))
	wants(t, "the first session", w.recorded(a, one.ID), "user: 0", "user: 3", "user: 4")
}
