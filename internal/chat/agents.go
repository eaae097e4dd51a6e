package chat

import (
	"context"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/identity"
)

// The functions of this file are all that the package calls of the agent service.

// findAgent returns an agent of the account. Faults: NotFound.
func (s *Service) findAgent(ctx context.Context, account identity.AccountID, id identity.AgentID) (agent.Agent, error) {
	return s.agents.Find(ctx, access.Principal{AccountID: string(account)}, string(id))
}

// checkRunning returns nil for an agent that runs or is starting. Faults: NotRunning.
func checkRunning(a agent.Agent) error { return agent.MayRun(a) }

// listWithChannels returns the running agents, of every account, that are connected to
// a channel.
func (s *Service) listWithChannels(ctx context.Context) ([]agent.Agent, error) {
	return s.agents.WithChannels(ctx)
}

// connect returns the connection to a running agent's gateway. It waits for a gateway
// that is starting. Faults: NotFound; NotRunning.
func (s *Service) connect(ctx context.Context, id identity.AgentID) (*agent.Gateway, error) {
	return s.agents.Gateway(ctx, string(id))
}
