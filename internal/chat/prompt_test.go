package chat

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
)

// prompt starts a prompt whose request is its message.
func (env *testEnv) prompt(a agent.Agent, p Prompt) *Reading {
	env.t.Helper()
	if p.Request == nil {
		p.Request = []byte(p.Message)
	}
	r, err := env.StartPrompt(env.timeout(), env.caller, a.ID, p)
	env.must(err)
	return r
}

// ask runs the turn of a prompt and returns its answer.
func (env *testEnv) ask(a agent.Agent, p Prompt) string {
	env.t.Helper()
	r := env.prompt(a, p)
	text, err := env.read(env.timeout(), r.Turn, 0)
	env.must(err)
	r.Leave(false)
	return text
}

func past(texts ...string) []Said {
	var all []Said
	for i, text := range texts {
		all = append(all, Said{Role: []string{openclaw.RoleUser, openclaw.RoleAssistant}[i%2], Text: text})
	}
	return all
}

// receivedMessages returns the messages that the gateways got.
func (env *testEnv) receivedMessages() []string {
	var all []string
	for _, r := range env.gateways.received() {
		all = append(all, r.Message)
	}
	return all
}

func TestNamedConversationSaysEachTextOnce(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	env.ask(a, Prompt{Conversation: "c1", System: "be brief", Message: "one"})
	env.ask(a, Prompt{Conversation: "c1", System: "be brief", Past: past("one", "You said: one"), Message: "two"})
	env.ask(a, Prompt{Conversation: "c1", Past: past("one", "x", "two", "You said: two"), Message: "three"})
	env.ask(a, Prompt{Conversation: "c1", Message: "four, without a past"})
	env.ask(a, Prompt{Conversation: "c1", Past: past("three", "y", " four, without a past\n", "z"), Message: "five, with the end of the past"})
	wantEqual(t, "messages", env.receivedMessages(), "one", "two", "three", "four, without a past", "five, with the end of the past")
	got := env.gateways.received()
	for _, r := range got {
		if r.Session != got[0].Session || r.Entry != "openclaw/main" {
			t.Errorf("%+v is in another session than %s", r, got[0].Session)
		}
	}
	if got[0].Context != "be brief" || got[2].Context != "" {
		t.Errorf("contexts %q, %q", got[0].Context, got[2].Context)
	}
	sessions, _, err := env.Sessions(env.timeout(), env.caller, a.ID, SessionQuery{Limit: 10})
	env.must(err)
	if len(sessions) != 1 || sessions[0].Name != "one" || sessions[0].MessageCount != 10 {
		t.Errorf("sessions %+v", sessions)
	}
	if other := env.begin(a, client.ChatRequest{Message: "native"}); other.SessionID == sessions[0].ID {
		t.Error("a message without a session went to a named conversation")
	}
}

// TestAnotherPastIsABranch: the agent hears it in a new session, once.
func TestAnotherPastIsABranch(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	env.ask(a, Prompt{Conversation: "c1", Past: past("said elsewhere", "answer\nof two lines"), Message: "one"})
	env.ask(a, Prompt{Conversation: "c1", Past: past("said elsewhere", "x", "one", "y"), Message: "two"}) // the first one is in no message of the session
	env.ask(a, Prompt{Conversation: "c1", Past: past("edited", "y"), Message: "three"})
	env.ask(a, Prompt{Conversation: "c1", Past: past("three", "z"), Message: "four"})
	first := pastBegins + "\nUser: said elsewhere\nYou: answer\n  of two lines\n" + pastEnds + "\n\none"
	messages := env.receivedMessages()
	if messages[0] != first {
		t.Errorf("the past is told as %q", messages[0])
	}
	if !strings.HasSuffix(messages[1], "\n\ntwo") || !strings.Contains(messages[1], "User: one\n") || !strings.Contains(messages[2], "User: edited\n") || messages[3] != "four" {
		t.Errorf("messages %q", messages)
	}
	got := env.gateways.received()
	if got[1].Session == got[0].Session || got[2].Session == got[1].Session || got[3].Session != got[2].Session {
		t.Errorf("sessions %s, %s, %s, %s", got[0].Session, got[1].Session, got[2].Session, got[3].Session)
	}
	// The history has what was said now, not the past.
	wantEqual(t, "history", env.messages(a, ""), "user: one", "assistant: You said: "+first, "user: two", "assistant: You said: "+messages[1],
		"user: three", "assistant: You said: "+messages[2], "user: four", "assistant: You said: four")
}

