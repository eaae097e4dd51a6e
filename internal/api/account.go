package api

import (
	"context"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
)

func (s *Server) account(ctx context.Context, who access.Principal, _ *struct{}) (*reply[client.Account], error) {
	a, err := s.access.Account(ctx, string(who.AccountID))
	if err != nil {
		return nil, err
	}
	plan, err := s.access.PlanOf(ctx, s.db, who.AccountID)
	if err != nil {
		return nil, err
	}
	agents, running, err := s.agents.Usage(ctx, who.AccountID)
	if err != nil {
		return nil, err
	}
	stored, err := s.access.StoredBytes(ctx, who.AccountID)
	if err != nil {
		return nil, err
	}
	return one(client.Account{
		ID: string(a.ID), Name: a.Name,
		Plan: client.Plan{
			ID: plan.ID, Name: plan.Name, Status: plan.Status,
			Limits:   client.PlanLimits{MaxAgents: plan.Limits.MaxAgents, MaxSkillsPerAgent: plan.Limits.MaxSkillsPerAgent, StorageBytes: plan.Limits.StorageBytes},
			Features: plan.Features,
		},
		Usage: client.AccountUsage{Agents: agents, RunningAgents: running, StorageBytes: stored},
	}), nil
}
