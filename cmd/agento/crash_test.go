package main

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/devmodel"
)

// TestCrash kills the server with SIGKILL in the middle of things and starts it
// again: no agent is lost, none runs twice, and nothing is left of what was deleted.
func TestCrash(t *testing.T) {
	in := newInstallation(t, "acme")
	in.start()

	// During create: the wish is written, the gateway is on its way.
	wanted := in.newAgent("ada")
	wanted.Secrets["telegramBotToken"] = "1:bot"
	go func() { _, _ = in.as("acme").CreateAgent(context.Background(), wanted) }() // the crash ends it
	eventually(t, "the gateway is there", func() bool { return len(in.gateways()) == 1 })
	in.kill()
	in.start()
	acme := in.as("acme")
	var ada client.AgentSummary
	eventually(t, "the agent runs", func() bool {
		all, err := acme.ListAgents(t.Context())
		if err != nil || len(all) != 1 {
			t.Fatalf("%d agents, %v", len(all), err)
		}
		ada = all[0]
		return ada.Status == client.Running
	})
	if running := in.gateways(); len(running) != 1 || running[0].ID != ada.ID || !running[0].Running {
		t.Fatalf("running: %+v", running)
	}

	in.bot.Write(5, 42, "Eve", "echo from afar")
	eventually(t, "what came through Telegram is kept", func() bool { return len(telegramHistory(t, acme, ada.ID)) == 2 })

	// During a chat: the gateway lives on and is adopted.
	pid := gatewayPID(t, in, ada.ID)
	remove := in.model.Script(devmodel.When("tell me a long story", longStory()))
	begun, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		first := true
		for e, err := range in.as("acme").Chat(context.Background(), ada.ID, client.ChatRequest{Message: "tell me a long story"}) {
			if err != nil {
				return // the crash
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
		t.Fatal("the story did not begin")
	}
	awaitDraft(t, in)
	in.kill()
	<-ended
	if cut, err := lastCall(t, in, "tell me a long story").Cancelled(t.Context()); err != nil || !cut {
		t.Errorf("the model call outlived the server: %v, %v", cut, err)
	}
	remove()
	forgetTelegram(t, in)
	in.start()
	acme = in.as("acme")
	eventually(t, "what was said on Telegram while no server listened is read", func() bool { return len(telegramHistory(t, acme, ada.ID)) == 2 })
	if got := say(t, acme, ada.ID, client.ChatRequest{Message: "echo still here"}); got != "still here" {
		t.Errorf("after the crash: %q", got)
	}
	if gatewayPID(t, in, ada.ID) != pid || len(in.gateways()) != 1 {
		t.Error("the gateway was not adopted")
	}
	history, err := acme.History(t.Context(), ada.ID, client.HistoryQuery{})
	if err != nil || !slices.ContainsFunc(history, func(m client.ChatMessage) bool { return m.Content == "tell me a long story" }) {
		t.Errorf("history %+v, %v", history, err)
	}
	if !slices.ContainsFunc(history, func(m client.ChatMessage) bool {
		return m.Role == "assistant" && strings.HasPrefix(m.Content, "and then ")
	}) {
		t.Errorf("what the agent said before the crash is lost: %+v", history)
	}

	// During delete: as soon as the wish is written.
	go func() { _, _ = in.as("acme").DeleteAgent(context.Background(), ada.ID) }() // the crash ends it
	awaitDeleteWish(t, in, ada.ID)
	in.kill()
	in.start()
	acme = in.as("acme")
	eventually(t, "nothing is left", func() bool { return len(in.gateways()) == 0 })
	if all, err := acme.ListAgents(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%d agents, %v", len(all), err)
	}
	in.stop()
}

// telegramHistory is what the record holds of the agent's Telegram session.
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
		said, err := c.History(t.Context(), id, client.HistoryQuery{SessionID: s.ID})
		if err != nil {
			t.Fatal(err)
		}
		return said
	}
	return nil
}

// forgetTelegram makes the record one of a server that was not there when it was
// said: only the gateway knows of it.
func forgetTelegram(t *testing.T, in *installation) {
	t.Helper()
	db := in.records()
	defer func() { _ = db.Close() }()
	for _, forget := range []string{
		`DELETE FROM messages WHERE session_id IN (SELECT id FROM sessions WHERE channel = 'telegram')`,
		`DELETE FROM sessions WHERE channel = 'telegram'`,
	} {
		if _, err := db.ExecContext(t.Context(), forget); err != nil {
			t.Fatal(err)
		}
	}
}

// awaitDraft waits until an answer that grows is saved, as no API shows it.
func awaitDraft(t *testing.T, in *installation) {
	t.Helper()
	db := in.records()
	defer func() { _ = db.Close() }()
	eventually(t, "the answer is saved while it grows", func() bool {
		var n int
		if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM drafts`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 1
	})
}

// awaitDeleteWish reads the records beside the server, as no API shows a wish.
func awaitDeleteWish(t *testing.T, in *installation, id string) {
	t.Helper()
	db := in.records()
	defer func() { _ = db.Close() }()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		var desired string
		err := db.QueryRowContext(t.Context(), `SELECT desired_state FROM agents WHERE id = $1`, id).Scan(&desired)
		if err != nil || desired == "deleted" { // gone already is as good
			return
		}
	}
	t.Fatal("the wish to delete was not written")
}