// TestPromptsOfOneConversationWaitForEachOther, and the message that is being answered is a past.
func TestPromptsOfOneConversationWaitForEachOther(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	script, pieces := controlledScripts("one", "two")
	env.gateways.setScript(script)
	first := env.prompt(a, Prompt{Conversation: "c1", Message: "one"})
	second := env.prompt(a, Prompt{Conversation: "c1", Past: past("one"), Message: "two"})
	if second.Turn.State != Queued || second.Turn.SessionID != first.Turn.SessionID {
		t.Errorf("the second is %s in %s", second.Turn.State, second.Turn.SessionID)
	}
	close(pieces[0])
	close(pieces[1])
	for _, r := range []*Reading{first, second} {
		if _, err := env.read(env.timeout(), r.Turn, 0); err != nil {
			t.Error(err)
		}
		r.Leave(false)
	}
}

// TestConversationsOfOthersHaveOtherSessions, whatever their names are.
func TestConversationsOfOthersHaveOtherSessions(t *testing.T) {
	env := newTestEnv(t)
	a, b := env.createAgent("ada"), env.createAgent("bob")
	other := byOwner(identity.ByKey(account, "key_2"))
	sessions := map[identity.SessionID]bool{}
	for _, c := range []struct {
		caller Caller
		agent  agent.Agent
		p      Prompt
	}{
		{env.caller, a, Prompt{Conversation: "same"}}, {other, a, Prompt{Conversation: "same"}}, {env.caller, b, Prompt{Conversation: "same"}},
		{env.caller, a, Prompt{Conversation: "same", PeerID: "u1"}}, {env.caller, a, Prompt{Conversation: "same", PeerID: "u2"}}, {other, a, Prompt{Conversation: "same", PeerID: "u1"}},
		{env.caller, a, Prompt{PeerID: "u1"}}, {env.caller, a, Prompt{PeerID: "same"}},
	} {
		c.p.Message, c.p.Request = "hello", []byte("same")
		r, err := env.StartPrompt(env.timeout(), c.caller, c.agent.ID, c.p)
		env.must(err)
		if sessions[r.Turn.SessionID] {
			t.Errorf("%+v has the session of another one", c.p)
		}
		sessions[r.Turn.SessionID] = true
		_, err = env.read(env.timeout(), r.Turn, 0)
		env.must(err)
		r.Leave(false)
	}
	// A peer without a name has its default session.
	if turn := env.begin(a, client.ChatRequest{Message: "again", PeerID: "same"}); !sessions[turn.SessionID] {
		t.Error("the peer has another default session")
	}
}

// TestOneShotTurnLeavesNothing but its kept answer, which no list has.
func TestOneShotTurnLeavesNothing(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	script, pieces := controlledScript()
	env.gateways.setScript(script)
	image := "data:image/png;base64,cGx1bQ=="
	p := Prompt{System: "context-plum", Past: []Said{{Role: "user", Text: "name-plum", Images: []string{image}}, {Role: "assistant", Text: "noted-plum"}}, Message: "ask-plum", Images: []string{image}, Request: []byte("r"), Repeats: true}
	r := env.prompt(a, p)
	pieces <- "answer-plum"
	env.waitForStored(r.Turn, "answer-plum")
	nothing := func(when string) {
		t.Helper()
		sessions, n, err := env.Sessions(env.timeout(), env.caller, a.ID, SessionQuery{Limit: 10})
		if err != nil || n != 0 || len(sessions) > 0 {
			t.Errorf("%s: sessions %v, %d, %v", when, sessions, n, err)
		}
		turns, n, err := env.Turns(env.timeout(), env.caller, a.ID, TurnQuery{Limit: 10})
		if err != nil || n != 0 || len(turns) > 0 {
			t.Errorf("%s: turns %v, %d, %v", when, turns, n, err)
		}
		wantEqual(t, when+": history", env.messages(a, ""))
		if _, _, err := env.FindTurn(env.timeout(), env.caller, a.ID, r.Turn.ID); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: the turn is found: %v", when, err)
		}
		if _, err := env.Cancel(env.timeout(), env.caller, a.ID, r.Turn.ID); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: the turn can be cancelled: %v", when, err)
		}
		if _, err := env.FindSession(env.timeout(), env.caller, a.ID, r.Turn.SessionID); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: the session is found: %v", when, err)
		}
		if n, err := env.ExportSessions(env.timeout(), env.caller, a.ID, func(v ArchivedSession) error { t.Errorf("%s: exports %+v", when, v); return nil }); n != 0 || err != nil {
			t.Errorf("%s: export: %d, %v", when, n, err)
		}
		for _, suffix := range []string{"", "-wal"} {
			content, err := os.ReadFile(env.path + suffix)
			env.must(err)
			if bytes.Contains(content, []byte("plum")) || bytes.Contains(content, []byte("cGx1bQ")) {
				t.Errorf("%s: a text is in agento.db%s", when, suffix)
			}
		}
	}
	nothing("while the turn runs")
	close(pieces)
	if text, err := env.read(env.timeout(), r.Turn, 0); err != nil || text != "answer-plum" {
		t.Errorf("answered %q, %v", text, err)
	}
	r.Leave(false)
	nothing("after the turn")
	got := env.gateways.received()[0]
	want := receivedTurn{Entry: "openclaw/guest", Session: openclaw.OneShotKey(openclaw.Guest, string(r.Turn.SessionID)), Context: "context-plum",
		Message: pastBegins + "\nUser: name-plum\nYou: noted-plum\n" + pastEnds + "\n\nask-plum", Images: image + " " + image}
	if got != want {
		t.Errorf("the gateway got %+v, want %+v", got, want)
	}
	wantEqual(t, "deleted sessions", env.gateways.deletedSessions(), want.Session)

	again := env.prompt(a, p)
	if text, err := env.read(env.timeout(), again.Turn, 0); again.Turn.ID != r.Turn.ID || err != nil || text != "answer-plum" {
		t.Errorf("the repetition is turn %s with %q, %v", again.Turn.ID, text, err)
	}
	again.Leave(false)
	env.exec(`UPDATE turns SET ended_at = ended_at - 601000`)
	env.must(env.prunePrompts(env.timeout()))
	for _, table := range []string{"turns", "sessions", "turn_pieces", "turn_requests", "turn_inputs", "messages"} {
		if n, err := database.One(env.timeout(), env.db, database.Scalar[int], `SELECT count(*) FROM `+table); err != nil || n != 0 {
			t.Errorf("after ten minutes, %s has %d rows, %v", table, n, err)
		}
	}
}

