package client

import (
	"context"
	"net/http"
	"net/url"
)

// Swarm is a group of agents that share a knowledge base and provider
// credentials.
type Swarm struct {
	ID          string  `json:"id" doc:"Id of the swarm, a UUID."`
	Name        string  `json:"name" doc:"Name of the swarm." example:"Growth"`
	Slug        string  `json:"slug" doc:"Made from the first name of the swarm. Unique in the account; never changes."`
	Description *string `json:"description" doc:"Short description; null: none."`
	Icon        *string `json:"icon" doc:"Emoji or icon string; null: none."`
	AgentCount  int     `json:"agentCount" doc:"Number of agents in the swarm."`
	MemberCount int     `json:"memberCount" doc:"Number of people who are members of the swarm."`
	CreatedAt   Time    `json:"createdAt" doc:"When the swarm was created."`
	UpdatedAt   Time    `json:"updatedAt" doc:"When the swarm was last changed."`
}

// SwarmDetails is a swarm with its agents.
type SwarmDetails struct {
	ID          string       `json:"id" doc:"Id of the swarm, a UUID."`
	Name        string       `json:"name" doc:"Name of the swarm." example:"Growth"`
	Slug        string       `json:"slug" doc:"Made from the first name of the swarm. Unique in the account; never changes."`
	Description *string      `json:"description" doc:"Short description; null: none."`
	Icon        *string      `json:"icon" doc:"Emoji or icon string; null: none."`
	AgentCount  int          `json:"agentCount" doc:"Number of agents in the swarm."`
	MemberCount int          `json:"memberCount" doc:"Number of people who are members of the swarm."`
	Agents      []SwarmAgent `json:"agents" doc:"The agents of the swarm."`
	CreatedAt   Time         `json:"createdAt" doc:"When the swarm was created."`
	UpdatedAt   Time         `json:"updatedAt" doc:"When the swarm was last changed."`
}

// SwarmAgent is an agent in the details of a swarm.
type SwarmAgent struct {
	ID        string      `json:"id" doc:"Id of the agent."`
	Name      string      `json:"name" doc:"Display name."`
	Status    AgentStatus `json:"status" doc:"Whether the agent runs."`
	CreatedAt Time        `json:"createdAt" doc:"When the agent was created."`
}

// CreateSwarmRequest creates a swarm.
type CreateSwarmRequest struct {
	Name        string `json:"name" doc:"Name of the swarm. A unique slug is made from it." bounds:"1..100"`
	Description string `json:"description,omitempty" doc:"Short description." bounds:"..500"`
	Icon        string `json:"icon,omitempty" doc:"Emoji or icon string." bounds:"..64"`
}

// UpdateSwarmRequest changes a swarm; absent fields stay as they are.
type UpdateSwarmRequest struct {
	Name        Optional[string] `json:"name,omitzero" empty:"true" doc:"New name. The slug does not change." bounds:"..100"`
	Description Optional[string] `json:"description,omitzero" absent:"keep the description" doc:"New description, or null to clear it." bounds:"..500"`
	Icon        Optional[string] `json:"icon,omitzero" absent:"keep the icon" doc:"New icon, or null to clear it." bounds:"..64"`
}

// SwarmSecrets lists the names of the credentials that a swarm shares. No request
// returns the values.
type SwarmSecrets struct {
	Secrets []string          `json:"secrets" example:"anthropicApiKey" doc:"Names of the credentials that the swarm shares."`
	Origins map[string]string `json:"origins" doc:"By name: the scheme, host and port that the credential is sent to, and nowhere else."`
}

// SwarmSecretsRequest sets and deletes credentials that a swarm shares.
type SwarmSecretsRequest struct {
	Secrets       map[string]string `json:"secrets,omitempty" doc:"Credentials to set, by name: anthropicApiKey, openaiApiKey, googleApiKey."`
	BaseURL       string            `json:"baseUrl,omitempty" absent:"set keys for the provider itself" doc:"The endpoint that the credentials in secrets are for. Agents whose config.baseUrl is at another scheme, host or port do not get them. Default: the provider's own."`
	DeleteSecrets []string          `json:"deleteSecrets,omitempty" doc:"Names of credentials to remove."`
}

// ListSwarms returns every swarm of the account, newest first.
func (c *Client) ListSwarms(ctx context.Context) ([]Swarm, error) {
	return data[[]Swarm](ctx, c, http.MethodGet, "/v1/swarms", nil)
}

// CreateSwarm creates a swarm.
func (c *Client) CreateSwarm(ctx context.Context, in CreateSwarmRequest) (Swarm, error) {
	return data[Swarm](ctx, c, http.MethodPost, "/v1/swarms", in)
}

// Swarm returns a swarm with its agents.
func (c *Client) Swarm(ctx context.Context, id string) (SwarmDetails, error) {
	return data[SwarmDetails](ctx, c, http.MethodGet, swarmPath(id), nil)
}

// UpdateSwarm changes a swarm.
func (c *Client) UpdateSwarm(ctx context.Context, id string, in UpdateSwarmRequest) (Swarm, error) {
	return data[Swarm](ctx, c, http.MethodPatch, swarmPath(id), in)
}

// DeleteSwarm removes a swarm and its credentials; its agents stay.
func (c *Client) DeleteSwarm(ctx context.Context, id string) (Deleted, error) {
	return data[Deleted](ctx, c, http.MethodDelete, swarmPath(id), nil)
}

// SwarmSecrets returns the names of the credentials that a swarm shares, with the origins
// that they are for.
func (c *Client) SwarmSecrets(ctx context.Context, id string) (SwarmSecrets, error) {
	return data[SwarmSecrets](ctx, c, http.MethodGet, swarmPath(id)+"/secrets", nil)
}

// SetSwarmSecrets sets and deletes credentials that a swarm shares.
func (c *Client) SetSwarmSecrets(ctx context.Context, id string, in SwarmSecretsRequest) (SecretsUpdated, error) {
	return data[SecretsUpdated](ctx, c, http.MethodPut, swarmPath(id)+"/secrets", in)
}

func swarmPath(id string) string { return "/v1/swarms/" + url.PathEscape(id) }
