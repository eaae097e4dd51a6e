package agent

import (
	"context"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/swarm"
)

// SwarmMembers implements swarm.Members with the service.
type SwarmMembers struct{ Agents *Service }

// CountBySwarm implements swarm.Members.
func (m SwarmMembers) CountBySwarm(ctx context.Context, q database.Querier, accountID string) (map[string]int, error) {
	counts, err := m.Agents.CountBySwarm(ctx, q, identity.AccountID(accountID))
	converted := make(map[string]int, len(counts))
	for id, n := range counts {
		converted[string(id)] = n
	}
	return converted, err
}

// InSwarm implements swarm.Members.
func (m SwarmMembers) InSwarm(ctx context.Context, q database.Querier, accountID, swarmID string) ([]swarm.AgentRow, error) {
	return m.Agents.InSwarm(ctx, q, identity.AccountID(accountID), identity.SwarmID(swarmID))
}

// LeaveSwarm implements swarm.Members.
func (m SwarmMembers) LeaveSwarm(ctx context.Context, tx *database.Tx, accountID, swarmID, actor string) error {
	return m.Agents.LeaveSwarm(ctx, tx, identity.ParseActor(identity.AccountID(accountID), actor), identity.SwarmID(swarmID))
}

// SkillAgents implements what package skill needs of agents with the service.
type SkillAgents struct{ Agents *Service }

// Apply implements skill.Applier.
func (s SkillAgents) Apply(ctx context.Context, accountID, agentID string) (needsRestart bool, err error) {
	return s.Agents.Sync(ctx, identity.AccountID(accountID), identity.AgentID(agentID))
}

// Exists implements skill.Settings.Agent.
func (s SkillAgents) Exists(ctx context.Context, q database.Querier, accountID, agentID string) error {
	return s.Agents.Exists(ctx, q, identity.AccountID(accountID), identity.AgentID(agentID))
}