func TestChoreHasNoTools(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	env.ask(a, Prompt{Conversation: "c1", PeerID: "u1", Chore: true, Message: "a title please"})
	got := env.gateways.received()[0]
	if got.Entry != "openclaw/task" || !strings.HasPrefix(got.Session, "agent:task:") {
		t.Errorf("got %+v", got)
	}
	wantEqual(t, "history", env.messages(a, ""))
}

// TestCancelledOneShotLeavesNothing, and its session is deleted.
func TestCancelledOneShotLeavesNothing(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	script, pieces := controlledScript()
	env.gateways.setScript(script)
	r := env.prompt(a, Prompt{Message: "one"})
	pieces <- "partial"
	env.waitForStored(r.Turn, "partial")
	r.Leave(true)
	end, err := env.Follow(env.timeout(), r.Turn, 0, func(int64, string) error { return nil })
	if end.State != Cancelled {
		t.Errorf("ended as %s, %v", end.State, err)
	}
	wantEqual(t, "history", env.messages(a, ""))
	waitUntil(t, "the session is deleted", func() bool { return len(env.gateways.deletedSessions()) == 1 })
}

// TestPromptAfterACrash: what ran is interrupted, and its repetition is a new turn.
func TestPromptAfterACrash(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	script, pieces := controlledScript()
	env.gateways.setScript(script)
	p := Prompt{Past: past("a", "b"), Message: "one", Request: []byte("r"), Repeats: true}
	r := env.prompt(a, p)
	pieces <- "partial"
	env.waitForStored(r.Turn, "partial")
	env.crashServer()
	env.startServer()
	wantEqual(t, "history", env.messages(a, ""))
	close(pieces)
	if again := env.prompt(a, p); again.Turn.ID == r.Turn.ID {
		t.Error("the repetition has joined an interrupted turn")
	}
	if n, err := database.One(env.timeout(), env.db, database.Scalar[int], `SELECT count(*) FROM turn_inputs WHERE turn_id = $1`, r.Turn.ID); n != 0 || err != nil {
		t.Errorf("the input of the interrupted turn is still there: %d, %v", n, err)
	}
}

