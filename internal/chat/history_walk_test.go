package chat

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// fill adds messages of a channel to a session, whose texts are the numbers from first on.
func (env *testEnv) fill(v Session, first, n int) {
	env.t.Helper()
	env.must(env.db.Tx(env.t.Context(), "chat.test", func(ctx context.Context, tx *database.Tx) error {
		for i := first; i < first+n; i++ {
			if _, err := env.insertMessage(tx, v, Message{Role: "user", Content: fmt.Sprint(i), At: time.UnixMilli(int64(1_000_000 - i))}, ""); err != nil {
				return err
			}
		}
		return nil
	}))
}

// control lets the test write the answer to one message; others have the usual one.
func (env *testEnv) control(message string) chan string {
	script, pieces := controlledScript()
	others := newFakeGateways().script
	env.gateways.setScript(func(ctx context.Context, r receivedTurn, emit func(string) error) {
		if r.Message == message {
			script(ctx, r, emit)
		} else {
			others(ctx, r, emit)
		}
	})
	return pieces
}

// page returns a page of the history.
func (env *testEnv) page(a agent.Agent, query HistoryQuery) HistoryPage {
	env.t.Helper()
	page, err := env.History(env.t.Context(), env.caller, a.ID, query)
	env.must(err)
	return page
}

// TestWalkThroughTheHistory: a walk over 5,000 messages in either direction, while turns of
// several sessions start and end, has each message that was there at its beginning exactly
// once; a walk forward has those that come meanwhile, too.
func TestWalkThroughTheHistory(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	filled := env.session(a, client.ChatRequest{Message: "m", PeerID: "filled"})
	env.fill(filled, 0, 5000)
	pieces := env.control("slow")
	slow := env.begin(a, client.ChatRequest{Message: "slow", PeerID: "slow"}) // its answer comes after others

	before := []identity.MessageID{}
	for _, m := range env.page(a, HistoryQuery{Limit: 10_000}).Messages {
		before = append(before, m.ID)
	}
	write := func(i int) { env.send(a, fmt.Sprint("peer ", i%3), fmt.Sprint("message ", i)) }
	end := func() {
		pieces <- "the slow answer"
		close(pieces)
		if _, err := env.read(env.timeout(), slow, 0); err != nil {
			t.Error(err)
		}
	}
	backward := []identity.MessageID{}
	for query := (HistoryQuery{Limit: 200}); ; {
		page := env.page(a, query)
		for _, m := range slices.Backward(page.Messages) {
			backward = append(backward, m.ID)
		}
		if !page.HasMore {
			break
		}
		query.Before = page.Messages[0].ID
		write(len(backward))
	}
	slices.Reverse(backward)
	wantEqual(t, "the walk backward", backward, before...)

	forward := map[identity.MessageID]string{}
	writes := 0
	for query := (HistoryQuery{Limit: 200, After: HistoryStart}); ; {
		page := env.page(a, query)
		for _, m := range page.Messages {
			if text, ok := forward[m.ID]; ok {
				t.Errorf("%s is repeated: %q and %q", m.ID, text, m.Content)
			}
			forward[m.ID] = m.Content
			query.After = m.ID
		}
		switch {
		case writes < 10:
			write(writes)
		case writes == 10:
			end()
		case !page.HasMore:
			all := env.page(a, HistoryQuery{Limit: 10_000}).Messages
			if len(all) != len(forward) {
				t.Errorf("the walk forward has %d of %d messages", len(forward), len(all))
			}
			for _, m := range all {
				if text, ok := forward[m.ID]; !ok || text != m.Content {
					t.Errorf("the walk forward has %q of %+v", text, m)
				}
			}
			return
		}
		writes++
	}
}

// TestMessageOfARunningTurnKeepsItsPlace: before the messages that came while it was
// answered.
func TestMessageOfARunningTurnKeepsItsPlace(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	pieces := env.control("slow")
	turn := env.begin(a, client.ChatRequest{Message: "slow", PeerID: "alice"})
	running := env.page(a, HistoryQuery{Limit: 10}).Messages
	env.send(a, "bob", "fast")
	pieces <- "at last"
	close(pieces)
	_, err := env.read(env.timeout(), turn, 0)
	env.must(err)
	wantEqual(t, "the history", env.messages(a, ""), "user: slow", "user: fast", "assistant: You said: fast", "assistant: at last")
	ended := env.page(a, HistoryQuery{Limit: 10}).Messages
	if len(running) != 1 || running[0] != ended[0] {
		t.Errorf("the message was %+v and is %+v", running, ended[0])
	}
	after := env.page(a, HistoryQuery{After: running[0].ID, Limit: 10})
	if len(after.Messages) != 3 || after.HasMore || after.Total != 4 {
		t.Errorf("after the message: %+v", after)
	}
}

