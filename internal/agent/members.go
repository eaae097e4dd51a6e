package agent

import (
	"context"
	"fmt"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/swarm"
)

// SwarmAgents implements swarm.Agents with the service.
type SwarmAgents struct{ Agents *Service }

// CountBySwarm implements swarm.Agents.
func (SwarmAgents) CountBySwarm(ctx context.Context, q database.Querier, account identity.AccountID) (map[identity.SwarmID]int, error) {
	type row struct {
		id identity.SwarmID
		n  int
	}
	rows, err := database.All(ctx, q, func(r database.Row) (v row, err error) { return v, r.Scan(&v.id, &v.n) },
		`SELECT swarm_id, count(*) FROM agents WHERE account_id = $1 AND swarm_id <> '' AND wanted <> 'deleted' GROUP BY swarm_id`, account)
	counts := make(map[identity.SwarmID]int, len(rows))
	for _, v := range rows {
		counts[v.id] = v.n
	}
	return counts, err
}

// InSwarm implements swarm.Agents.
func (SwarmAgents) InSwarm(ctx context.Context, q database.Querier, account identity.AccountID, id identity.SwarmID) ([]swarm.AgentRow, error) {
	agents, err := inSwarm(ctx, q, account, id)
	rows := make([]swarm.AgentRow, len(agents))
	for i := range agents {
		rows[i] = swarm.AgentRow{ID: agents[i].id(), Name: agents[i].Name, Status: string(agents[i].Status), CreatedAt: agents[i].CreatedAt}
	}
	return rows, err
}

// LeaveSwarm implements swarm.Agents.
func (s SwarmAgents) LeaveSwarm(ctx context.Context, tx *database.Tx, actor identity.Actor, id identity.SwarmID) error {
	agents, err := inSwarm(ctx, tx, actor.AccountID, id)
	if err != nil {
		return err
	}
	for i := range agents {
		agent := agents[i].id()
		if _, err := tx.ExecContext(ctx, `UPDATE agents SET swarm_id = '' WHERE account_id = $1 AND id = $2`, actor.AccountID, agent); err != nil {
			return fmt.Errorf("take agent %s out of its swarm: %w", agent, err)
		}
		s.Agents.Events.NotifyAfterCommit(tx, event.ReconcileTopic(agent))
		e := event.Event{Topic: event.AgentTopic(agent), Kind: "agent.updated", Data: map[string]any{"swarmId": nil}}
		if err := s.Agents.Events.Append(ctx, tx, actor, e); err != nil {
			return err
		}
	}
	return nil
}

// SwarmNeedsRestart implements swarm.Agents.
func (s SwarmAgents) SwarmNeedsRestart(ctx context.Context, account identity.AccountID, id identity.SwarmID) (bool, error) {
	agents, err := inSwarm(ctx, s.Agents.DB, account, id)
	if err != nil {
		return false, err
	}
	for i := range agents {
		v, err := s.Agents.view(ctx, s.Agents.DB, agents[i])
		if fault.Is(err, fault.NotFound) {
			continue // deleted since
		}
		if err != nil || v.NeedsRestart {
			return v.NeedsRestart, err
		}
	}
	return false, nil
}

func inSwarm(ctx context.Context, q database.Querier, account identity.AccountID, id identity.SwarmID) ([]Agent, error) {
	return database.All(ctx, q, scan,
		`SELECT `+columns+` FROM agents WHERE account_id = $1 AND swarm_id = $2 AND wanted <> 'deleted' ORDER BY created_at DESC, id DESC`, account, id)
}