// TestTurnWithoutReadersEndsAfterThreeSeconds, unless an equal request of the same key joins it.
func TestTurnWithoutReadersEndsAfterThreeSeconds(t *testing.T) {
	inSynctest(t, func(t *testing.T, env *testEnv) {
		a := env.createAgent("ada")
		env.gateways.setScript(func(ctx context.Context, _ receivedTurn, emit func(string) error) {
			_ = emit("part ")
			select {
			case <-time.After(time.Minute):
				_ = emit("end")
			case <-ctx.Done():
			}
		})
		p := Prompt{Conversation: "c1", Message: "one", Request: []byte("r")}
		r := env.prompt(a, p)
		if other := env.prompt(a, p); other.Turn.ID == r.Turn.ID {
			t.Error("a request without a word of repetition joined a turn that is read")
		} else {
			_, err := env.Service.cancel(env.timeout(), other.Turn)
			env.must(err)
			other.Leave(false)
		}
		r.Leave(true)
		time.Sleep(2900 * time.Millisecond)
		otherKey := byOwner(identity.ByKey(account, "key_2"))
		foreign, err := env.StartPrompt(env.timeout(), otherKey, a.ID, p)
		if err != nil || foreign.Turn.ID == r.Turn.ID {
			t.Errorf("another key has joined: %v", err)
		}
		_, err = env.Service.cancel(env.timeout(), foreign.Turn)
		env.must(err)
		foreign.Leave(false)
		again := env.prompt(a, p)
		if again.Turn.ID != r.Turn.ID {
			t.Fatal("an equal request has not joined the turn")
		}
		time.Sleep(10 * time.Second) // the turn goes on
		if found, _ := env.find(r.Turn); found.State != Running {
			t.Errorf("the turn is %s although it is read", found.State)
		}
		again.Leave(true)
		time.Sleep(4 * time.Second)
		found, text := env.find(r.Turn)
		if found.State != Cancelled || text != "part " {
			t.Errorf("the turn is %s with %q", found.State, text)
		}
		late := env.prompt(a, Prompt{Conversation: "c1", Message: "one", Request: []byte("r"), Repeats: true})
		if late.Turn.ID == r.Turn.ID {
			t.Error("a repetition has joined a cancelled turn")
		}
		late.Leave(false)
	})
}

// TestRepetitionBeforeTheConnectionIsClosed: the new request of a client that has given up comes
// before the end of its connection.
func TestRepetitionBeforeTheConnectionIsClosed(t *testing.T) {
	inSynctest(t, func(t *testing.T, env *testEnv) {
		a := env.createAgent("ada")
		p := Prompt{Conversation: "c1", Message: "one", Request: []byte("r")}
		r := env.prompt(a, p)
		closed := time.AfterFunc(100*time.Millisecond, func() { r.Leave(true) })
		defer closed.Stop()
		again := env.prompt(a, p)
		if again.Turn.ID != r.Turn.ID {
			t.Error("the repetition has not joined the turn")
		}
		again.Leave(false)
	})
}

// TestTurnThatEndsWithoutReadersIsJoined for three seconds: nobody has got its answer.
func TestTurnThatEndsWithoutReadersIsJoined(t *testing.T) {
	inSynctest(t, func(t *testing.T, env *testEnv) {
		a := env.createAgent("ada")
		p := Prompt{Conversation: "c1", Message: "one", Request: []byte("r")}
		r := env.prompt(a, p)
		r.Leave(true)
		time.Sleep(2900 * time.Millisecond)
		again := env.prompt(a, p)
		text, err := env.read(env.timeout(), again.Turn, 0)
		if again.Turn.ID != r.Turn.ID || text != "You said: one" || err != nil {
			t.Errorf("the repetition is turn %s with %q, %v", again.Turn.ID, text, err)
		}
		again.Leave(true)
		time.Sleep(3100 * time.Millisecond)
		if late := env.prompt(a, p); late.Turn.ID == r.Turn.ID {
			t.Error("a request has joined a turn that is not read any more")
		} else {
			_, err := env.read(env.timeout(), late.Turn, 0)
			env.must(err)
			late.Leave(false)
		}
	})
}

// TestRepetitionsJoin says when a request joins the turn of an equal one.
func TestRepetitionsJoin(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	p := Prompt{Conversation: "c1", Message: "one", Request: []byte("r"), IdempotencyKey: "k1"}
	first := env.prompt(a, p)
	_, err := env.read(env.timeout(), first.Turn, 0)
	env.must(err)
	first.Leave(false)
	for _, c := range []struct {
		name   string
		change func(*Prompt)
		joins  bool
	}{
		{"the same Idempotency-Key", func(*Prompt) {}, true},
		{"a count of retries", func(p *Prompt) { p.IdempotencyKey, p.Repeats = "", true }, true},
		{"neither", func(p *Prompt) { p.IdempotencyKey = "" }, false},
		{"another Idempotency-Key", func(p *Prompt) { p.IdempotencyKey = "k2" }, false},
		{"a count, of another request", func(p *Prompt) { p.IdempotencyKey, p.Repeats, p.Request = "", true, []byte("r2") }, false},
		{"a count, of another peer", func(p *Prompt) { p.Repeats, p.PeerID = true, "u1" }, false},
		{"a count, of another conversation", func(p *Prompt) { p.Repeats, p.Conversation = true, "c2" }, false},
		{"the Idempotency-Key of another peer", func(p *Prompt) { p.PeerID = "u2" }, false},
	} {
		q := p
		c.change(&q)
		r := env.prompt(a, q)
		text, err := env.read(env.timeout(), r.Turn, 0)
		env.must(err)
		r.Leave(false)
		if joined := r.Turn.ID == first.Turn.ID; joined != c.joins || text != "You said: one" {
			t.Errorf("%s: joined %t, %q", c.name, joined, text)
		}
	}
	q := p
	q.Request = []byte("another body")
	if _, err := env.StartPrompt(env.timeout(), env.caller, a.ID, q); !fault.Is(err, fault.KeyReused) {
		t.Errorf("the key of another request: %v", err)
	}
	env.exec(`UPDATE turns SET ended_at = ended_at - 601000`)
	if r := env.prompt(a, p); r.Turn.ID == first.Turn.ID {
		t.Error("a request has joined a turn that ended ten minutes ago")
	}
}

