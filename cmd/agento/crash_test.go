package main

import (
	"context"
	"database/sql"
	"errors"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/devmodel"
)

// TestCrash kills the server during create, chat and delete, and starts it again: no
// agent is lost, none runs twice, and nothing of a deleted agent is left.
func TestCrash(t *testing.T) {
	in := newInstallation(t, "acme")
	in.start()

	// During create: the desired state is stored and the gateway is starting.
	request := in.newAgent("ada")
	request.Secrets["telegramBotToken"] = "1:bot"
	keyed := client.WithIdempotencyKey(context.Background(), "create ada")
	go func() { _, _ = in.client("acme").CreateAgent(keyed, request) }() // ends with the crash
	waitUntil(t, "the gateway exists", func() bool { return len(in.gateways()) == 1 })
	in.kill()
	in.start()
	acme := in.client("acme")
	created, err := acme.CreateAgent(keyed, request) // the same request again finds its agent
	if err != nil {
		t.Fatal(err)
	}
	var ada client.AgentSummary
	waitUntil(t, "the agent runs", func() bool {
		all, err := acme.ListAgents(t.Context(), client.AgentQuery{})
		if err != nil || len(all.Data) != 1 {
			t.Fatalf("%d agents, %v", len(all.Data), err)
		}
		if ada = all.Data[0]; ada.ID != created.ID {
			t.Fatalf("the agent is %s, created was %s", ada.ID, created.ID)
		}
		return ada.Status == client.Running
	})
	if running := in.gateways(); len(running) != 1 || string(running[0].ID) != ada.ID || !running[0].Running {
		t.Fatalf("running: %+v", running)
	}

	in.bot.Write(5, 42, "Eve", "echo from afar")
	waitUntil(t, "the Telegram message is stored", func() bool { return len(telegramHistory(t, acme, ada.ID)) == 2 })

	// During a chat: the gateway keeps running and is adopted.
	pid := gatewayPID(t, in, ada.ID)
	remove := in.model.Script(devmodel.When("tell me a long story", longReply()))
	story := client.WithIdempotencyKey(context.Background(), "a long story")
	begun, ended := make(chan struct{}), make(chan struct{})
	var read strings.Builder // what the reader has got; until ended
	go func() {
		defer close(ended)
		first := true
		for e, err := range in.client("acme").Chat(story, ada.ID, client.ChatRequest{Message: "tell me a long story"}) {
			if err != nil {
				return // the crash
			}
			if e.Type == "text" {
				read.WriteString(e.Content)
			}
			if first && e.Type == "text" {
				close(begun)
				first = false
			}
		}
	}()
	select {
	case <-begun:
	case <-ended:
		t.Fatal("the answer did not start")
	}
	waitForPieces(t, in)
	in.kill()
	<-ended
	if cut, err := lastCall(t, in, "tell me a long story").Cancelled(t.Context()); err != nil || !cut {
		t.Errorf("the model call outlived the server: %v, %v", cut, err)
	}
	remove()
	deleteTelegramSession(t, in)
	in.start()
	acme = in.client("acme")
	if again, err := acme.CreateAgent(keyed, request); err != nil || again.ID != created.ID || !again.StartedAt.Equal(created.StartedAt.Time) {
		t.Errorf("the response was not kept: %+v, at first %+v, %v", again, created, err)
	}
	waitUntil(t, "the Telegram messages that arrived while no server ran are stored", func() bool { return len(telegramHistory(t, acme, ada.ID)) == 2 })
	if got := send(t, acme, ada.ID, client.ChatRequest{Message: "echo still here"}); got != "still here" {
		t.Errorf("after the crash: %q", got)
	}
	if gatewayPID(t, in, ada.ID) != pid || len(in.gateways()) != 1 {
		t.Error("the gateway was not adopted")
	}
	history, err := acme.History(t.Context(), ada.ID, client.HistoryQuery{})
	if err != nil || !slices.ContainsFunc(history, func(m client.ChatMessage) bool { return m.Content == "tell me a long story" }) {
		t.Errorf("history %+v, %v", history, err)
	}
	var last client.ChatEvent
	for e, err := range acme.Chat(story, ada.ID, client.ChatRequest{Message: "tell me a long story"}) {
		if err != nil {
			t.Fatal(err)
		}
		last = e
	}
	if last.Type != "error" || last.Code != "unavailable" {
		t.Errorf("the message that was interrupted, sent again, ends with %+v", last)
	}
	if turns, err := acme.Turns(t.Context(), ada.ID, client.TurnQuery{}); err != nil || len(turns) != 2 || turns[1].State != "failed" || turns[1].ID != last.TurnID || *turns[1].StopReason != "interrupted" {
		t.Errorf("turns %+v, %v", turns, err)
	}
	if !slices.ContainsFunc(history, func(m client.ChatMessage) bool {
		return m.Role == "assistant" && read.Len() > 0 && strings.HasPrefix(m.Content, read.String())
	}) {
		t.Errorf("text that was read before the crash is lost: %q, %+v", read.String(), history)
	}

	gatewayDiesInATurn(t, in, acme, ada.ID)

	// During delete: as soon as the request is stored.
	go func() { _, _ = in.client("acme").DeleteAgent(context.Background(), ada.ID) }() // ends with the crash
	waitForDeleteRequest(t, in, ada.ID)
	in.kill()
	in.start()
	acme = in.client("acme")
	waitUntil(t, "nothing is left", func() bool { return len(in.gateways()) == 0 })
	if all, err := acme.ListAgents(t.Context(), client.AgentQuery{}); err != nil || len(all.Data) != 0 {
		t.Errorf("%d agents, %v", len(all.Data), err)
	}
	in.stop()
}

