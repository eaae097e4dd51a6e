package gateway_test

import (
	"context"
	"errors"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

func needsRestart(e *agenttest.Env, id identity.AgentID) bool {
	v, err := e.Agents.View(e.Context(), agenttest.Account, id)
	e.Must(err)
	return v.NeedsRestart
}

// TestNeedsRestartFollowsEveryChange makes each kind of change, and makes it undone.
// It reads after every step, so that a digest of the state before is kept.
func TestNeedsRestartFollowsEveryChange(t *testing.T) {
	e := agenttest.New(t, nil)
	bees := e.CreateSwarm(map[string]string{"MY_TOKEN": "a"})
	a := e.Create("ada")
	update := func(in client.UpdateAgentRequest) func() {
		return func() {
			_, err := e.Agents.Update(e.Context(), e.Actor, a.ID, in)
			e.Must(err)
		}
	}
	secrets := func(in client.SecretsRequest) func() {
		return func() {
			_, err := e.Agents.SetSecrets(e.Context(), e.Actor, a.ID, in)
			e.Must(err)
		}
	}
	for _, c := range []struct {
		name         string
		change, undo func()
	}{
		{"config", update(client.UpdateAgentRequest{Config: map[string]any{"model": "another"}}), update(client.UpdateAgentRequest{Config: map[string]any{"model": nil}})},
		{"secret", secrets(client.SecretsRequest{Secrets: map[string]string{"MY_OWN": "x"}}), secrets(client.SecretsRequest{DeleteSecrets: []string{"MY_OWN"}})},
		{
			"swarm", update(client.UpdateAgentRequest{SwarmID: client.Optional[string]{Set: true, Value: string(bees)}}),
			update(client.UpdateAgentRequest{SwarmID: client.Optional[string]{Set: true, Null: true}}),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			for round := range 2 {
				if needsRestart(e, a.ID) {
					t.Fatalf("round %d: before the change", round)
				}
				if c.change(); !needsRestart(e, a.ID) {
					t.Fatalf("round %d: not after the change", round)
				}
				c.undo()
			}
			if needsRestart(e, a.ID) {
				t.Error("after the change was undone")
			}
		})
	}
}

func TestNeedsRestartFollowsTheSwarm(t *testing.T) {
	e := agenttest.New(t, nil)
	bees := e.CreateSwarm(map[string]string{"MY_TOKEN": "a"})
	in := agenttest.NewAgent("ada")
	in.SwarmID = string(bees)
	a := e.CreateFrom(in)
	if needsRestart(e, a.ID) {
		t.Error("before the change")
	}
	if e.SetSwarmSecrets(bees, map[string]string{"MY_TOKEN": "b"}); !needsRestart(e, a.ID) {
		t.Error("not after a change of the swarm's secrets")
	}
	if e.SetSwarmSecrets(bees, map[string]string{"MY_TOKEN": "a"}); needsRestart(e, a.ID) {
		t.Error("after the change was undone")
	}
	e.SetSwarmSecrets(bees, map[string]string{"MY_TOKEN": "b"})
	e.Must(e.Swarms.Delete(e.Context(), e.Actor, bees))
	if !needsRestart(e, a.ID) {
		t.Error("not after the swarm was deleted")
	}
}

// TestNeedsRestartIgnoresWhatWasRolledBack: a transaction sees its own changes, and
// leaves nothing that the next change could be confused with.
func TestNeedsRestartIgnoresWhatWasRolledBack(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	undo := errors.New("undo")
	put := func(value string, end error) (changed bool) {
		err := e.DB.Tx(e.Context(), "gateway.test", func(ctx context.Context, tx *database.Tx) (err error) {
			set := map[provider.SecretName]vault.Secret{"MY_TOKEN": vault.NewSecret(value)}
			if err := e.Vault.Put(e.Context(), tx, agenttest.Account, vault.OfAgent(a.ID), set); err != nil {
				return err
			}
			if changed, err = e.Gateways.NeedsRestart(e.Context(), tx, a); err != nil {
				return err
			}
			return end
		})
		if !errors.Is(err, end) {
			t.Fatal(err)
		}
		return changed
	}
	if !put("x", undo) {
		t.Error("a transaction does not see its change")
	}
	if needsRestart(e, a.ID) {
		t.Error("a change that was rolled back")
	}
	put("x", nil)
	if a = e.Restart(a.ID); needsRestart(e, a.ID) {
		t.Error("after the restart")
	}
	put("y", undo)
	if put("z", nil); !needsRestart(e, a.ID) {
		t.Error("the change after one that was rolled back")
	}
}
