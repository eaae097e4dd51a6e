package knowledge

import (
	"context"

	agents "agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	swarms "agento.host/agento/internal/swarm"
)

// Rooms finds scopes in the records of agents and swarms; it implements Scopes.
type Rooms struct {
	DB     *database.DB
	Agents *agents.Store
	Swarms *swarms.Service
}

// Resolve implements Scopes.
func (r Rooms) Resolve(ctx context.Context, accountID, agentID, swarmID string) (Scope, error) {
	if swarmID != "" {
		return Scope{Swarm, swarmID}, r.Swarms.Exists(ctx, r.DB, accountID, swarmID)
	}
	shared, err := r.Agents.SwarmOf(ctx, r.DB, identity.AccountID(accountID), identity.AgentID(agentID))
	if err == nil && shared != "" {
		return Scope{Swarm, string(shared)}, nil
	}
	return Scope{Agent, agentID}, err
}

// OnSwarmDeleted is swarm.Service.OnDelete: the swarm's knowledge goes to the agents
// that are in it.
func (s *Service) OnSwarmDeleted(members swarms.Members) func(ctx context.Context, tx *database.Tx, accountID, swarmID string) error {
	return func(ctx context.Context, tx *database.Tx, accountID, swarmID string) error {
		found, err := members.InSwarm(ctx, tx, accountID, swarmID)
		if err != nil {
			return err
		}
		ids := make([]string, len(found))
		for i, a := range found {
			ids[i] = a.ID
		}
		return s.SwarmDeleted(ctx, tx, accountID, swarmID, ids)
	}
}
