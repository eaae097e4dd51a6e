package knowledge

import (
	"context"

	"agento.host/agento/internal/access"
	agents "agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	swarms "agento.host/agento/internal/swarm"
)

// Rooms finds scopes in the records of agents and swarms; it implements Scopes.
type Rooms struct {
	DB     *database.DB
	Agents *agents.Service
	Swarms *swarms.Service
}

// Resolve implements Scopes.
func (r Rooms) Resolve(ctx context.Context, accountID, agentID, swarmID string) (Scope, error) {
	if swarmID != "" {
		return Scope{Swarm, swarmID}, r.Swarms.Exists(ctx, r.DB, accountID, swarmID)
	}
	a, err := r.Agents.Find(ctx, access.Principal{AccountID: accountID}, agentID)
	if err == nil && a.SwarmID != "" {
		return Scope{Swarm, a.SwarmID}, nil
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
