package api

import (
	"context"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/starter"
)

func (s *Server) listStarters(context.Context, access.Principal, *struct{}) (*reply[[]client.Starter], error) {
	all := make([]client.Starter, 0, len(starter.All()))
	for _, v := range starter.All() {
		out := client.Starter{
			ID: v.ID, Name: v.Name, Description: v.Description, SoulMD: v.SoulMD, WorkflowMD: v.WorkflowMD,
			Rules: make([]client.StarterRule, len(v.Rules)), Skills: orEmpty(v.Skills),
		}
		for i, r := range v.Rules {
			out.Rules[i] = client.StarterRule(r)
		}
		all = append(all, out)
	}
	return one(all), nil
}
