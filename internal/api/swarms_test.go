package api_test

import (
	"context"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/swarm"
)

// leaving adds an agent to every swarm that is deleted as soon as it is listed.
type leaving struct{ swarm.Members }

// InSwarm implements swarm.Members.
func (l leaving) InSwarm(ctx context.Context, q database.Querier, accountID, swarmID string) ([]swarm.AgentRow, error) {
	rows, err := l.Members.InSwarm(ctx, q, accountID, swarmID)
	return append([]swarm.AgentRow{{ID: "00000000-0000-0000-0000-000000000000", Name: "Gone"}}, rows...), err
}

// TestSecretsOfASwarmThatAnAgentLeaves: they are set, so the answer is no 404.
func TestSecretsOfASwarmThatAnAgentLeaves(t *testing.T) {
	h := open(t, plan{})
	h.door.Swarms.Members = leaving{h.door.Swarms.Members}
	who := h.account("acme", "")
	id := who.do("POST", "/v1/swarms", `{"name":"Growth"}`).wants(201).text("data.id")
	a := who.do("PUT", "/v1/swarms/"+id+"/secrets", `{"secrets":{"anthropicApiKey":"sk-ant-test"}}`).wants(200)
	if a.text("data.updated") != "true" || a.text("data.needsRestart") != "false" {
		t.Error(a.body)
	}
}
