package chat

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/modelturn"
)

// TestStepsOfATurn are known while it runs and afterwards, and go with the agent.
func TestStepsOfATurn(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	called, proceed := make(chan struct{}), make(chan struct{})
	env.gateways.setScript(func(_ context.Context, r receivedTurn, _ func(string) error) {
		turn := env.ModelTurn(t.Context(), account, a.ID, strings.ToLower(r.Session), func() bool { return true })
		call, _ := turn.Begin()
		call.ToolCall("lost", `{}`)
		call.End(modelturn.Result{}) // broken off: the gateway makes it again
		call, _ = turn.Begin()
		call.ToolCall("search", `{"q":"plum-input"}`)
		call.ToolCall("read", `{}`)
		call.End(modelturn.Result{Stop: modelturn.Tools})
		close(called)
		<-proceed
		if !turn.AwaitsResults() {
			t.Error("the turn awaits no results")
		}
		turn.Results([]string{"plum-output", strings.Repeat("ä", 8<<10)})
		call, _ = turn.Begin()
		call.Text("Found it.")
		call.End(modelturn.Result{Stop: modelturn.End})
	})
	turn := env.begin(a, client.ChatRequest{Message: "Hello"})
	<-called
	running, _ := env.find(turn)
	steps, err := env.Steps(t.Context(), running)
	if err != nil || len(steps) != 2 || steps[0].Name != "search" || steps[0].Input != `{"q":"plum-input"}` || !steps[0].Ended.IsZero() {
		t.Errorf("while the turn runs: %+v, %v", steps, err)
	}
	close(proceed)
	if _, err := env.Follow(env.timeout(), turn, 0, func(int64, string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	ended, _ := env.find(turn)
	steps, err = env.Steps(t.Context(), ended)
	if err != nil || len(steps) != 2 || steps[0].Output != "plum-output" || steps[0].Ended.IsZero() || steps[0].Cut || !steps[1].Cut || len(steps[1].Output) > 8<<10 {
		t.Errorf("afterwards: %+v, %v", steps, err)
	}
	content, err := os.ReadFile(env.path + "-wal")
	env.must(err)
	if bytes.Contains(content, []byte("plum")) {
		t.Error("a step is in the database as it is")
	}
	env.must(env.db.Tx(t.Context(), "chat.test", func(ctx context.Context, tx *database.Tx) error {
		return DeleteAgent(ctx, tx, env.actor, a.ID)
	}))
	if n, err := database.One(t.Context(), env.db, database.Scalar[int], `SELECT count(*) FROM turn_steps`); n != 0 || err != nil {
		t.Errorf("%d are left, %v", n, err)
	}
}

// TestSourceOfMessages is that of their caller, or the channel.
func TestSourceOfMessages(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	caller := Caller{Actor: env.actor, Owner: true, Source: FromDashboard}
	turn, err := env.Start(t.Context(), caller, a.ID, client.ChatRequest{Message: "Hello"})
	env.must(err)
	if _, err := env.read(env.timeout(), turn, 0); err != nil {
		t.Fatal(err)
	}
	page, err := env.History(t.Context(), caller, a.ID, HistoryQuery{Limit: 10})
	if err != nil || len(page.Messages) != 2 {
		t.Fatalf("%+v, %v", page, err)
	}
	for _, m := range page.Messages {
		if m.Source != FromDashboard || m.TurnID != turn.ID {
			t.Errorf("%+v", m)
		}
	}
	if stored, _ := env.find(turn); stored.Source != FromDashboard {
		t.Errorf("%+v", stored)
	}
}
