package api

import (
	"context"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/identity"
)

// The methods of this file wait for an agent, until the server shuts down at the
// latest.

// waitCreated creates an agent and waits until it runs.
func (s *Server) waitCreated(ctx context.Context, actor identity.Actor, in client.CreateAgentRequest) (agent.Agent, error) {
	ctx, cancel := s.untilDrain(ctx)
	defer cancel()
	created, err := s.agents.CreateWithRoom(ctx, actor, in)
	if err != nil {
		return agent.Agent{}, err
	}
	return s.agents.AwaitCreated(ctx, actor, created)
}

func (s *Server) waitRunning(ctx context.Context, accepted agent.Accepted) (agent.Agent, error) {
	ctx, cancel := s.untilDrain(ctx)
	defer cancel()
	return s.agents.AwaitRunning(ctx, accepted)
}

func (s *Server) waitStopped(ctx context.Context, accepted agent.Accepted) (agent.Agent, error) {
	ctx, cancel := s.untilDrain(ctx)
	defer cancel()
	return s.agents.AwaitStopped(ctx, accepted)
}

func (s *Server) waitDeleted(ctx context.Context, accepted agent.Accepted) error {
	ctx, cancel := s.untilDrain(ctx)
	defer cancel()
	return s.agents.AwaitDeleted(ctx, accepted)
}

// checkNewAgent returns everything that is wrong with a request for a new agent.
// Faults: Invalid.
func (s *Server) checkNewAgent(ctx context.Context, in client.CreateAgentRequest) error {
	return s.agents.CheckNew(ctx, callerOf(ctx).AccountID, in)
}
