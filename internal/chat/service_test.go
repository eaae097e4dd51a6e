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
	"agento.host/agento/internal/openclaw"
)

func TestATurnIsRecordedOnBothSides(t *testing.T) {
	w := newWorld(t)
	a := w.create("ada")
	turn := w.prepare(a, client.ChatRequest{Message: "Hello", PeerID: "alice", Context: map[string]any{"plan": "Pro"}})
	var pieces []string
	w.must(w.Run(w.patient(), turn, func(piece string) error {
		pieces = append(pieces, piece)
		return nil
	}))
	wants(t, "what came", pieces, "You said: ", "Hello")
	wants(t, "the record", w.recorded(a, turn.session.ID), "user: Hello", "assistant: You said: Hello")
	wants(t, "what the gateway was asked", w.gateways.all(), asked{"openclaw/guest", turn.session.GatewayKey, "plan: Pro", "Hello"})
	if got := w.say(a, "", "Me too"); got != "You said: Me too" {
		t.Errorf("the owner is answered %q", got)
	}
	wants(t, "all of it", w.recorded(a, ""), "user: Hello", "assistant: You said: Hello", "user: Me too", "assistant: You said: Me too")
	wants(t, "the peer's", w.recorded(a, turn.session.ID), "user: Hello", "assistant: You said: Hello")
}

// However a turn ends, the gateway's run ends with it, what was said until then is
// kept, and nothing is left of its draft.
func TestATurnThatIsCutShortIsKept(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(w *world, agentID string, leave func(), pieces chan string)
		want func(error) bool
		emit error
	}{
		"emit fails":       {func(_ *world, _ string, _ func(), pieces chan string) { pieces <- "lost" }, func(err error) bool { return errors.Is(err, errGone) }, errGone},
		"the client goes":  {func(_ *world, _ string, leave func(), _ chan string) { leave() }, func(err error) bool { return errors.Is(err, context.Canceled) }, nil},
		"the model fails":  {func(_ *world, _ string, _ func(), pieces chan string) { pieces <- failing + "On fire."; close(pieces) }, func(err error) bool { return fault.Is(err, fault.Upstream) }, nil},
		"the gateway dies": {func(w *world, id string, _ func(), _ chan string) { w.driver.Kill(id, 137) }, func(err error) bool { return fault.Is(err, fault.Unavailable) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorldOf(t, time.Millisecond)
			a := w.create("ada")
			script, pieces := dictated()
			ended := make(chan struct{})
			w.gateways.answer(func(ctx context.Context, a asked, say func(string) error) {
				defer close(ended)
				script(ctx, a, say)
			})
			ctx, leave := context.WithCancel(w.patient())
			heard, out := make(chan string), make(chan error, 1)
			turn := w.prepare(a, client.ChatRequest{Message: "Hello"})
			go func() {
				out <- w.Run(ctx, turn, func(piece string) error {
					if piece == "lost" {
						return c.emit
					}
					heard <- piece
					return nil
				})
			}()
			pieces <- "I was about "
			<-heard
			w.saved("I was about ")
			pieces <- "to "
			<-heard
			c.end(w, string(a.ID), leave, pieces)
			if err := <-out; !c.want(err) {
				t.Errorf("the turn ended with %v", err)
			}
			leave()
			<-ended
			want := "assistant: I was about to "
			if c.emit != nil {
				want += "lost" // the agent said it
			}
			wants(t, "the record", w.recorded(a, ""), "user: Hello", want)
			wants(t, "drafts", w.drafts())
			if strings.Contains(w.log.String(), "level=ERROR") {
				t.Errorf("the log:\n%s", w.log)
			}
		})
	}
}

func TestMessagesOfASessionAreAnsweredInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a := w.create("ada")
		script, pieces := dictated()
		w.gateways.answer(script)
		var ends []<-chan error
		for _, message := range []string{"one", "two", "three"} {
			ends = append(ends, w.begin(t.Context(), w.prepare(a, client.ChatRequest{Message: message})))
			synctest.Wait()
		}
		impatient, leave := context.WithCancel(t.Context())
		gone := w.begin(impatient, w.prepare(a, client.ChatRequest{Message: "never mind"}))
		ends = append(ends, w.begin(t.Context(), w.prepare(a, client.ChatRequest{Message: "aside", PeerID: "p"})))
		synctest.Wait()
		wants(t, "what waits is recorded when its turn comes", w.recorded(a, ""), "user: one", "user: aside")
		leave()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("whoever did not wait got %v", err)
		}
		close(pieces)
		for _, end := range ends {
			w.must(<-end)
		}
		var order []string
		for _, asked := range w.gateways.all() {
			order = append(order, asked.Message)
		}
		wants(t, "the gateway was asked", order, "one", "aside", "two", "three")
		synctest.Wait() // who gave up has left the line, too
		if n := len(w.lanes.last); n != 0 {
			t.Errorf("%d lanes are left", n)
		}
	})
}

// An agent may be deleted in the middle of a word: nothing of it stays, and it is
// no failure.
func TestAnAgentDeletedInTheMiddleOfATurn(t *testing.T) {
	w := newWorldOf(t, time.Millisecond)
	a := w.create("ada")
	w.say(a, "alice", "Hello")
	script, pieces := dictated()
	w.gateways.answer(script)
	turn := w.begin(w.patient(), w.prepare(a, client.ChatRequest{Message: "Hello"}))
	pieces <- "I was "
	w.saved("I was ")
	asked, err := w.Agents.Delete(t.Context(), w.actor(), a.ID)
	w.must(err)
	w.must(w.Agents.AwaitDeleted(w.patient(), asked))
	if err := <-turn; err == nil {
		t.Error("the turn of a deleted agent went well")
	}
	for _, table := range []string{"messages", "sessions", "drafts"} {
		if n, err := database.One(t.Context(), w.DB, database.Scalar[int], `SELECT count(*) FROM `+table); err != nil || n != 0 {
			t.Errorf("%d %s are left, %v", n, table, err)
		}
	}
	if strings.Contains(w.log.String(), "level=ERROR") {
		t.Errorf("the log:\n%s", w.log)
	}
}

func TestModelCallsAreSplitByWhoSpeaks(t *testing.T) {
	w := newWorld(t)
	a := w.create("ada")
	script, pieces := dictated()
	w.gateways.answer(script)
	alice := w.prepare(a, client.ChatRequest{Message: "Hello", PeerID: "alice"})
	turn := w.begin(w.patient(), alice)
	pieces <- "Hello"
	for _, c := range []struct{ key, peer, session string }{
		{alice.session.GatewayKey, "alice", alice.session.ID},
		{openclaw.SessionKey(openclaw.Guest, "bob", "sess_b"), openclaw.PeerTag("bob"), "sess_b"},
		{openclaw.SessionKey(openclaw.Main, "", "sess_c"), "", "sess_c"},
		{"agent:guest:telegram:direct:42", "42", ""},
		{"agent:main:main", "", "agent:main:main"},
		{"", "", ""},
	} {
		if peer, session := w.Split(c.key); peer != c.peer || session != c.session {
			t.Errorf("%q belongs to peer %q and session %q, want %q and %q", c.key, peer, session, c.peer, c.session)
		}
	}
	close(pieces)
	w.must(<-turn)
	if peer, _ := w.Split(alice.session.GatewayKey); peer != openclaw.PeerTag("alice") {
		t.Errorf("after the turn the peer is %q", peer)
	}
}
