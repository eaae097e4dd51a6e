package chat

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
)

// saved waits until these are the drafts.
func (w *world) saved(want ...string) {
	w.t.Helper()
	eventually(w.t, "the drafts "+strings.Join(want, ", "), func() bool { return slices.Equal(w.drafts(), want) })
}

func TestAnAnswerIsSavedWhileItGrows(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a := w.create("ada")
		script, pieces := dictated()
		w.gateways.answer(script)
		turn := w.begin(t.Context(), w.prepare(a, client.ChatRequest{Message: "Hello"}))
		const words, pause = 100, draftEvery / 10
		seen := map[string]bool{}
		for i := range words {
			pieces <- "word "
			time.Sleep(pause)
			synctest.Wait()
			drafts := w.drafts()
			if since := time.Duration(i+1) * pause; since < draftEvery && len(drafts) > 0 {
				t.Fatalf("a turn that would be over after %v has a draft", since)
			}
			for _, d := range drafts {
				seen[d] = true
			}
			wants(t, "the history of a turn that runs", w.recorded(a, ""), "user: Hello")
		}
		if most := int(words * pause / draftEvery); len(seen) < most/2 || len(seen) > most {
			t.Errorf("%d drafts in the time for %d", len(seen), most)
		}
		time.Sleep(2 * draftEvery)
		synctest.Wait()
		answer := strings.Repeat("word ", words)
		wants(t, "the draft of an answer that has not grown for a while", w.drafts(), answer)
		close(pieces)
		w.must(<-turn)
		wants(t, "the history", w.recorded(a, ""), "user: Hello", "assistant: "+answer)
		time.Sleep(2 * draftEvery)
		wants(t, "drafts of a turn that is over", w.drafts())
	})
}

// TestACrashInTheMiddleOfAnAnswer kills servers, over one database and the gateways
// that go on.
func TestACrashInTheMiddleOfAnAnswer(t *testing.T) {
	w := newWorldOf(t, time.Millisecond)
	a, b := w.create("ada"), w.create("bob")
	w.say(a, "", "Hello")
	script, pieces := dictatedTwo("Go on", "You too")
	w.gateways.answer(script)
	mine := w.prepare(a, client.ChatRequest{Message: "Go on"})
	turns := []<-chan error{w.begin(w.patient(), mine), w.begin(w.patient(), w.prepare(b, client.ChatRequest{Message: "You too", PeerID: "p"}))}
	pieces[0] <- "As I "
	pieces[1] <- "Once "
	w.saved("As I ", "Once ")
	pieces[0] <- "was saying"
	w.saved("As I was saying", "Once ")
	at, err := database.One(t.Context(), w.DB, database.Scalar[int64], `SELECT at FROM drafts WHERE session_id = $1`, mine.session.ID)
	w.must(err)
	w.crash()
	for _, turn := range turns {
		if err := <-turn; err == nil {
			t.Error("a turn went well though its server died")
		}
	}

	w.serve()
	want := []string{"user: Hello", "assistant: You said: Hello", "user: Go on", "assistant: As I was saying"}
	wants(t, "the history after the crash", w.recorded(a, ""), want...)
	wants(t, "the other agent's", w.recorded(b, ""), "user: You too", "assistant: Once ")
	said, _, err := w.History(t.Context(), w.who, string(a.ID), mine.session.ID, time.Time{}, 1)
	if err != nil || len(said) != 1 || !said[0].At.Equal(database.Time(at)) {
		t.Errorf("said %v, %v; want the time of the draft, %v", said, err, database.Time(at))
	}
	wants(t, "drafts", w.drafts())
	if !strings.Contains(w.log.String(), "answers=2") {
		t.Errorf("the log does not tell of it:\n%s", w.log)
	}

	w.crash()
	w.serve()
	wants(t, "the history after another start", w.recorded(a, ""), want...)
	w.gateways.answer(newGateways().script)
	w.say(a, "", "And?")
	wants(t, "the history of the next turn", w.recorded(a, mine.session.ID), append(want, "user: And?", "assistant: You said: And?")...)
}

// No draft of a session that went with its agent holds up the others.
func TestADraftOfADeletedSession(t *testing.T) {
	w := newWorldOf(t, time.Millisecond)
	a, b := w.create("ada"), w.create("bob")
	script, pieces := dictatedTwo("one", "two")
	w.gateways.answer(script)
	turns := []<-chan error{w.begin(w.patient(), w.prepare(a, client.ChatRequest{Message: "one"})), w.begin(w.patient(), w.prepare(b, client.ChatRequest{Message: "two"}))}
	for _, says := range pieces {
		says <- "again"
	}
	w.saved("again", "again")
	w.must(w.DB.Tx(t.Context(), func(tx *database.Tx) error { return DeleteAgent(t.Context(), tx, "acct_1", string(a.ID)) }))
	wants(t, "drafts", w.drafts(), "again")
	for _, says := range pieces {
		says <- " and again"
	}
	w.saved("again and again")
	for _, says := range pieces {
		close(says)
	}
	for _, turn := range turns {
		w.must(<-turn)
	}
	wants(t, "drafts after the turns", w.drafts())
	wants(t, "what is left of the deleted one", w.recorded(a, ""))
	wants(t, "the other's history", w.recorded(b, ""), "user: two", "assistant: again and again")
}

// TestDraftsBesideManyTurns saves as often as can be while turns end: no draft comes
// after its turn has ended.
func TestDraftsBesideManyTurns(t *testing.T) {
	w := newWorldOf(t, time.Nanosecond)
	a := w.create("ada")
	var turns sync.WaitGroup
	for peer := range 8 {
		turns.Go(func() {
			for range 5 {
				w.say(a, fmt.Sprint(peer), "Hello")
			}
		})
	}
	turns.Wait()
	wants(t, "drafts", w.drafts())
	n := 0
	for _, line := range w.recorded(a, "") {
		if line == "assistant: You said: Hello" {
			n++
		}
	}
	if n != 40 {
		t.Errorf("%d whole answers of 40", n)
	}
}
