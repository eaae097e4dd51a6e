package api

import (
	"context"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
)

func (s *Server) account(ctx context.Context, who access.Principal, _ *struct{}) (*reply[client.Account], error) {
	a, plan, usage, err := s.readAccount(ctx, who)
	if err != nil {
		return nil, err
	}
	return one(client.Account{
		ID: a.ID, Name: a.Name,
		Plan: client.Plan{
			ID: plan.ID, Name: plan.Name, Status: plan.Status,
			Limits:   client.PlanLimits{MaxAgents: plan.Limits.MaxAgents, MaxSkillsPerAgent: plan.Limits.MaxSkillsPerAgent},
			Features: plan.Features,
		},
		Usage: usage,
	}), nil
}
