package api

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/channel"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/rest"
	"agento.host/agento/internal/swarm"
)

// AgentID is the part of a path that names an agent.
type AgentID struct {
	ID identity.AgentID `path:"id" doc:"Id of the agent, a UUID." example:"a1b2c3d4-e5f6-7890-abcd-ef1234567890"`
}

type createAgentInput struct {
	Prefer string `header:"Prefer" absent:"wait until the agent runs" doc:"respond-async returns 202 at once, with status provisioning."`
	Body   rest.Checked[client.CreateAgentRequest]
}

type createAgentReply struct {
	Status int
	Body   client.Data[client.CreatedAgent]
}

func (s *Server) createAgent(ctx context.Context, who access.Principal, in *createAgentInput) (*createAgentReply, error) {
	if strings.Contains(in.Prefer, "respond-async") {
		created, err := s.agents.Create(ctx, who.Actor(), in.Body.Value)
		return &createAgentReply{http.StatusAccepted, client.Data[client.CreatedAgent]{Data: createdJSON(created.Agent)}}, err
	}
	a, err := s.waitCreated(ctx, who.Actor(), in.Body.Value)
	if err != nil {
		return nil, err
	}
	return &createAgentReply{http.StatusCreated, client.Data[client.CreatedAgent]{Data: createdJSON(a)}}, nil
}

type listAgentsInput struct {
	Limit   int              `query:"limit" minimum:"1" maximum:"1000" doc:"Maximum number of agents. Default: all."`
	Offset  int              `query:"offset" minimum:"0" doc:"How many agents to skip."`
	Status  string           `query:"status" enum:"provisioning,starting,running,stopping,stopped,error" doc:"Only agents of this status."`
	SwarmID identity.SwarmID `query:"swarmId" absent:"list agents in any swarm and in none" doc:"Only agents of this swarm."`
	Search  string           `query:"search" absent:"list agents of any name" maxLength:"100" doc:"Only agents whose name contains this text, in upper or lower case."`
	Model   string           `query:"model" absent:"list agents of any model" maxLength:"128" doc:"Only agents that call this model."`
	Sort    string           `query:"sort" absent:"get the newest first" enum:"name,-name,created,-created,status,-status,model,-model,cost,-cost,lastMessage,-lastMessage,memory,-memory" doc:"Order of the list; after a hyphen the reverse. Default: -created."`
	Include []string         `query:"include" enum:"model,state,usage,lastMessage,memory" doc:"Fields to add, separated by commas: model; state adds power and lastError; usage adds costTodayMicros; lastMessage adds lastMessageAt; memory adds memoryBytes."`
}

func (in *listAgentsInput) include() agent.Include {
	has := func(name string) bool { return slices.Contains(in.Include, name) }
	return agent.Include{Model: has("model"), State: has("state"), Usage: has("usage"), LastMessage: has("lastMessage"), Memory: has("memory")}
}

func (s *Server) listAgents(ctx context.Context, who access.Principal, in *listAgentsInput) (*listReply[client.AgentSummary], error) {
	include := in.include()
	p, err := s.agents.List(ctx, who.AccountID, agent.Filter{
		Status: client.AgentStatus(in.Status), SwarmID: in.SwarmID, Search: in.Search, Limit: in.Limit, Offset: in.Offset,
		Model: in.Model, Sort: agent.Sort(in.Sort), Include: include,
	})
	if err != nil {
		return nil, err
	}
	rows := make([]client.AgentSummary, len(p.Agents))
	for i := range p.Agents {
		rows[i] = summaryJSON(&p.Agents[i], p.Swarms)
		addIncluded(&rows[i], &p.Agents[i], include)
	}
	limit := in.Limit
	if limit == 0 {
		limit = lengthAsLimit(rows)
	}
	return page(rows, p.Total, limit, in.Offset), nil
}

