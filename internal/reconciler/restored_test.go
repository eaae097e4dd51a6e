package reconciler_test

import (
	"context"
	"errors"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/vault"
)

// The records of a backup say of gateways that they run and who holds them. After a restore
// agents that should run start, which is no failure of theirs, and the others rest.
func TestAgentsOfARestoredDatabaseStart(t *testing.T) {
	e := agenttest.New(t, nil)
	runs, rests := e.Create("runs"), e.Create("rests")
	e.Stop(rests.ID)
	before := e.Token(runs, "tools")
	e.StopServer()
	e.Must(e.Driver.Remove(t.Context(), runs.Place, runs.ID)) // a restored directory has no gateways
	e.Exec(`UPDATE agents SET holder = 'original', lease_until = 9000000000000, server = 'original' WHERE id = $1`, runs.ID)
	const reason = "restored"
	store := agent.NewStore(e.DB, e.Events)
	e.Must(e.DB.Tx(t.Context(), "test.restore", func(ctx context.Context, tx *database.Tx) error {
		return errors.Join(store.ForgetGateways(ctx, tx, reason), vault.RaiseAllTokens(ctx, tx))
	}))
	a := e.Find(runs.ID)
	if a.Status != client.Starting || a.Place != "" || a.LastError != reason || a.Lease.Holder != "" {
		t.Errorf("the agent that should run: %+v", a)
	}
	if a := e.Find(rests.ID); a.Status != client.Stopped || a.LastError != "" {
		t.Errorf("the agent that rests: %+v", a)
	}
	e.Must(e.DB.Tx(t.Context(), "test.activate", func(ctx context.Context, tx *database.Tx) error { return store.ClearError(ctx, tx, reason) }))
	e.StartServer()
	a = e.UntilStatus(runs.ID, client.Running)
	if a.Place == "" || a.LastError != "" || len(a.Retry.Failures) != 0 {
		t.Errorf("after the start: %+v", a)
	}
	if e.Token(a, "tools").Reveal() == before.Reveal() {
		t.Error("the token is that of the original")
	}
	if a := e.Find(rests.ID); a.Status != client.Stopped {
		t.Errorf("the agent that rested: %+v", a)
	}
}
