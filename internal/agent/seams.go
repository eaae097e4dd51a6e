package agent

import (
	"context"
	"fmt"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

// Apply implements skill.Applier: Sync, for a caller that has been identified.
func (s *Service) Apply(ctx context.Context, accountID, agentID string) (needsRestart bool, err error) {
	return s.Sync(ctx, access.Principal{AccountID: identity.AccountID(accountID)}, agentID)
}

// WorkspaceAgents implements workspace.Agents with the service.
type WorkspaceAgents struct{ Agents *Service }

// Absorb implements workspace.Agents.
func (w WorkspaceAgents) Absorb(ctx context.Context, account identity.AccountID, agent identity.AgentID) error {
	return w.Agents.Absorb(ctx, access.Principal{AccountID: account}, string(agent))
}

// Sync implements workspace.Agents.
func (w WorkspaceAgents) Sync(ctx context.Context, account identity.AccountID, agent identity.AgentID) (needsRestart bool, err error) {
	return w.Agents.Sync(ctx, access.Principal{AccountID: account}, string(agent))
}

// Exists says whether the account has such an agent. Give it the transaction in
// which something is added to the agent. Faults: NotFound.
func (s *Service) Exists(ctx context.Context, q database.Querier, accountID, agentID string) error {
	_, err := find(ctx, q, accountID, agentID)
	return err
}

// WithChannels returns the running agents, of every account, that are connected to
// a channel.
func (s *Service) WithChannels(ctx context.Context) ([]Agent, error) {
	// The last condition follows from the second; by it SQLite finds agents_open.
	running, err := database.All(ctx, s.DB, scan, `SELECT `+columns+` FROM agents WHERE status = 'running' AND wanted = 'running'
		 AND (wanted <> 'stopped' OR settled < wish OR place <> '')`)
	if err != nil {
		return nil, fmt.Errorf("list running agents: %w", err)
	}
	connected := running[:0]
	for i := range running {
		names, err := s.body.secretNames(ctx, s.DB, running[i])
		if err != nil {
			return nil, err
		}
		if names[TelegramToken] && running[i].Config.Channel("telegram") || names[SlackBotToken] && names[SlackAppToken] && running[i].Config.Channel("slack") {
			connected = append(connected, running[i])
		}
	}
	return connected, nil
}