// TestHistoryPages: offsets count from the newest, cursors are exclusive, and a page has
// whose its messages are.
func TestHistoryPages(t *testing.T) {
	env := newTestEnv(t)
	a, other := env.createAgent("ada"), env.createAgent("bob")
	alice := env.session(a, client.ChatRequest{Message: "m", PeerID: "alice"})
	bob := env.session(a, client.ChatRequest{Message: "m", PeerID: "bob"})
	env.fill(alice, 0, 5)
	env.fill(bob, 5, 2)
	all := env.page(a, HistoryQuery{Limit: 10}).Messages
	if m := all[0]; m.SessionID != alice.ID || m.PeerID != "alice" || m.Channel != "api" || m.ID == "" {
		t.Errorf("the first message: %+v", m)
	}
	for name, c := range map[string]struct {
		query HistoryQuery
		want  string
		total int
		more  bool
	}{
		"the newest":             {HistoryQuery{Limit: 2}, "[5 6]", 7, true},
		"an offset":              {HistoryQuery{Limit: 2, Offset: 2}, "[3 4]", 7, true},
		"the last page":          {HistoryQuery{Limit: 2, Offset: 6}, "[0]", 7, false},
		"beyond the last page":   {HistoryQuery{Limit: 2, Offset: 7}, "[]", 7, false},
		"before":                 {HistoryQuery{Limit: 2, Before: all[3].ID}, "[1 2]", 7, true},
		"before, the last":       {HistoryQuery{Limit: 2, Before: all[2].ID}, "[0 1]", 7, false},
		"before the first":       {HistoryQuery{Limit: 2, Before: all[0].ID}, "[]", 7, false},
		"after":                  {HistoryQuery{Limit: 2, After: all[3].ID}, "[4 5]", 7, true},
		"after, the last":        {HistoryQuery{Limit: 2, After: all[4].ID}, "[5 6]", 7, false},
		"after the last":         {HistoryQuery{Limit: 2, After: all[6].ID}, "[]", 7, false},
		"from the start":         {HistoryQuery{Limit: 2, After: HistoryStart}, "[0 1]", 7, true},
		"of a peer":              {HistoryQuery{Limit: 2, Peer: "alice"}, "[3 4]", 5, true},
		"of a peer, by a cursor": {HistoryQuery{Limit: 9, Peer: "bob", After: all[1].ID}, "[5 6]", 2, false},
		"of nobody":              {HistoryQuery{Limit: 9, Peer: "carol"}, "[]", 0, false},
		"since":                  {HistoryQuery{Limit: 2, Since: all[4].At}, "[2 3]", 4, true},
	} {
		page := env.page(a, c.query)
		texts := []string{}
		for _, m := range page.Messages {
			texts = append(texts, m.Content)
		}
		if got := fmt.Sprint(texts); got != c.want || page.Total != c.total || page.HasMore != c.more {
			t.Errorf("%s: %s of %d, more: %v; want %s of %d, more: %v", name, got, page.Total, page.HasMore, c.want, c.total, c.more)
		}
	}
	owners := env.session(a, client.ChatRequest{Message: "m"})
	guest := env.caller
	guest.Owner = false
	for name, c := range map[string]struct {
		caller Caller
		agent  agent.Agent
		query  HistoryQuery
	}{
		"no id":                       {env.caller, a, HistoryQuery{Before: "5"}},
		"no number":                   {env.caller, a, HistoryQuery{Before: "msg_x_y"}},
		"another form of the number":  {env.caller, a, HistoryQuery{Before: newMessageID(alice.ID, 1)[:len(newMessageID(alice.ID, 1))-1] + "01"}},
		"an unknown session":          {env.caller, a, HistoryQuery{After: "msg_none_1"}},
		"a message of another agent":  {env.caller, other, HistoryQuery{After: all[0].ID}},
		"the owner's, as a guest":     {guest, a, HistoryQuery{After: newMessageID(owners.ID, 1)}},
		"before the start":            {env.caller, a, HistoryQuery{Before: HistoryStart}},
		"two cursors":                 {env.caller, a, HistoryQuery{Before: all[3].ID, After: all[0].ID}},
		"an offset beside a cursor":   {env.caller, a, HistoryQuery{Before: all[3].ID, Offset: 1}},
		"an offset beside the start":  {env.caller, a, HistoryQuery{After: HistoryStart, Offset: 1}},
		"a peer with a NUL character": {env.caller, a, HistoryQuery{Peer: "a\x00"}},
	} {
		c.query.Limit = 10
		if page, err := env.History(t.Context(), c.caller, c.agent.ID, c.query); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %+v, %v", name, page, err)
		}
	}
}

