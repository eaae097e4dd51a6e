package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/swarm"
)

// AgentID is the input of every route of one agent that takes nothing else.
type AgentID struct {
	ID string `path:"id" doc:"Agent UUID."`
}

// accountOf and actorOf return who a request is made for and by.
func accountOf(who access.Principal) identity.AccountID { return identity.AccountID(who.AccountID) }

func actorOf(who access.Principal) identity.Actor {
	return identity.ByKey(identity.AccountID(who.AccountID), identity.KeyID(who.KeyID))
}

type createAgentInput struct {
	Prefer string `header:"Prefer" doc:"respond-async answers 202 at once, with status provisioning."`
	Body   client.CreateAgentRequest
}

// Resolve names what the rules find wrong beside what the schema finds wrong, so
// that the caller reads of every broken field at once.
func (in *createAgentInput) Resolve(ctx huma.Context) []error {
	agents, ok := ctx.Context().Value(agentsRoom{}).(*agent.Service)
	if !ok {
		return nil
	}
	return details(agents.CheckNew(ctx.Context(), accountOf(callerOf(ctx.Context())), in.Body))
}

type createAgentReply struct {
	Status int
	Body   client.Data[client.CreatedAgent]
}

func (s *Server) createAgent(ctx context.Context, who access.Principal, in *createAgentInput) (*createAgentReply, error) {
	accepted, err := s.Agents.Create(ctx, actorOf(who), in.Body)
	if err != nil {
		return nil, err
	}
	if strings.Contains(in.Prefer, "respond-async") {
		return &createAgentReply{http.StatusAccepted, client.Data[client.CreatedAgent]{Data: createdJSON(accepted.Agent)}}, nil
	}
	ctx, stop := s.untilDrain(ctx)
	defer stop()
	a, err := s.Agents.AwaitRunning(ctx, accepted)
	if err != nil {
		return nil, err
	}
	return &createAgentReply{http.StatusCreated, client.Data[client.CreatedAgent]{Data: createdJSON(a)}}, nil
}

func (s *Server) listAgents(ctx context.Context, who access.Principal, _ *struct{}) (*listReply[client.AgentSummary], error) {
	agents, swarms, err := s.Agents.List(ctx, accountOf(who))
	if err != nil {
		return nil, err
	}
	rows := make([]client.AgentSummary, len(agents))
	for i := range agents {
		rows[i] = summaryJSON(&agents[i], swarms)
	}
	return many(rows), nil
}

func (s *Server) getAgent(ctx context.Context, who access.Principal, in *AgentID) (*reply[client.Agent], error) {
	v, err := s.Agents.View(ctx, accountOf(who), identity.AgentID(in.ID))
	if err != nil {
		return nil, err
	}
	return one(agentJSON(v)), nil
}

type updateAgentInput struct {
	AgentID
	Body client.UpdateAgentRequest
}

func (s *Server) updateAgent(ctx context.Context, who access.Principal, in *updateAgentInput) (*reply[client.UpdatedAgent], error) {
	v, err := s.Agents.Update(ctx, actorOf(who), identity.AgentID(in.ID), in.Body)
	if err != nil {
		return nil, err
	}
	return one(client.UpdatedAgent{ID: string(v.ID), Name: v.Name, Status: v.Status, NeedsRestart: v.NeedsRestart}), nil
}

func (s *Server) deleteAgent(ctx context.Context, who access.Principal, in *AgentID) (*reply[client.Deleted], error) {
	accepted, err := s.Agents.Delete(ctx, actorOf(who), identity.AgentID(in.ID))
	if err != nil {
		return nil, err
	}
	ctx, stop := s.untilDrain(ctx)
	defer stop()
	if err := s.Agents.AwaitDeleted(ctx, accepted); err != nil {
		return nil, err
	}
	return one(client.Deleted{ID: in.ID, Deleted: true}), nil
}

func (s *Server) startAgent(ctx context.Context, who access.Principal, in *AgentID) (*reply[client.StartedAgent], error) {
	accepted, err := s.Agents.Start(ctx, actorOf(who), identity.AgentID(in.ID))
	return s.started(ctx, accepted, err)
}