// TestFailedTurnIsNotJoined: a repetition asks the agent again.
func TestFailedTurnIsNotJoined(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	env.gateways.setScript(func(_ context.Context, _ receivedTurn, emit func(string) error) { _ = emit(errorPiece + "overloaded") })
	p := Prompt{Conversation: "c1", Message: "one", Request: []byte("r"), Repeats: true}
	first := env.prompt(a, p)
	if _, err := env.read(env.timeout(), first.Turn, 0); err == nil {
		t.Fatal("the turn did not fail")
	}
	first.Leave(false)
	if r := env.prompt(a, p); r.Turn.ID == first.Turn.ID {
		t.Error("a repetition has joined a failed turn")
	}
}

func TestPromptIsChecked(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	blind := env.createAgent("blind", withModel("gpt-3.5-turbo"))
	long := strings.Repeat("ä", maxMessage)
	for name, c := range map[string]struct {
		agent agent.Agent
		p     Prompt
		field string
	}{
		"no text":             {a, Prompt{Message: " "}, "messages"},
		"a long past":         {a, Prompt{Past: past(long), Message: "x"}, "messages"},
		"a long message":      {a, Prompt{Conversation: "c", Message: long + "x"}, "messages"},
		"a long context":      {a, Prompt{System: long + "x", Message: "x"}, "messages"},
		"NUL":                 {a, Prompt{System: "\x00", Message: "x"}, "messages"},
		"many images":         {a, Prompt{Message: "x", Images: slices.Repeat([]string{"data:"}, MaxImages+1)}, "messages"},
		"large images":        {a, Prompt{Message: "x", Images: []string{strings.Repeat("x", maxImages), "x"}}, "messages"},
		"no eyes":             {blind, Prompt{Message: "x", Images: []string{"data:"}}, "messages"},
		"a blank peer":        {a, Prompt{Message: "x", PeerID: " "}, "peerId"},
		"a long name":         {a, Prompt{Message: "x", Conversation: strings.Repeat("x", maxConversation+1)}, "conversation"},
		"a long key":          {a, Prompt{Message: "x", IdempotencyKey: strings.Repeat("x", maxIdempotencyKey+1)}, "Idempotency-Key"},
		"a past not heard":    {a, Prompt{Conversation: "new", Past: past(long), Message: "x"}, "messages"},
		"a key with controls": {a, Prompt{Message: "x", IdempotencyKey: "a\n"}, "Idempotency-Key"},
	} {
		_, err := env.StartPrompt(env.timeout(), env.caller, c.agent.ID, c.p)
		if f := fault.From(err); f.Code != fault.Invalid || f.Details[c.field] == "" || len(f.Details) != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Of images that were said before, the newest are shown, if the model has eyes.
	seen := []Said{{Role: "user", Text: "[image]", Images: []string{"old", strings.Repeat("x", maxImages), "new"}}}
	env.ask(blind, Prompt{Past: seen, Message: "x"})
	env.ask(a, Prompt{Past: seen, Message: "x", Images: []string{"last"}})
	if got := env.gateways.received(); got[0].Images != "" || got[1].Images != "new last" {
		t.Errorf("images %q and %q", got[0].Images, got[1].Images)
	}
	// What is not said to the agent may be long.
	env.ask(a, Prompt{Conversation: "c1", Message: "one"})
	env.ask(a, Prompt{Conversation: "c1", Past: []Said{{Role: "user", Text: "one"}, {Role: "assistant", Text: long}}, Message: "two"})
	env.ask(a, Prompt{System: long, Message: "with as much context as a message may have"})
}
