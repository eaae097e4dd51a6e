package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// AgentStatus is the status of an agent.
type AgentStatus string

// The statuses of an agent.
const (
	Provisioning AgentStatus = "provisioning" // new: its gateway is being created
	Starting     AgentStatus = "starting"
	Running      AgentStatus = "running"
	Stopping     AgentStatus = "stopping"
	Stopped      AgentStatus = "stopped"
	Errored      AgentStatus = "error"
)

// AgentStatuses returns all statuses of an agent.
func AgentStatuses() []AgentStatus {
	return []AgentStatus{Provisioning, Starting, Running, Stopping, Stopped, Errored}
}

// AgentSummary is one row of the list of agents.
type AgentSummary struct {
	ID        string      `json:"id" doc:"Id of the agent, a UUID." example:"a1b2c3d4-e5f6-7890-abcd-ef1234567890"`
	Name      string      `json:"name" doc:"Display name." example:"My Assistant"`
	Status    AgentStatus `json:"status" doc:"Whether the agent runs."`
	Region    string      `json:"region" doc:"Region of the servers that the agent may run on." example:"eu"`
	Image     string      `json:"image" doc:"Version of OpenClaw that the agent runs." example:"openclaw/openclaw:latest"`
	Swarm     *SwarmRef   `json:"swarm" doc:"The swarm that the agent belongs to; null: none."`
	CreatedAt Time        `json:"createdAt" doc:"When the agent was created."`
	StartedAt *Time       `json:"startedAt" doc:"When the agent last became running; null: never."`
	StoppedAt *Time       `json:"stoppedAt" doc:"When the agent was last stopped; null while it has not been stopped since its last start."`

	// What AgentQuery.Include adds.
	Model           *string `json:"model,omitempty" doc:"With include=model: the model that the agent calls; empty if it has no key yet." example:"claude-sonnet-5"`
	Power           string  `json:"power,omitempty" doc:"With include=state: how much of a running agent is in memory. asleep and frozen: a message wakes it." values:"awake,asleep,frozen" example:"awake"`
	LastError       string  `json:"lastError,omitempty" doc:"With include=state: what is wrong, and what to do. Left out if nothing is."`
	CostTodayMicros *int64  `json:"costTodayMicros,omitempty" doc:"With include=usage: the price of its model calls since midnight UTC, in millionths of a US dollar, without calls of unknown price."`
	LastMessageAt   *Time   `json:"lastMessageAt,omitempty" doc:"With include=lastMessage: when the newest message of its sessions was stored. Left out if it has none."`
	MemoryBytes     *int64  `json:"memoryBytes,omitempty" doc:"With include=memory: what its gateway was last measured to use; 0: it was not measured."`
}

// SwarmRef names the swarm of an agent.
type SwarmRef struct {
	ID   string `json:"id" doc:"Id of the swarm, a UUID."`
	Name string `json:"name" doc:"Name of the swarm." example:"Growth"`
	Slug string `json:"slug" doc:"Slug of the swarm." example:"growth"`
}

// Agent is one agent, without its secrets.
type Agent struct {
	ID            string         `json:"id" doc:"Id of the agent, a UUID." example:"a1b2c3d4-e5f6-7890-abcd-ef1234567890"`
	Name          string         `json:"name" doc:"Display name." example:"My Assistant"`
	Status        AgentStatus    `json:"status" doc:"Whether the agent runs."`
	Region        string         `json:"region" doc:"Region of the servers that the agent may run on." example:"eu"`
	Image         string         `json:"image" doc:"Version of OpenClaw that the agent runs." example:"openclaw/openclaw:latest"`
	AvatarURL     *string        `json:"avatarUrl" doc:"Address of an image; null: none."`
	Config        map[string]any `json:"config" doc:"Configuration: the keys of the guide Agents, and keys of yours. It has no secrets."`
	WorkflowMD    string         `json:"workflowMd" doc:"Content of WORKFLOW.md: the role and procedures of the agent."`
	Swarm         *SwarmRef      `json:"swarm" doc:"The swarm that the agent belongs to; null: none."`
	CreatedAt     Time           `json:"createdAt" doc:"When the agent was created."`
	StartedAt     *Time          `json:"startedAt" doc:"When the agent last became running; null: never."`
	StoppedAt     *Time          `json:"stoppedAt" doc:"When the agent was last stopped; null while it has not been stopped since its last start."`
	LastError     *string        `json:"lastError" doc:"What is wrong, and what to do, as a sentence; null: nothing."`
	ErrorCategory *string        `json:"errorCategory" doc:"Where the cause of lastError is; null without one." values:"credentials,model,channel,config,capacity,disk,runtime,record" example:"credentials"`
	NeedsRestart  bool           `json:"needsRestart" doc:"True while the running gateway does not have the current configuration: restart the agent."`
	NeedsKey      bool           `json:"needsKey" doc:"True if the agent has no key that may be sent where its model calls go. lastError says what to do."`
	// Channels are those that the agent has a token for, by name.
	Channels map[string]Channel `json:"channels" doc:"The channels that the agent has a token for: telegram, slack."`
}