// gatewayDiesInATurn kills a gateway in the middle of a turn. OpenClaw runs the turn again
// by itself when the next gateway starts. That reaches no model.
func gatewayDiesInATurn(t *testing.T, in *installation, acme *client.Client, id string) {
	t.Helper()
	const message = "tell me another long story"
	remove := in.model.Script(devmodel.When(message, longReply()))
	defer remove()
	var failed error
	first := true
	for e, err := range acme.Chat(t.Context(), id, client.ChatRequest{Message: message}) {
		if err != nil || e.Type == "error" {
			failed = errors.Join(err, &client.Error{Code: e.Code, Message: e.Message})
			break
		}
		if first && e.Type == "text" {
			first = false
			if err := syscall.Kill(gatewayPID(t, in, id), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	if first || failed == nil {
		t.Errorf("the turn of a gateway that was killed ended with %v, without a piece: %v", failed, first)
	}
	if _, err := in.logs.await(waitTimeout, regexp.MustCompile(`model call refused.* agent=`+id)); err != nil {
		t.Errorf("the next gateway did not run the turn again: %v", err)
	}
	calls := 0
	for _, c := range in.model.Requests() {
		if strings.Contains(string(c.Body), message) {
			calls++
		}
	}
	if calls != 1 {
		t.Errorf("%d model calls for one message", calls)
	}
}

// telegramHistory returns the stored messages of the agent's Telegram session.
func telegramHistory(t *testing.T, c *client.Client, id string) []client.ChatMessage {
	t.Helper()
	sessions, err := c.Sessions(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sessions {
		if s.Channel != "telegram" {
			continue
		}
		messages, err := c.History(t.Context(), id, client.HistoryQuery{SessionID: s.ID})
		if err != nil {
			t.Fatal(err)
		}
		return messages
	}
	return nil
}

// deleteTelegramSession deletes the stored Telegram session, as if no server had run
// when its messages arrived: only the gateway still has them.
func deleteTelegramSession(t *testing.T, in *installation) {
	t.Helper()
	db := in.openDatabase()
	defer func() { _ = db.Close() }()
	for _, query := range []string{
		`DELETE FROM messages WHERE session_id IN (SELECT id FROM sessions WHERE channel = 'telegram')`,
		`DELETE FROM sessions WHERE channel = 'telegram'`,
	} {
		if _, err := db.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
}

// waitForPieces waits until a part of the running answer is stored. No API returns it.
func waitForPieces(t *testing.T, in *installation) {
	t.Helper()
	db := in.openDatabase()
	defer func() { _ = db.Close() }()
	waitUntil(t, "a part of the running answer is stored", func() bool {
		var n int
		if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM turn_pieces JOIN turns ON id = turn_id WHERE state = 'running'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n > 0
	})
}

// waitForDeleteRequest waits until the desired state is stored. No API returns it.
func waitForDeleteRequest(t *testing.T, in *installation, id string) {
	t.Helper()
	db := in.openDatabase()
	defer func() { _ = db.Close() }()
	deadline := time.Now().Add(waitTimeout)
	for time.Now().Before(deadline) {
		desired, err := database.One(t.Context(), db, database.Scalar[string], `SELECT desired_state FROM agents WHERE id = $1`, id)
		if errors.Is(err, sql.ErrNoRows) || desired == "deleted" { // no row: it is deleted already
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the delete request was not stored")
}
