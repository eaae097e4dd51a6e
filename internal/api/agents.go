package api

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/channel"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/provider"
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
	Sort    string           `query:"sort" enum:"created,name,lastUsed" absent:"list the newest first" doc:"Order: created (the newest first), name (from A to Z), or lastUsed (the one that was used last first)."`
	Details bool             `query:"details" absent:"list without details" doc:"Whether each agent has details. Then limit is needed, and is at most 200."`
}

func (s *Server) listAgents(ctx context.Context, who access.Principal, in *listAgentsInput) (*listReply[client.AgentSummary], error) {
	if in.Details && (in.Limit == 0 || in.Limit > maxDetails) {
		return nil, fault.Fields{"limit": fmt.Sprintf("must be from 1 to %d with details", maxDetails)}.Err()
	}
	order := agent.Order(in.Sort)
	if in.Sort == "created" {
		order = agent.ByCreation
	}
	p, err := s.agents.List(ctx, who.AccountID, agent.Filter{
		Status: client.AgentStatus(in.Status), SwarmID: in.SwarmID, Search: in.Search, Order: order, Limit: in.Limit, Offset: in.Offset,
	})
	if err != nil {
		return nil, err
	}
	rows := make([]client.AgentSummary, len(p.Agents))
	for i := range p.Agents {
		rows[i] = summaryJSON(&p.Agents[i], p.Swarms)
	}
	if in.Details {
		if err := s.addDetails(ctx, who.AccountID, rows); err != nil {
			return nil, err
		}
	}
	limit := in.Limit
	if limit == 0 {
		limit = lengthAsLimit(rows)
	}
	return page(rows, p.Total, limit, in.Offset), nil
}

// maxDetails is how many rows of a list may have details.
const maxDetails = 200

// addDetails adds what a list does not show otherwise: from the records, and from the last
// reports on the gateways.
func (s *Server) addDetails(ctx context.Context, account identity.AccountID, rows []client.AgentSummary) error {
	ids := make([]identity.AgentID, len(rows))
	for i := range rows {
		ids[i] = identity.AgentID(rows[i].ID)
	}
	records, err := s.agents.Records(ctx, account, ids)
	if err != nil {
		return err
	}
	for i := range rows {
		a, ok := records[ids[i]]
		if !ok {
			continue // it was deleted just now
		}
		d := &client.AgentDetails{Model: a.Config.Model(), LastUsedAt: client.NewTime(a.LastUsedAt), Asleep: a.IsAsleep(), LastError: orNull(a.LastError), ErrorCategory: orNull(string(a.ErrorCategory))}
		if p, known := provider.Find(a.Config.Provider()); known && d.Model == "" {
			d.Model = p.DefaultModel
		}
		if r, recent := s.status.Recent(ctx, a); recent {
			d.MemoryBytes = &r.MemoryBytes
		}
		rows[i].Details = d
	}
	return nil
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