// Channel is the state of one channel of an agent.
type Channel struct {
	Status string  `json:"status" enum:"connecting,connected,error,stopped,disabled" doc:"connecting: not seen to be connected yet; error: see error; stopped: the agent does not run; disabled: config.channels switches the channel off."`
	Error  *string `json:"error" doc:"What is wrong, and what to do; null unless status is error."`
	Since  *Time   `json:"since" doc:"When the gateway was first seen in this state; null if it was not."`
}

// Secrets are secrets by name: anthropicApiKey, openaiApiKey, googleApiKey,
// telegramBotToken, slackBotToken, slackAppToken, and UPPER_CASE names that become
// environment variables of the agent.
type Secrets map[string]string

// CreateAgentRequest creates an agent.
type CreateAgentRequest struct {
	Name       string         `json:"name" doc:"Display name, one line." bounds:"1..100"`
	Region     string         `json:"region,omitempty" absent:"create the agent in eu" doc:"Region of the servers that the agent may run on: eu, us, or another that servers of the installation have. An unknown one is refused with those that there are. Default: eu."`
	Secrets    Secrets        `json:"secrets,omitempty" doc:"Keys of model providers, tokens of channels, and environment variables. One of anthropicApiKey, openaiApiKey and googleApiKey is required, unless the swarm has one."`
	Config     map[string]any `json:"config,omitempty" doc:"Configuration: llmProvider, model, baseUrl, maxOutputTokens, channels, sharedMode, keepAwake, selfEdit, limits, egress; other keys are kept and returned. At most 100 keys and 64 KiB. See [Configuration](/docs/guides/agents#configuration)."`
	SoulMD     string         `json:"soulMd,omitempty" absent:"start with the default" doc:"First SOUL.md: how the agent thinks and speaks." bounds:"..20000"`
	WorkflowMD string         `json:"workflowMd,omitempty" absent:"start with the default" doc:"First WORKFLOW.md: the role and procedures of the agent, at most 128 KiB."`
	SwarmID    string         `json:"swarmId,omitempty" absent:"create the agent outside of any swarm" doc:"Id of the swarm to put the agent in, which shares its provider keys and knowledge."`
	Starter    string         `json:"starter,omitempty" absent:"begin with the default documents" doc:"Id of a starter, of GET /v1/starters: the agent begins with its documents, rules and skills. soulMd and workflowMd have priority."`
}

// CreatedAgent is the result of CreateAgent.
type CreatedAgent struct {
	ID        string      `json:"id" doc:"Id of the new agent, a UUID." example:"a1b2c3d4-e5f6-7890-abcd-ef1234567890"`
	Name      string      `json:"name" doc:"Display name."`
	Status    AgentStatus `json:"status" doc:"running; with Prefer: respond-async, provisioning."`
	Region    string      `json:"region" doc:"Region of the servers that the agent may run on." example:"eu"`
	CreatedAt Time        `json:"createdAt" doc:"When the agent was created."`
	StartedAt *Time       `json:"startedAt" doc:"When it became running; null if it has not yet."`
}

// UpdateAgentRequest changes an agent; absent fields stay as they are.
type UpdateAgentRequest struct {
	Name      Optional[string] `json:"name,omitzero" empty:"true" doc:"New display name." bounds:"..100"`
	AvatarURL Optional[string] `json:"avatarUrl,omitzero" absent:"keep the image" doc:"Avatar image URL, or null to remove it."`
	Config    map[string]any   `json:"config,omitempty" doc:"Keys of the configuration to merge; null removes a key. See [Configuration](/docs/guides/agents#configuration)."`
	SwarmID   Optional[string] `json:"swarmId,omitzero" absent:"keep the swarm" doc:"Swarm to join, or null to leave."`
	// Secrets are set in the same transaction; the keys among them are for the endpoint
	// that the agent calls after it.
	Secrets Secrets `json:"secrets,omitempty" doc:"Secrets to set, by name, such as the key for a new config.baseUrl."`
}

// UpdatedAgent is the result of UpdateAgent.
type UpdatedAgent struct {
	ID           string      `json:"id" doc:"Id of the agent."`
	Name         string      `json:"name" doc:"Display name."`
	Status       AgentStatus `json:"status" doc:"Whether the agent runs."`
	NeedsRestart bool        `json:"needsRestart" doc:"True if the running gateway needs a restart to get the change."`
	NeedsKey     bool        `json:"needsKey" doc:"True if the agent has no key that may be sent where its model calls go: send it with PUT /v1/agents/{id}/secrets."`
}

