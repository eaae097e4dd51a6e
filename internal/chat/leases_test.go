package chat

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// TestTurnsSurviveAServerCrash crashes servers on one database, with gateways that keep
// running. Unfinished turns keep their text, and queued ones run, in order.
func TestTurnsSurviveAServerCrash(t *testing.T) {
	env := newTestEnv(t)
	a, b := env.createAgent("ada"), env.createAgent("bob")
	env.send(a, "", "Hello")
	script, pieces := controlledScripts("Go on", "You too")
	env.gateways.setScript(script)
	first := env.begin(a, client.ChatRequest{Message: "Go on"})
	other := env.begin(b, client.ChatRequest{Message: "You too", PeerID: "p"})
	queued := []Turn{env.begin(a, client.ChatRequest{Message: "And"}), env.begin(a, client.ChatRequest{Message: "then"})}
	old := env.begin(b, client.ChatRequest{Message: "Long ago", PeerID: "p"})
	unread := env.begin(b, client.ChatRequest{Message: "Unread", PeerID: "p", OnDisconnect: "cancel"})
	pieces[0] <- "As I "
	pieces[1] <- "Once "
	env.waitForStored(first, "As I ")
	pieces[0] <- "was saying"
	env.waitForStored(first, "As I was saying")
	env.waitForStored(other, "Once ")
	stored, err := env.readPieces(t.Context(), env.db, first)
	env.must(err)
	env.must(env.db.Tx(t.Context(), "chat.test", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(t.Context(), `UPDATE turns SET created_at = created_at - $2 WHERE id = $1`, old.ID, (maxWait + time.Minute).Milliseconds())
		return err
	}))
	env.crashServer()

	env.gateways.setScript(newFakeGateways().script)
	env.startServer()
	for _, turn := range queued {
		_, err := env.read(env.timeout(), turn, 0)
		env.must(err)
	}
	want := []string{
		"user: Hello", "assistant: You said: Hello", "user: Go on", "assistant: As I was saying",
		"user: And", "assistant: You said: And", "user: then", "assistant: You said: then",
	}
	wantEqual(t, "the history after the crash", env.messages(a, ""), want...)
	wantEqual(t, "the other agent's history", env.messages(b, ""), "user: You too", "assistant: Once ")
	if text, err := env.read(env.timeout(), first, 1); text != "was saying" || !fault.Is(err, fault.Unavailable) {
		t.Errorf("resuming the interrupted turn: %q, %v", text, err)
	}
	if got, text := env.find(first); got.State != Failed || got.StopReason != stopInterrupted || text != "As I was saying" {
		t.Errorf("the interrupted turn: %+v, %q", got, text)
	}
	waitUntil(t, "the old turn fails", func() bool { got, _ := env.find(old); return got.StopReason == stopExpired })
	if got, _ := env.find(unread); got.State != Cancelled {
		t.Errorf("the turn without a reader: %+v", got)
	}
	page, err := env.History(t.Context(), env.caller, a.ID, HistoryQuery{Session: first.SessionID, Limit: 5})
	last := page.Messages
	if err != nil || len(last) != 5 || !last[0].At.Equal(stored.at) {
		t.Errorf("the answer is %v, %v; want the time of its last piece, %v", last, err, stored.at)
	}
	if !strings.Contains(env.log.String(), "turns=2") {
		t.Errorf("the log does not report the turns:\n%s", env.log)
	}

	env.crashServer()
	env.startServer()
	wantEqual(t, "the history after another crash", env.messages(a, ""), want...)
	env.send(a, "", "And?")
	wantEqual(t, "the history of the next turn", env.messages(a, first.SessionID), append(want, "user: And?", "assistant: You said: And?")...)
}

// TestLateHolderChangesNothing: another server has ended the turn meanwhile.
func TestLateHolderChangesNothing(t *testing.T) {
	env := newTestEnvWith(t, time.Hour) // its pieces after the first are stored at the end
	a := env.createAgent("ada")
	script, pieces := controlledScript()
	env.gateways.setScript(script)
	turn := env.begin(a, client.ChatRequest{Message: "Hello"})
	followed := env.readAsync(env.timeout(), turn)
	pieces <- "In time"
	env.waitForStored(turn, "In time")
	pieces <- ", too late"
	env.must(env.otherServer().Recover(t.Context()))
	close(pieces)
	if err := <-followed; !fault.Is(err, fault.Unavailable) {
		t.Errorf("the late holder's turn ended with %v", err)
	}
	got, text := env.find(turn)
	if got.State != Failed || got.StopReason != stopInterrupted || got.LastSeq != 1 || text != "In time" {
		t.Errorf("the turn: %+v, %q", got, text)
	}
	wantEqual(t, "the history", env.messages(a, ""), "user: Hello", "assistant: In time")
	env.waitForStored(turn, "In time")
}

