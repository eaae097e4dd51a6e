package chat

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

func TestGrowingAnswerIsSaved(t *testing.T) {
	inSynctest(t, func(t *testing.T, env *testEnv) {
		a := env.createAgent("ada")
		script, pieces := controlledScript()
		env.gateways.setScript(script)
		turn := env.sendAsync(t.Context(), env.prepare(a, client.ChatRequest{Message: "Hello"}))
		const words, pause = 100, defaultDraftInterval / 10
		seen := map[string]bool{}
		for i := range words {
			pieces <- "word "
			time.Sleep(pause)
			synctest.Wait()
			drafts := env.drafts()
			if since := time.Duration(i+1) * pause; since < defaultDraftInterval && len(drafts) > 0 {
				t.Fatalf("a turn of %v has a draft", since)
			}
			for _, d := range drafts {
				seen[d] = true
			}
			wantEqual(t, "the history during the turn", env.messages(a, ""), "user: Hello")
		}
		if most := int(words * pause / defaultDraftInterval); len(seen) < most/2 || len(seen) > most {
			t.Errorf("%d drafts, want about %d", len(seen), most)
		}
		time.Sleep(2 * defaultDraftInterval)
		synctest.Wait()
		answer := strings.Repeat("word ", words)
		wantEqual(t, "the draft of an answer that no longer grows", env.drafts(), answer)
		close(pieces)
		env.must(<-turn)
		wantEqual(t, "the history", env.messages(a, ""), "user: Hello", "assistant: "+answer)
		time.Sleep(2 * defaultDraftInterval)
		wantEqual(t, "the drafts after the turn", env.drafts())
	})
}

// TestAnswersSurviveAServerCrash crashes servers on one database, with gateways that
// keep running.
func TestAnswersSurviveAServerCrash(t *testing.T) {
	env := newTestEnvWith(t, time.Millisecond)
	a, b := env.createAgent("ada"), env.createAgent("bob")
	env.send(a, "", "Hello")
	script, pieces := controlledScripts("Go on", "You too")
	env.gateways.setScript(script)
	prepared := env.prepare(a, client.ChatRequest{Message: "Go on"})
	turns := []<-chan error{env.sendAsync(env.timeout(), prepared), env.sendAsync(env.timeout(), env.prepare(b, client.ChatRequest{Message: "You too", PeerID: "p"}))}
	pieces[0] <- "As I "
	pieces[1] <- "Once "
	env.waitForDrafts("As I ", "Once ")
	pieces[0] <- "was saying"
	env.waitForDrafts("As I was saying", "Once ")
	at, err := database.One(t.Context(), env.db, database.Scalar[int64], `SELECT at FROM drafts WHERE session_id = $1`, prepared.session.ID)
	env.must(err)
	env.crashServer()
	for _, turn := range turns {
		if err := <-turn; err == nil {
			t.Error("a turn succeeded although its server crashed")
		}
	}

	env.startServer()
	want := []string{"user: Hello", "assistant: You said: Hello", "user: Go on", "assistant: As I was saying"}
	wantEqual(t, "the history after the crash", env.messages(a, ""), want...)
	wantEqual(t, "the other agent's history", env.messages(b, ""), "user: You too", "assistant: Once ")
	last, _, err := env.History(t.Context(), account, a.ID, prepared.session.ID, time.Time{}, 1)
	if err != nil || len(last) != 1 || !last[0].At.Equal(database.Time(at)) {
		t.Errorf("the last message is %v, %v; want the time of the draft, %v", last, err, database.Time(at))
	}
	wantEqual(t, "drafts", env.drafts())
	if !strings.Contains(env.log.String(), "answers=2") {
		t.Errorf("the log does not report the recovered answers:\n%s", env.log)
	}

	env.crashServer()
	env.startServer()
	wantEqual(t, "the history after another crash", env.messages(a, ""), want...)
	env.gateways.setScript(newFakeGateways().script)
	env.send(a, "", "And?")
	wantEqual(t, "the history of the next turn", env.messages(a, prepared.session.ID), append(want, "user: And?", "assistant: You said: And?")...)
}

// TestDraftOfADeletedSession: a deleted session does not stop the drafts of other
// sessions from being saved.
func TestDraftOfADeletedSession(t *testing.T) {
	env := newTestEnvWith(t, time.Millisecond)
	a, b := env.createAgent("ada"), env.createAgent("bob")
	script, pieces := controlledScripts("one", "two")
	env.gateways.setScript(script)
	turns := []<-chan error{env.sendAsync(env.timeout(), env.prepare(a, client.ChatRequest{Message: "one"})), env.sendAsync(env.timeout(), env.prepare(b, client.ChatRequest{Message: "two"}))}
	for _, out := range pieces {
		out <- "again"
	}
	env.waitForDrafts("again", "again")
	env.must(env.db.Tx(t.Context(), "chat.test", func(ctx context.Context, tx *database.Tx) error {
		return DeleteAgent(t.Context(), tx, identity.BySystem(account), a.ID)
	}))
	wantEqual(t, "drafts", env.drafts(), "again")
	for _, out := range pieces {
		out <- " and again"
	}
	env.waitForDrafts("again and again")
	for _, out := range pieces {
		close(out)
	}
	for _, turn := range turns {
		env.must(<-turn)
	}
	wantEqual(t, "drafts after the turns", env.drafts())
	wantEqual(t, "the history of the deleted agent", env.messages(a, ""))
	wantEqual(t, "the other agent's history", env.messages(b, ""), "user: two", "assistant: again and again")
}

// TestNoDraftIsSavedAfterItsTurn saves drafts as often as possible while turns end.
func TestNoDraftIsSavedAfterItsTurn(t *testing.T) {
	env := newTestEnvWith(t, time.Nanosecond)
	a := env.createAgent("ada")
	var turns sync.WaitGroup
	for peer := range 8 {
		turns.Go(func() {
			for range 5 {
				env.send(a, fmt.Sprint(peer), "Hello")
			}
		})
	}
	turns.Wait()
	wantEqual(t, "drafts", env.drafts())
	n := 0
	for _, line := range env.messages(a, "") {
		if line == "assistant: You said: Hello" {
			n++
		}
	}
	if n != 40 {
		t.Errorf("%d complete answers of 40", n)
	}
}