func (s *Server) getAgent(ctx context.Context, who access.Principal, in *AgentID) (*reply[client.Agent], error) {
	v, err := s.agents.View(ctx, who.AccountID, in.ID)
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
	v, err := s.agents.Update(ctx, who.Actor(), in.ID, in.Body)
	if err != nil {
		return nil, err
	}
	return one(client.UpdatedAgent{ID: string(v.ID), Name: v.Name, Status: v.Status, NeedsRestart: v.NeedsRestart, NeedsKey: v.NeedsKey}), nil
}

func (s *Server) deleteAgent(ctx context.Context, who access.Principal, in *AgentID) (*reply[client.Deleted], error) {
	accepted, err := s.agents.Delete(ctx, who.Actor(), in.ID)
	if err != nil {
		return nil, err
	}
	if err := s.waitDeleted(ctx, accepted); err != nil {
		return nil, err
	}
	return one(client.Deleted{ID: string(in.ID), Deleted: true}), nil
}

// stateInput is a request to start, stop or restart an agent.
type stateInput struct {
	AgentID
	Prefer string `header:"Prefer" absent:"wait until it is done" doc:"respond-async returns 202 at once."`
}

func (in *stateInput) waits() bool { return !strings.Contains(in.Prefer, "respond-async") }

// stateReply answers 200 when the agent is in the desired state, 202 to a caller that does not wait.
type stateReply[T any] struct {
	Status int
	Body   client.Data[T]
}

func (s *Server) startAgent(ctx context.Context, who access.Principal, in *stateInput) (*stateReply[client.StartedAgent], error) {
	accepted, err := s.agents.Start(ctx, who.Actor(), in.ID)
	if err != nil {
		return nil, err
	}
	return s.started(ctx, in, accepted)
}

func (s *Server) restartAgent(ctx context.Context, who access.Principal, in *stateInput) (*stateReply[client.StartedAgent], error) {
	accepted, err := s.agents.Restart(ctx, who.Actor(), in.ID)
	if err != nil {
		return nil, err
	}
	return s.started(ctx, in, accepted)
}

func (s *Server) started(ctx context.Context, in *stateInput, accepted agent.Accepted) (*stateReply[client.StartedAgent], error) {
	if !in.waits() {
		a := accepted.Agent
		a.Status = accepted.NextStatus(client.Starting)
		return &stateReply[client.StartedAgent]{http.StatusAccepted, client.Data[client.StartedAgent]{Data: startedJSON(a)}}, nil
	}
	a, err := s.waitRunning(ctx, accepted)
	if err != nil {
		return nil, err
	}
	return &stateReply[client.StartedAgent]{http.StatusOK, client.Data[client.StartedAgent]{Data: startedJSON(a)}}, nil
}

func (s *Server) stopAgent(ctx context.Context, who access.Principal, in *stateInput) (*stateReply[client.StoppedAgent], error) {
	accepted, err := s.agents.Stop(ctx, who.Actor(), in.ID)
	if err != nil {
		return nil, err
	}
	a, status := accepted.Agent, http.StatusAccepted
	if a.Status = accepted.NextStatus(client.Stopping); in.waits() {
		if a, err = s.waitStopped(ctx, accepted); err != nil {
			return nil, err
		}
		status = http.StatusOK
	}
	stopped := client.StoppedAgent{ID: string(a.ID), Status: a.Status, StoppedAt: client.NewTime(a.StoppedAt)}
	return &stateReply[client.StoppedAgent]{status, client.Data[client.StoppedAgent]{Data: stopped}}, nil
}

func (s *Server) agentStatus(ctx context.Context, who access.Principal, in *AgentID) (*reply[client.LiveStatus], error) {
	status, err := s.status.Status(ctx, who.AccountID, in.ID)
	if err != nil {
		return nil, err
	}
	return one(status), nil
}

type secretsInput struct {
	AgentID
	Body client.SecretsRequest
}