// TestReadersGetOnlyWhatIsStored: what a reader has got is in the database, so that it is
// there after the server has died.
func TestReadersGetOnlyWhatIsStored(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	script, pieces := controlledScript()
	env.gateways.setScript(script)
	turn := env.begin(a, client.ChatRequest{Message: "Hello"})
	go func() {
		defer close(pieces)
		for range 50 {
			pieces <- "word "
		}
	}()
	got := 0
	_, err := env.Follow(env.timeout(), turn, 0, func(seq int64, _ string) error {
		got++
		_, text := env.find(turn)
		stored, err := env.readPieces(t.Context(), env.db, turn)
		if len(stored.pieces) < int(seq) || len(stored.text()) < len(text) {
			t.Errorf("piece %d is read, and the turn shows %q, while %d pieces are stored", seq, text, len(stored.pieces))
		}
		return err
	})
	if err != nil || got != 50 {
		t.Errorf("%d pieces, %v", got, err)
	}
}

// TestDeletedSessionDoesNotStopOthers: pieces of other turns are stored nevertheless.
func TestDeletedSessionDoesNotStopOthers(t *testing.T) {
	env := newTestEnv(t)
	a, b := env.createAgent("ada"), env.createAgent("bob")
	script, pieces := controlledScripts("one", "two")
	env.gateways.setScript(script)
	one, two := env.begin(a, client.ChatRequest{Message: "one"}), env.begin(b, client.ChatRequest{Message: "two"})
	pieces[0] <- "again"
	pieces[1] <- "again"
	env.waitForStored(one, "again")
	env.waitForStored(two, "again")
	env.must(env.db.Tx(t.Context(), "chat.test", func(ctx context.Context, tx *database.Tx) error {
		return DeleteAgent(t.Context(), tx, identity.BySystem(account), a.ID)
	}))
	pieces[1] <- " and again"
	env.waitForStored(two, "again and again")
	close(pieces[1])
	text, err := env.read(env.timeout(), two, 0)
	if err != nil || text != "again and again" {
		t.Errorf("the other turn: %q, %v", text, err)
	}
	wantEqual(t, "the history of the deleted agent", env.messages(a, ""))
	if !slices.Equal(env.messages(b, ""), []string{"user: two", "assistant: again and again"}) {
		t.Errorf("the other agent's history: %v", env.messages(b, ""))
	}
}

// A backup that was made during turns has them. After a restore they are ended, with the text
// that is stored, and none is run.
func TestEndOpenTurnsOfARestoredDatabase(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	script, pieces := controlledScripts("Go on", "no other")
	env.gateways.setScript(script)
	running := env.begin(a, client.ChatRequest{Message: "Go on"})
	waiting := []Turn{env.begin(a, client.ChatRequest{Message: "And"}), env.begin(a, client.ChatRequest{Message: "then", OnDisconnect: "cancel"})}
	pieces[0] <- "As I was"
	env.waitForStored(running, "As I was")
	env.crashServer()

	db, err := database.Open(t.Context(), database.Settings{Path: env.path})
	env.must(err)
	restored := New(Settings{DB: db, Events: event.NewLog(db), Vault: env.vault, Log: slog.New(slog.DiscardHandler)})
	ended, err := restored.EndOpenTurns(t.Context())
	env.must(err)
	if ended != 3 {
		t.Errorf("%d turns were ended", ended)
	}
	env.must(db.Close())
	env.gateways.setScript(newFakeGateways().script)
	env.startServer()
	for _, turn := range append(waiting, running) {
		found, text, err := env.FindTurn(t.Context(), env.caller, a.ID, turn.ID)
		if err != nil || found.State != Failed || !strings.Contains(found.ErrorMessage, "restored from a backup") {
			t.Errorf("%+v, %v", found, err)
		}
		if want := map[bool]string{true: "As I was"}[turn.ID == running.ID]; text != want {
			t.Errorf("the text is %q", text)
		}
	}
}
