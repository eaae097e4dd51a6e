package agent

import (
	"agento.host/agento/internal/identity"

	"context"
	"fmt"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/swarm"
)

// Members tells swarms which agents are in them; it implements swarm.Members.
type Members struct {
	Events *event.Log
	// Left is told, after the commit, of each agent that was taken out of a swarm.
	Left func(agentID string)
}

// CountBySwarm implements swarm.Members.
func (Members) CountBySwarm(ctx context.Context, q database.Querier, accountID string) (map[string]int, error) {
	type row struct {
		id string
		n  int
	}
	rows, err := database.All(ctx, q, func(r database.Row) (v row, err error) { return v, r.Scan(&v.id, &v.n) },
		`SELECT swarm_id, count(*) FROM agents WHERE account_id = $1 AND swarm_id <> '' AND wanted <> 'deleted' GROUP BY swarm_id`, accountID)
	counts := make(map[string]int, len(rows))
	for _, v := range rows {
		counts[v.id] = v.n
	}
	return counts, err
}

// InSwarm implements swarm.Members, newest first.
func (Members) InSwarm(ctx context.Context, q database.Querier, accountID, swarmID string) ([]swarm.AgentRow, error) {
	agents, err := inSwarm(ctx, q, accountID, swarmID)
	rows := make([]swarm.AgentRow, len(agents))
	for i := range agents {
		rows[i] = swarm.AgentRow{ID: agents[i].ID, Name: agents[i].Name, Status: string(agents[i].Status), CreatedAt: agents[i].CreatedAt}
	}
	return rows, err
}

// SwarmOf returns the swarm that an agent is in, or "" if it is in none.
// Faults: NotFound.
func (Members) SwarmOf(ctx context.Context, q database.Querier, account identity.AccountID, id identity.AgentID) (identity.SwarmID, error) {
	a, err := find(ctx, q, string(account), string(id))
	return identity.SwarmID(a.SwarmID), err
}

// LeaveSwarm implements swarm.Members.
func (m Members) LeaveSwarm(ctx context.Context, tx *database.Tx, accountID, swarmID, actor string) error {
	agents, err := inSwarm(ctx, tx, accountID, swarmID)
	if err != nil {
		return err
	}
	for i := range agents {
		id := agents[i].ID
		if _, err := tx.ExecContext(ctx, `UPDATE agents SET swarm_id = '' WHERE account_id = $1 AND id = $2`, accountID, id); err != nil {
			return fmt.Errorf("take agent %s out of its swarm: %w", id, err)
		}
		if m.Left != nil {
			tx.AfterCommit(func() { m.Left(id) })
		}
		e := event.Event{Topic: topic(id), Kind: "agent.updated", Data: map[string]any{"swarmId": nil}}
		if err := m.Events.Append(ctx, tx, identity.ParseActor(identity.AccountID(accountID), actor), e); err != nil {
			return err
		}
	}
	return nil
}

func inSwarm(ctx context.Context, q database.Querier, accountID, swarmID string) ([]Agent, error) {
	return database.All(ctx, q, scan,
		`SELECT `+columns+` FROM agents WHERE account_id = $1 AND swarm_id = $2 AND wanted <> 'deleted' ORDER BY created_at DESC, id DESC`, accountID, swarmID)
}
