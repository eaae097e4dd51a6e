package main

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the driver named sqlite

	"agento.host/agento/client"
	"agento.host/agento/internal/devmodel"
)

// TestCrash kills the server with SIGKILL in the middle of things and starts it
// again: no agent is lost, none runs twice, and nothing is left of what was deleted.
func TestCrash(t *testing.T) {
	in := newInstallation(t, "acme")
	in.start()

	// During create: the wish is written, the gateway is on its way.
	go func() { _, _ = in.as("acme").CreateAgent(context.Background(), in.newAgent("ada")) }() // the crash ends it
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
	in.kill()
	<-ended
	if cut, err := lastCall(t, in, "tell me a long story").Cancelled(t.Context()); err != nil || !cut {
		t.Errorf("the model call outlived the server: %v, %v", cut, err)
	}
	remove()
	in.start()
	acme = in.as("acme")
	if got := say(t, acme, ada.ID, client.ChatRequest{Message: "echo still here"}); got != "still here" {
		t.Errorf("after the crash: %q", got)
	}
	if gatewayPID(t, in, ada.ID) != pid || len(in.gateways()) != 1 {
		t.Error("the gateway was not adopted")
	}
	history, err := acme.History(t.Context(), ada.ID, client.HistoryQuery{})
	if err != nil || len(history) == 0 || history[0].Content != "tell me a long story" {
		t.Errorf("history %+v, %v", history, err)
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

// awaitDeleteWish reads the records beside the server, as no API shows a wish.
func awaitDeleteWish(t *testing.T, in *installation, id string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(in.data, "agento.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		var wanted string
		err := db.QueryRowContext(t.Context(), `SELECT wanted FROM agents WHERE id = $1`, id).Scan(&wanted)
		if err != nil || wanted == "deleted" { // gone already is as good
			return
		}
	}
	t.Fatal("the wish to delete was not written")
}
