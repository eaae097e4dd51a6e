package knowledge

import (
	"context"

	"agento.host/agento/internal/access"
	agents "agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	swarms "agento.host/agento/internal/swarm"
)

// Rooms finds scopes in the records of agents and swarms; it implements Scopes.
type Rooms struct {
	DB     *database.DB
	Agents *agents.Service
	Swarms *swarms.Store
}

// Resolve implements Scopes.
func (r Rooms) Resolve(ctx context.Context, accountID, agentID, swarmID string) (Scope, error) {
	if swarmID != "" {
		return Scope{Swarm, swarmID}, r.Swarms.Exists(ctx, r.DB, identity.AccountID(accountID), identity.SwarmID(swarmID))
	}
	a, err := r.Agents.Find(ctx, access.Principal{AccountID: identity.AccountID(accountID)}, agentID)
	if err == nil && a.SwarmID != "" {
		return Scope{Swarm, a.SwarmID}, nil
	}
	return Scope{Agent, agentID}, err
}

// SwarmKnowledge implements swarm.Knowledge with the service.
type SwarmKnowledge struct{ Knowledge *Service }

// SwarmDeleted implements swarm.Knowledge: the swarm's knowledge goes to the agents
// that are in it.
func (s SwarmKnowledge) SwarmDeleted(ctx context.Context, tx *database.Tx, account identity.AccountID, swarm identity.SwarmID, agents []identity.AgentID) error {
	ids := make([]string, len(agents))
	for i, id := range agents {
		ids[i] = string(id)
	}
	return s.Knowledge.SwarmDeleted(ctx, tx, string(account), string(swarm), ids)
}