// TestSessionsSayWhatIsInThem: names, numbers of messages and the time of the last, also
// while a turn runs.
func TestSessionsSayWhatIsInThem(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	find := func(id identity.SessionID) Session {
		t.Helper()
		v, err := env.FindSession(t.Context(), env.caller, a.ID, id)
		env.must(err)
		return v
	}
	empty, err := env.NewSession(t.Context(), env.caller, a.ID, "alice", "")
	env.must(err)
	if v := find(empty.ID); v.Name != "" || v.MessageCount != 0 || !v.LastMessageAt.IsZero() {
		t.Errorf("a new session: %+v", v)
	}
	const first = "  My printer\nis on fire. "
	pieces := env.control(first)
	turn := env.begin(a, client.ChatRequest{Message: first, PeerID: "alice"})
	if v := find(turn.SessionID); v.ID != empty.ID || v.Name != "My printer is on fire." || v.MessageCount != 1 || !v.LastMessageAt.Equal(turn.StartedAt) {
		t.Errorf("while the first turn runs: %+v", v)
	}
	pieces <- "Run!"
	close(pieces)
	_, err = env.read(env.timeout(), turn, 0)
	env.must(err)
	env.send(a, "alice", "And now?")
	messages := env.page(a, HistoryQuery{Limit: 10}).Messages
	v := find(empty.ID)
	if v.Name != "My printer is on fire." || v.MessageCount != 4 || !v.LastMessageAt.Equal(messages[3].At) {
		t.Errorf("after two turns: %+v", v)
	}
	listed, _, err := env.Sessions(t.Context(), env.caller, a.ID, SessionQuery{Limit: 10})
	if err != nil || len(listed) != 1 || listed[0] != v {
		t.Errorf("it is listed as %+v, %v", listed, err)
	}

	named, err := env.RenameSession(t.Context(), env.caller, a.ID, v.ID, "Printers")
	if err != nil || named.Name != "Printers" || find(v.ID) != named {
		t.Errorf("renamed: %+v, %v", named, err)
	}
	env.send(a, "alice", "Hello?")
	if v := find(v.ID); v.Name != "Printers" {
		t.Errorf("after the next turn the name is %q", v.Name)
	}
	if v, err := env.RenameSession(t.Context(), env.caller, a.ID, v.ID, ""); err != nil || v.Name != "My printer is on fire." {
		t.Errorf("without its name: %+v, %v", v, err)
	}
	fresh, err := env.NewSession(t.Context(), env.caller, a.ID, "alice", "Second")
	env.must(err)
	if find(fresh.ID).Name != "Second" || fresh.Name != "Second" {
		t.Errorf("a new session with a name: %+v", fresh)
	}
	actors, err := database.All(t.Context(), env.db, database.Scalar[string], `SELECT actor FROM events WHERE kind = 'session.renamed'`)
	env.must(err)
	wantEqual(t, "the actors in the audit log", actors, "key_1", "key_1")
	for _, name := range []string{" ", "a\nb", string(make([]byte, 101))} {
		if _, err := env.RenameSession(t.Context(), env.caller, a.ID, v.ID, name); !fault.Is(err, fault.Invalid) {
			t.Errorf("the name %q: %v", name, err)
		}
	}
	if _, err := env.RenameSession(t.Context(), env.caller, a.ID, "sess_none", "N"); !fault.Is(err, fault.NotFound) {
		t.Errorf("an unknown session: %v", err)
	}
	owners := env.session(a, client.ChatRequest{Message: "m"})
	guest := env.caller
	guest.Owner = false
	if _, err := env.RenameSession(t.Context(), guest, a.ID, owners.ID, "N"); !fault.Is(err, fault.NotFound) {
		t.Errorf("the owner's session, as a guest: %v", err)
	}
}

// TestRefusedMessageLeavesNoName: the next message that is not refused gives it.
func TestRefusedMessageLeavesNoName(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	v, err := env.NewSession(t.Context(), env.caller, a.ID, "alice", "")
	env.must(err)
	turn := Turn{ID: newTurnID(), AccountID: a.AccountID, AgentID: a.ID, SessionID: v.ID}
	env.must(env.db.Tx(t.Context(), "chat.test", func(ctx context.Context, tx *database.Tx) error {
		if err := env.setTitle(ctx, tx, v, turn, "refused"); err != nil {
			return err
		}
		_, err := env.storeMessages(ctx, tx, turn.ended(Failed, stopError, 0, now()), "", now())
		return err
	}))
	env.send(a, "alice", "accepted")
	got, err := env.FindSession(t.Context(), env.caller, a.ID, v.ID)
	if err != nil || got.Name != "accepted" {
		t.Errorf("the session is %+v, %v", got, err)
	}
}

func TestTitle(t *testing.T) {
	long := "This is a message whose first line is much longer than a name in a list of sessions should be."
	for message, want := range map[string]string{
		"Hello":                               "Hello",
		"\n Hello,\t\r\nyou\u00a0 there \x07": "Hello, you there",
		long:                                  "This is a message whose first line is much longer than a name in a list of…",
		"日本語":                                 "日本語",
		strings.Repeat("字", 81):               strings.Repeat("字", 79) + "…",
		strings.Repeat("字", 80):               strings.Repeat("字", 80),
		strings.Repeat("e\u0301", 41):         strings.Repeat("e\u0301", 39) + "…",
		strings.Repeat("x", 78) + "\U0001F469\u200d\U0001F4BB and more": strings.Repeat("x", 78) + "…",
	} {
		if got := titleOf(message); got != want {
			t.Errorf("the title of %q is %q, want %q", message, got, want)
		}
	}
}