// StartedAgent is the result of StartAgent and RestartAgent.
type StartedAgent struct {
	ID        string      `json:"id" doc:"Id of the agent."`
	Status    AgentStatus `json:"status" doc:"running; with Prefer: respond-async, starting."`
	StartedAt *Time       `json:"startedAt" doc:"When it became running; with Prefer: respond-async, when it last did."`
}

// StoppedAgent is the result of StopAgent.
type StoppedAgent struct {
	ID        string      `json:"id" doc:"Id of the agent."`
	Status    AgentStatus `json:"status" doc:"stopped; with Prefer: respond-async, stopping."`
	StoppedAt *Time       `json:"stoppedAt" doc:"When it was stopped."`
}

// Deleted is the result of a deletion by id.
type Deleted struct {
	ID      string `json:"id" doc:"Id of what was deleted."`
	Deleted bool   `json:"deleted" doc:"True."`
}

// LiveStatus is the current state of an agent and its gateway, as Source reports it.
type LiveStatus struct {
	Status          AgentStatus `json:"status" doc:"Whether the agent runs."`
	ContainerStatus string      `json:"containerStatus" doc:"State of the gateway: running, asleep, frozen, exited or gone; unknown, if its server cannot be reached." example:"running"`
	Live            bool        `json:"live" doc:"True if the gateway's process runs, or the agent sleeps: a message wakes it."`
	Resources       *Resources  `json:"resources" doc:"What the gateway uses; null while it does not run."`
	KeptAwake       string      `json:"keptAwake,omitempty" doc:"Why the agent does not sleep when nobody uses it, where agents sleep. Left out if it may."`
	WokeAt          *Time       `json:"wokeAt,omitempty" doc:"When the agent was last awake again after it had slept. Left out if it has never slept."`
	WakeMs          int64       `json:"wakeMs,omitempty" doc:"How long that took, in milliseconds."`
	Source          string      `json:"source" enum:"redis,memory,runtime" doc:"Where the data comes from. redis: a recent report in Redis; memory: a recent report in this server; runtime: an inspection for this request."`
}

// Resources is the resource usage of a gateway.
type Resources struct {
	MemoryUsage string `json:"memoryUsage" example:"128MiB / 512MiB" doc:"Memory that is used, and its limit."`
	CPUPercent  string `json:"cpuPercent" example:"2.35%" doc:"Share of one processor core."`
}

// AgentSecrets lists the names of an agent's secrets. No request returns the values.
type AgentSecrets struct {
	Secrets []string          `json:"secrets" example:"anthropicApiKey" doc:"Names of the secrets that the agent has."`
	Origins map[string]string `json:"origins" doc:"By name, of the keys of model providers: the scheme, host and port that the key is sent to, and nowhere else."`
}

// SecretsRequest sets and deletes secrets of an agent or a swarm. Names may be
// spelled in two ways: anthropicApiKey, anthropic_api_key.
type SecretsRequest struct {
	Secrets       Secrets  `json:"secrets,omitempty" doc:"Secrets to set, by name. Names may be spelled in two ways: anthropicApiKey, anthropic_api_key."`
	DeleteSecrets []string `json:"deleteSecrets,omitempty" doc:"Names of secrets to remove."`
}

// SecretsUpdated is the result of SetSecrets.
type SecretsUpdated struct {
	Updated      bool `json:"updated" doc:"True."`
	NeedsRestart bool `json:"needsRestart" doc:"True if the running gateway needs a restart to get the change. Keys of model providers need none."`
}

// TokensRotated is the result of RotateTokens.
type TokensRotated struct {
	ID           string `json:"id" doc:"Id of the agent."`
	Generation   int64  `json:"generation" doc:"Counts the agent's tokens: every start of its gateway and every rotation makes new ones."`
	NeedsRestart bool   `json:"needsRestart" doc:"True if the running gateway could not be given its tokens yet. It is tried again; if it stays so, restart the agent."`
}

// AgentQuery selects agents. The zero value selects all agents of the account.
type AgentQuery struct {
	Status  AgentStatus // empty: any
	SwarmID string      // empty: any or none
	Search  string      // part of the name, in upper or lower case
	Model   string      // that the agent calls; empty: any
	Sort    string      // name, created, status, model, cost, lastMessage or memory; after a hyphen the reverse. Empty: newest first
	Include []string    // fields to add: model, state, usage, lastMessage, memory
	Limit   int         // at most 1000; 0: none
	Offset  int         // how many to skip
}

