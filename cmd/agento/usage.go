package main

import (
	"context"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/swarm"
	"agento.host/agento/internal/usage"
)

// usageService returns the service that reads usage, with the names that the others know.
func usageService(db *database.DB, agents *agent.Service, swarms *swarm.Store, accounts *access.Service) *usage.Service {
	return usage.New(usage.Settings{
		DB: db,
		Agents: func(ctx context.Context, account identity.AccountID) (map[string]string, error) {
			page, err := agents.List(ctx, account, agent.Filter{})
			names := map[string]string{}
			for _, a := range page.Agents {
				names[string(a.ID)] = a.Name
			}
			return names, err
		},
		Swarms: func(ctx context.Context, account identity.AccountID) (map[string]string, error) {
			all, err := swarms.Names(ctx, db, account)
			names := map[string]string{}
			for id, s := range all {
				names[string(id)] = s.Name
			}
			return names, err
		},
		Keys: func(ctx context.Context, account identity.AccountID) (map[string]string, error) {
			all, err := accounts.Keys(ctx, account)
			names := map[string]string{}
			for _, k := range all {
				names[string(k.ID)] = k.Label
			}
			return names, err
		},
	})
}
