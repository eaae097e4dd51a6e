package agent_test

import (
	"fmt"
	"sync"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/fault"
)

// TestNoAgentJoinsADeletedSwarm creates agents in a swarm that is being deleted.
func TestNoAgentJoinsADeletedSwarm(t *testing.T) {
	e := agenttest.New(t, nil)
	for range 20 {
		swarm := e.CreateSwarm(nil)
		in := agenttest.NewAgent("ada")
		in.SwarmID = string(swarm)
		var both sync.WaitGroup
		for range 4 {
			both.Go(func() {
				if _, err := e.Agents.Create(e.Context(), e.Actor, in); err != nil && !fault.Is(err, fault.Invalid) {
					t.Errorf("create: %v", err)
				}
			})
		}
		both.Go(func() {
			if err := e.Swarms.Delete(e.Context(), e.Actor, swarm); err != nil {
				t.Errorf("delete: %v", err)
			}
		})
		both.Wait()
	}
	e.CheckCount(0, `SELECT count(*) FROM agents WHERE swarm_id <> '' AND swarm_id NOT IN (SELECT id FROM swarms)`)
}

// TestSwarmNeedsRestart: a new key of the swarm changes which provider its agents use.
func TestSwarmNeedsRestart(t *testing.T) {
	e := agenttest.New(t, nil)
	swarm := e.CreateSwarm(map[string]string{"openaiApiKey": "sk-shared"})
	check := func(want bool) {
		t.Helper()
		if got, err := e.Agents.SwarmNeedsRestart(e.Context(), agenttest.Account, swarm); err != nil || got != want {
			t.Errorf("%v, %v", got, err)
		}
	}
	check(false)
	for i := range 3 {
		e.CreateFrom(client.CreateAgentRequest{Name: fmt.Sprint("bee ", i), SwarmID: string(swarm)})
	}
	stopped := e.CreateFrom(client.CreateAgentRequest{Name: "asleep", SwarmID: string(swarm)})
	e.Stop(stopped.ID)
	check(false)
	e.SetSwarmSecrets(swarm, map[string]string{"anthropicApiKey": "sk-ant-shared"})
	check(true)
	members, err := e.Store.ListInSwarm(e.Context(), e.DB, agenttest.Account, swarm)
	e.Must(err)
	for i := range members {
		if members[i].ID != stopped.ID {
			e.Restart(members[i].ID)
		}
	}
	check(false)
	if got, err := e.Agents.SwarmNeedsRestart(e.Context(), "acct_2", swarm); err != nil || got {
		t.Errorf("another account: %v, %v", got, err)
	}
}

func TestLeaveSwarm(t *testing.T) {
	e := agenttest.New(t, nil)
	swarm := e.CreateSwarm(nil)
	in := agenttest.NewAgent("ada")
	in.SwarmID = string(swarm)
	a := e.CreateFrom(in)
	counts, err := e.Agents.CountBySwarm(e.Context(), e.DB, agenttest.Account)
	if err != nil || len(counts) != 1 || counts[swarm] != 1 {
		t.Errorf("%v, %v", counts, err)
	}
	e.Must(e.Swarms.Delete(e.Context(), e.Actor, swarm))
	if now := e.Find(a.ID); now.SwarmID != "" {
		t.Errorf("it is still in %s", now.SwarmID)
	}
	e.CheckCount(1, `SELECT count(*) FROM events WHERE topic = $1 AND kind = 'agent.updated' AND data LIKE '%"swarmId":null%'`, "agent/"+string(a.ID))
}
