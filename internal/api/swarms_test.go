package api_test

import (
	"context"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/swarm"
)

// deletedMember adds to every list of a swarm's agents one that has been deleted
// meanwhile.
type deletedMember struct{ swarm.Members }

// InSwarm implements swarm.Members.
func (m deletedMember) InSwarm(ctx context.Context, q database.Querier, accountID, swarmID string) ([]swarm.AgentRow, error) {
	rows, err := m.Members.InSwarm(ctx, q, accountID, swarmID)
	return append([]swarm.AgentRow{{ID: "00000000-0000-0000-0000-000000000000", Name: "Gone"}}, rows...), err
}

// TestSetSwarmSecretsIgnoresDeletedAgents: the secrets were set, so the status is not
// 404.
func TestSetSwarmSecretsIgnoresDeletedAgents(t *testing.T) {
	env := newEnv(t, options{})
	env.swarms.Members = deletedMember{env.swarms.Members}
	who := env.newAccount("acme", "")
	id := who.do("POST", "/v1/swarms", `{"name":"Growth"}`).expect(201).field("data.id")
	a := who.do("PUT", "/v1/swarms/"+id+"/secrets", `{"secrets":{"anthropicApiKey":"sk-ant-test"}}`).expect(200)
	if a.field("data.updated") != "true" || a.field("data.needsRestart") != "false" {
		t.Error(a.body)
	}
}