func (q AgentQuery) values() url.Values {
	v := url.Values{}
	set(v, "status", string(q.Status))
	set(v, "swarmId", q.SwarmID)
	set(v, "search", q.Search)
	set(v, "model", q.Model)
	set(v, "sort", q.Sort)
	set(v, "include", strings.Join(q.Include, ","))
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Offset > 0 {
		v.Set("offset", strconv.Itoa(q.Offset))
	}
	return v
}

// ListAgents returns the agents that q selects, newest first. Total counts those of
// all pages.
func (c *Client) ListAgents(ctx context.Context, q AgentQuery) (List[AgentSummary], error) {
	return call[List[AgentSummary]](ctx, c, http.MethodGet, withQuery("/v1/agents", q.values()), nil)
}

// CreateAgent creates an agent and waits until it runs.
func (c *Client) CreateAgent(ctx context.Context, in CreateAgentRequest) (CreatedAgent, error) {
	return data[CreatedAgent](ctx, c, http.MethodPost, "/v1/agents", in)
}

// BeginAgent creates an agent and does not wait until it runs. It is created also if there
// is no room for its gateway yet; Agent shows how far it is.
func (c *Client) BeginAgent(ctx context.Context, in CreateAgentRequest) (CreatedAgent, error) {
	return data[CreatedAgent](context.WithValue(ctx, respondAsync{}, true), c, http.MethodPost, "/v1/agents", in)
}

// Agent returns one agent.
func (c *Client) Agent(ctx context.Context, id string) (Agent, error) {
	return data[Agent](ctx, c, http.MethodGet, agentPath(id), nil)
}

// UpdateAgent changes an agent.
func (c *Client) UpdateAgent(ctx context.Context, id string, in UpdateAgentRequest) (UpdatedAgent, error) {
	return data[UpdatedAgent](ctx, c, http.MethodPatch, agentPath(id), in)
}

// DeleteAgent removes an agent with all its data and secrets.
func (c *Client) DeleteAgent(ctx context.Context, id string) (Deleted, error) {
	return data[Deleted](ctx, c, http.MethodDelete, agentPath(id), nil)
}

// StartAgent starts an agent and waits until it runs.
func (c *Client) StartAgent(ctx context.Context, id string) (StartedAgent, error) {
	return data[StartedAgent](ctx, c, http.MethodPost, agentPath(id)+"/start", nil)
}

// BeginStart starts an agent and does not wait until it runs. Agent shows how far it is.
func (c *Client) BeginStart(ctx context.Context, id string) (StartedAgent, error) {
	return c.StartAgent(context.WithValue(ctx, respondAsync{}, true), id)
}

// BeginStop stops an agent and does not wait until it is stopped.
func (c *Client) BeginStop(ctx context.Context, id string) (StoppedAgent, error) {
	return c.StopAgent(context.WithValue(ctx, respondAsync{}, true), id)
}

// BeginRestart replaces the gateway of an agent and does not wait until the new one runs.
func (c *Client) BeginRestart(ctx context.Context, id string) (StartedAgent, error) {
	return c.RestartAgent(context.WithValue(ctx, respondAsync{}, true), id)
}

// StopAgent stops an agent.
func (c *Client) StopAgent(ctx context.Context, id string) (StoppedAgent, error) {
	return data[StoppedAgent](ctx, c, http.MethodPost, agentPath(id)+"/stop", nil)
}

// RestartAgent replaces the gateway of an agent and waits until it runs.
func (c *Client) RestartAgent(ctx context.Context, id string) (StartedAgent, error) {
	return data[StartedAgent](ctx, c, http.MethodPost, agentPath(id)+"/restart", nil)
}

// AgentStatus returns the current state of an agent.
func (c *Client) AgentStatus(ctx context.Context, id string) (LiveStatus, error) {
	return data[LiveStatus](ctx, c, http.MethodGet, agentPath(id)+"/status", nil)
}

// AgentSecrets returns the names of an agent's secrets.
func (c *Client) AgentSecrets(ctx context.Context, id string) (AgentSecrets, error) {
	return data[AgentSecrets](ctx, c, http.MethodGet, agentPath(id)+"/secrets", nil)
}

// SetSecrets sets and deletes secrets of an agent.
func (c *Client) SetSecrets(ctx context.Context, id string, in SecretsRequest) (SecretsUpdated, error) {
	return data[SecretsUpdated](ctx, c, http.MethodPut, agentPath(id)+"/secrets", in)
}

// RotateTokens replaces the tokens of an agent's gateway, of its model calls and of its
// tools.
func (c *Client) RotateTokens(ctx context.Context, id string) (TokensRotated, error) {
	return data[TokensRotated](ctx, c, http.MethodPost, agentPath(id)+"/tokens/rotate", nil)
}

func agentPath(id string) string { return "/v1/agents/" + url.PathEscape(id) }