func (s *Server) setSecrets(ctx context.Context, who access.Principal, in *secretsInput) (*reply[client.SecretsUpdated], error) {
	needsRestart, err := s.agents.SetSecrets(ctx, who.Actor(), in.ID, in.Body)
	if err != nil {
		return nil, err
	}
	return one(client.SecretsUpdated{Updated: true, NeedsRestart: needsRestart}), nil
}

func (s *Server) agentSecrets(ctx context.Context, who access.Principal, in *AgentID) (*reply[client.AgentSecrets], error) {
	bound, err := s.agents.SecretOrigins(ctx, who.AccountID, in.ID)
	if err != nil {
		return nil, err
	}
	secrets := client.AgentSecrets{Secrets: make([]string, 0, len(bound)), Origins: map[string]string{}}
	for _, name := range slices.Sorted(maps.Keys(bound)) {
		secrets.Secrets = append(secrets.Secrets, string(name))
		if origin := bound[name]; origin != "" {
			secrets.Origins[string(name)] = string(origin)
		}
	}
	return one(secrets), nil
}

func (s *Server) rotateTokens(ctx context.Context, who access.Principal, in *AgentID) (*reply[client.TokensRotated], error) {
	rotated, err := s.agents.RotateTokens(ctx, who.Actor(), in.ID)
	if err != nil {
		return nil, err
	}
	return one(rotated), nil
}

func createdJSON(a agent.Agent) client.CreatedAgent {
	return client.CreatedAgent{
		ID: string(a.ID), Name: a.Name, Status: a.Status, Region: a.Region,
		CreatedAt: client.Time{Time: a.CreatedAt}, StartedAt: client.NewTime(a.StartedAt),
	}
}

func startedJSON(a agent.Agent) client.StartedAgent {
	return client.StartedAgent{ID: string(a.ID), Status: a.Status, StartedAt: client.NewTime(a.StartedAt)}
}

func summaryJSON(a *agent.Summary, swarms map[identity.SwarmID]swarm.Swarm) client.AgentSummary {
	row := client.AgentSummary{
		ID: string(a.ID), Name: a.Name, Status: a.Status, Region: a.Region, Image: openclaw.Image,
		CreatedAt: client.Time{Time: a.CreatedAt}, StartedAt: client.NewTime(a.StartedAt), StoppedAt: client.NewTime(a.StoppedAt),
	}
	row.Swarm = swarmRef(swarms[a.SwarmID])
	return row
}

// addIncluded adds what a list includes beside the records.
func addIncluded(row *client.AgentSummary, a *agent.Summary, in agent.Include) {
	if in.Model {
		row.Model = &a.Model
	}
	if in.State {
		row.Power, row.LastError = string(a.Power), a.LastError
	}
	if in.Usage {
		row.CostTodayMicros = &a.CostToday
	}
	if in.LastMessage {
		row.LastMessageAt = client.NewTime(a.LastMessageAt)
	}
	if in.Memory {
		row.MemoryBytes = &a.MemoryBytes
	}
}

func agentJSON(v agent.View) client.Agent {
	return client.Agent{
		ID: string(v.ID), Name: v.Name, Status: v.Status, Region: v.Region, Image: openclaw.Image,
		AvatarURL: orNull(v.AvatarURL), Config: v.ShownConfig(), WorkflowMD: v.WorkflowMD, Swarm: swarmRef(v.Swarm),
		CreatedAt: client.Time{Time: v.CreatedAt}, StartedAt: client.NewTime(v.StartedAt), StoppedAt: client.NewTime(v.StoppedAt),
		LastError: orNull(v.LastError), ErrorCategory: orNull(string(v.ErrorCategory)), NeedsRestart: v.NeedsRestart, NeedsKey: v.NeedsKey,
		Channels: channelsJSON(v.Channels),
	}
}

func channelsJSON(states map[channel.Name]channel.State) map[string]client.Channel {
	all := make(map[string]client.Channel, len(states))
	for name, s := range states {
		all[string(name)] = client.Channel{Status: string(s.Status), Error: orNull(s.Error), Since: client.NewTime(s.Since)}
	}
	return all
}
