package agent

import (
	"context"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/swarm"
)

// CountBySwarm counts an account's agents by swarm. A swarm without agents is not in
// the result.
func (s *Service) CountBySwarm(ctx context.Context, q database.Reader, account identity.AccountID) (map[identity.SwarmID]int, error) {
	return s.store.CountBySwarm(ctx, q, account)
}

// InSwarm lists a swarm's agents, newest first.
func (s *Service) InSwarm(ctx context.Context, q database.Reader, account identity.AccountID, id identity.SwarmID) ([]swarm.AgentRow, error) {
	agents, err := s.store.ListInSwarm(ctx, q, account, id)
	rows := make([]swarm.AgentRow, len(agents))
	for i := range agents {
		rows[i] = swarm.AgentRow{ID: agents[i].ID, Name: agents[i].Name, Status: string(agents[i].Status), CreatedAt: agents[i].CreatedAt}
	}
	return rows, err
}

// LeaveSwarm removes every agent from a swarm. Their gateways are checked after the
// commit, because their keys may have been the swarm's.
func (s *Service) LeaveSwarm(ctx context.Context, tx *database.Tx, actor identity.Actor, id identity.SwarmID) error {
	agents, err := s.store.ListInSwarm(ctx, tx, actor.AccountID, id)
	if err != nil {
		return err
	}
	if err := s.store.clearSwarm(ctx, tx, actor.AccountID, id); err != nil {
		return err
	}
	for i := range agents {
		if err := s.appendEvent(ctx, tx, actor, agents[i].ID, "agent.updated", map[string]any{"swarmId": nil}); err != nil {
			return err
		}
		s.events.NotifyAfterCommit(tx, event.ReconcileTopic(agents[i].ID))
	}
	return nil
}

// SwarmNeedsRestart reports whether an agent of the swarm waits for a restart, for
// example because the swarm's keys have changed which provider it uses. The number
// of queries does not grow with the number of agents.
func (s *Service) SwarmNeedsRestart(ctx context.Context, account identity.AccountID, id identity.SwarmID) (bool, error) {
	agents, err := s.store.ListInSwarm(ctx, s.db, account, id)
	if err != nil {
		return false, err
	}
	return s.gateways.AnyNeedsRestart(ctx, s.db, account, agents)
}
