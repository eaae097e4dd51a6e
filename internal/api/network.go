package api

import (
	"context"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/egress"
)

func (s *Server) agentNetwork(ctx context.Context, who access.Principal, in *AgentID) (*reply[client.Network], error) {
	p, err := s.agents.Egress(ctx, who.AccountID, in.ID)
	if err != nil {
		return nil, err
	}
	r, err := s.network.Report(ctx, who.AccountID, in.ID)
	if err != nil {
		return nil, err
	}
	return one(networkJSON(p, s.network.Limits(), r)), nil
}

func networkJSON(p egress.Policy, l egress.Limits, r egress.Report) client.Network {
	n := client.Network{
		Egress: string(p.Mode), Hosts: []string{}, Connections: r.Connections,
		Limits: client.NetworkLimits{
			Connections: l.Connections, BytesPerSecond: l.BytesPerSecond, DNSQueriesPerSecond: l.QueriesPerSecond,
			DialSeconds: int(l.DialTimeout / time.Second), IdleSeconds: int(l.IdleTimeout / time.Second),
		},
		Destinations: make([]client.NetworkDestination, len(r.Destinations)), Refused: make([]client.RefusedDestination, len(r.Refused)),
	}
	if p.Mode != egress.Open {
		n.Hosts = p.HostNames()
	}
	for i, d := range r.Destinations {
		n.Destinations[i] = client.NetworkDestination{
			Host: d.Host, Port: int(d.Port), Connections: d.Connections, Failed: d.Failed, BytesIn: d.BytesIn, BytesOut: d.BytesOut, LastAt: client.NewTime(d.LastAt),
		}
	}
	for i, f := range r.Refused {
		n.Refused[i] = client.RefusedDestination{
			Host: f.Host, Port: int(f.Port), Reason: string(f.Reason), Message: f.Detail + ".", Allow: p.AllowText(f), Count: f.Count, LastAt: client.NewTime(f.LastAt),
		}
	}
	return n
}
