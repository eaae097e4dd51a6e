package api

import (
	"context"
	"maps"
	"slices"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/swarm"
	"agento.host/agento/internal/vault"
)

// SwarmID is the part of a path that names a swarm.
type SwarmID struct {
	ID identity.SwarmID `path:"id" doc:"Id of the swarm, a UUID." example:"b2c3d4e5-f6a1-4890-abcd-ef1234567890"`
}

func (s *Server) listSwarms(ctx context.Context, who access.Principal, _ *struct{}) (*reply[[]client.Swarm], error) {
	all, err := s.swarms.List(ctx, who.AccountID)
	if err != nil {
		return nil, err
	}
	rows := make([]client.Swarm, len(all))
	for i := range all {
		rows[i] = swarmJSON(all[i])
	}
	return one(rows), nil
}

type createSwarmInput struct{ Body client.CreateSwarmRequest }

func (s *Server) createSwarm(ctx context.Context, who access.Principal, in *createSwarmInput) (*reply[client.Swarm], error) {
	w, err := s.swarms.Create(ctx, who.Actor(), in.Body.Name, in.Body.Description, in.Body.Icon)
	if err != nil {
		return nil, err
	}
	return one(swarmJSON(w)), nil
}

func (s *Server) getSwarm(ctx context.Context, who access.Principal, in *SwarmID) (*reply[client.SwarmDetails], error) {
	d, err := s.swarms.Get(ctx, who.AccountID, in.ID)
	if err != nil {
		return nil, err
	}
	return one(swarmDetailsJSON(d)), nil
}

type updateSwarmInput struct {
	SwarmID
	Body client.UpdateSwarmRequest
}

func (s *Server) updateSwarm(ctx context.Context, who access.Principal, in *updateSwarmInput) (*reply[client.Swarm], error) {
	changes := swarm.Changes{Name: change(in.Body.Name), Description: change(in.Body.Description), Icon: change(in.Body.Icon)}
	w, err := s.swarms.Update(ctx, who.Actor(), in.ID, changes)
	if err != nil {
		return nil, err
	}
	return one(swarmJSON(w)), nil
}

func (s *Server) deleteSwarm(ctx context.Context, who access.Principal, in *SwarmID) (*reply[client.Deleted], error) {
	if err := s.swarms.Delete(ctx, who.Actor(), in.ID); err != nil {
		return nil, err
	}
	return one(client.Deleted{ID: string(in.ID), Deleted: true}), nil
}

func (s *Server) swarmSecrets(ctx context.Context, who access.Principal, in *SwarmID) (*reply[client.SwarmSecrets], error) {
	bound, err := s.swarms.SecretOrigins(ctx, who.AccountID, in.ID)
	if err != nil {
		return nil, err
	}
	secrets := client.SwarmSecrets{Secrets: make([]string, 0, len(bound)), Origins: make(map[string]string, len(bound))}
	for _, name := range slices.Sorted(maps.Keys(bound)) {
		secrets.Secrets = append(secrets.Secrets, string(name))
		secrets.Origins[string(name)] = string(bound[name])
	}
	return one(secrets), nil
}

type swarmSecretsInput struct {
	SwarmID
	Body client.SwarmSecretsRequest
}

func (s *Server) setSwarmSecrets(ctx context.Context, who access.Principal, in *swarmSecretsInput) (*reply[client.SecretsUpdated], error) {
	set := make(map[string]vault.Secret, len(in.Body.Secrets))
	for name, value := range in.Body.Secrets {
		set[name] = vault.NewSecret(value)
	}
	needsRestart, err := s.swarms.SetSecrets(ctx, who.Actor(), in.ID, swarm.SecretChange{Set: set, BaseURL: in.Body.BaseURL, Remove: in.Body.DeleteSecrets})
	if err != nil {
		return nil, err
	}
	return one(client.SecretsUpdated{Updated: true, NeedsRestart: needsRestart}), nil
}

// change returns the new value of a field; nil leaves it as it is, null clears it.
func change(o client.Optional[string]) *string {
	if !o.Set {
		return nil
	}
	return &o.Value
}

func swarmRef(w swarm.Swarm) *client.SwarmRef {
	if w.ID == "" {
		return nil
	}
	return &client.SwarmRef{ID: string(w.ID), Name: w.Name, Slug: w.Slug}
}

func swarmJSON(w swarm.Swarm) client.Swarm {
	return client.Swarm{
		ID: string(w.ID), Name: w.Name, Slug: w.Slug, Description: orNull(w.Description), Icon: orNull(w.Icon),
		AgentCount: w.AgentCount, MemberCount: w.MemberCount, CreatedAt: client.Time{Time: w.CreatedAt}, UpdatedAt: client.Time{Time: w.UpdatedAt},
	}
}

func swarmDetailsJSON(d swarm.Details) client.SwarmDetails {
	agents := make([]client.SwarmAgent, len(d.Agents))
	for i, a := range d.Agents {
		agents[i] = client.SwarmAgent{ID: string(a.ID), Name: a.Name, Status: client.AgentStatus(a.Status), CreatedAt: client.Time{Time: a.CreatedAt}}
	}
	return client.SwarmDetails{
		ID: string(d.ID), Name: d.Name, Slug: d.Slug, Description: orNull(d.Description), Icon: orNull(d.Icon),
		AgentCount: d.AgentCount, MemberCount: d.MemberCount, Agents: agents,
		CreatedAt: client.Time{Time: d.CreatedAt}, UpdatedAt: client.Time{Time: d.UpdatedAt},
	}
}