func (s *Server) restartAgent(ctx context.Context, who access.Principal, in *AgentID) (*reply[client.StartedAgent], error) {
	accepted, err := s.Agents.Restart(ctx, actorOf(who), identity.AgentID(in.ID))
	return s.started(ctx, accepted, err)
}

func (s *Server) started(ctx context.Context, accepted agent.Accepted, err error) (*reply[client.StartedAgent], error) {
	if err != nil {
		return nil, err
	}
	ctx, stop := s.untilDrain(ctx)
	defer stop()
	a, err := s.Agents.AwaitRunning(ctx, accepted)
	if err != nil {
		return nil, err
	}
	return one(client.StartedAgent{ID: string(a.ID), Status: a.Status, StartedAt: client.NewTime(a.StartedAt)}), nil
}

func (s *Server) stopAgent(ctx context.Context, who access.Principal, in *AgentID) (*reply[client.StoppedAgent], error) {
	accepted, err := s.Agents.Stop(ctx, actorOf(who), identity.AgentID(in.ID))
	if err != nil {
		return nil, err
	}
	ctx, stop := s.untilDrain(ctx)
	defer stop()
	a, err := s.Agents.AwaitStopped(ctx, accepted)
	if err != nil {
		return nil, err
	}
	return one(client.StoppedAgent{ID: string(a.ID), Status: a.Status, StoppedAt: client.NewTime(a.StoppedAt)}), nil
}

func (s *Server) agentStatus(ctx context.Context, who access.Principal, in *AgentID) (*reply[client.LiveStatus], error) {
	live, err := s.Status.Status(ctx, accountOf(who), identity.AgentID(in.ID))
	if err != nil {
		return nil, err
	}
	return one(live), nil
}

type secretsInput struct {
	AgentID
	Body client.SecretsRequest
}

func (s *Server) setSecrets(ctx context.Context, who access.Principal, in *secretsInput) (*reply[client.SecretsUpdated], error) {
	stale, err := s.Agents.SetSecrets(ctx, actorOf(who), identity.AgentID(in.ID), in.Body)
	if err != nil {
		return nil, err
	}
	return one(client.SecretsUpdated{Updated: true, NeedsRestart: stale}), nil
}

func createdJSON(a agent.Agent) client.CreatedAgent {
	return client.CreatedAgent{
		ID: string(a.ID), Name: a.Name, Status: a.Status, Region: a.Region,
		CreatedAt: client.Time{Time: a.CreatedAt}, StartedAt: client.NewTime(a.StartedAt),
	}
}

func summaryJSON(a *agent.Agent, swarms map[identity.SwarmID]swarm.Swarm) client.AgentSummary {
	row := client.AgentSummary{
		ID: string(a.ID), Name: a.Name, Status: a.Status, Region: a.Region, Image: openclaw.Image,
		CreatedAt: client.Time{Time: a.CreatedAt}, StartedAt: client.NewTime(a.StartedAt), StoppedAt: client.NewTime(a.StoppedAt),
	}
	row.Swarm = swarmRef(swarms[a.SwarmID])
	return row
}

func agentJSON(v agent.View) client.Agent {
	return client.Agent{
		ID: string(v.ID), Name: v.Name, Status: v.Status, Region: v.Region, Image: openclaw.Image,
		AvatarURL: orNull(v.AvatarURL), Config: v.ShownConfig(), WorkflowMD: v.WorkflowMD, Swarm: swarmRef(v.Swarm),
		CreatedAt: client.Time{Time: v.CreatedAt}, StartedAt: client.NewTime(v.StartedAt), StoppedAt: client.NewTime(v.StoppedAt),
		LastError: orNull(v.LastError), ErrorCategory: orNull(string(v.ErrorCategory)), NeedsRestart: v.NeedsRestart,
	}
}

func swarmRef(w swarm.Swarm) *client.SwarmRef {
	if w.ID == "" {
		return nil
	}
	return &client.SwarmRef{ID: w.ID, Name: w.Name, Slug: w.Slug}
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
