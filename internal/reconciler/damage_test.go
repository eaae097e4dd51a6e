package reconciler_test

import (
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/identity"
)

// A server that finds a damaged record reconciles all other agents, and leaves the
// gateway of the damaged one as it is until the agent is deleted.
func TestDamagedRecordStopsNoOtherAgent(t *testing.T) {
	for _, column := range []string{"config", "failures", "desired_state", "status", "generation", "created_at", "last_used_at"} {
		t.Run(column, func(t *testing.T) {
			agenttest.InBubble(t, nil, func(t *testing.T, e *agenttest.Env) {
				damaged, adopted, started := e.Create("Damaged"), e.Create("Adopted"), e.Create("Started")
				e.Stop(started.ID)
				e.StopServer()
				e.Exec(`UPDATE agents SET `+column+` = '{' WHERE id = $1`, damaged.ID)
				e.Exec(`UPDATE agents SET desired_state = 'running', generation = generation + 1 WHERE id = $1`, started.ID)
				e.StartServer()
				e.UntilStatus(started.ID, client.Running)
				e.UntilStatus(adopted.ID, client.Running)
				if _, err := e.Turn(adopted.ID); err != nil {
					t.Error(err)
				}
				for id, want := range map[identity.AgentID]int{damaged.ID: 1, adopted.ID: 1, started.ID: 2} {
					if n := e.Driver.Starts(id); n != want {
						t.Errorf("%s was started %d times, want %d", id, n, want)
					}
				}
				if n := e.Driver.RunningCount(); n != 3 {
					t.Errorf("%d gateways run", n)
				}
				if a := e.Find(damaged.ID); a.Status != client.Errored || a.ErrorCategory != agent.CategoryRecord || a.Place != damaged.Place {
					t.Errorf("the agent is %s, %s, at %q", a.Status, a.LastError, a.Place)
				}
				e.Delete(damaged.ID)
				e.CheckNothingLeft(damaged.ID)
			})
		})
	}
}
