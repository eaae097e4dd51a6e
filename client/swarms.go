package client

import (
	"context"
	"net/http"
	"net/url"
)

// Swarm is a group of agents that share a knowledge base and provider
// credentials.
type Swarm struct {
	ID          string  `json:"id"`
	Name        string  `json:"name"`
	Slug        string  `json:"slug" doc:"Made from the first name of the swarm. Unique in the account; never changes."`
	Description *string `json:"description"`
	Icon        *string `json:"icon"`
	AgentCount  int     `json:"agentCount"`
	MemberCount int     `json:"memberCount" doc:"Number of people in the account. It is 1, the owner."`
	CreatedAt   Time    `json:"createdAt"`
	UpdatedAt   Time    `json:"updatedAt"`
}

// SwarmDetails is a swarm with its agents.
type SwarmDetails struct {
	ID          string       `json:"id"`
	Name        string       `json:"name"`
	Slug        string       `json:"slug" doc:"Made from the first name of the swarm. Unique in the account; never changes."`
	Description *string      `json:"description"`
	Icon        *string      `json:"icon"`
	AgentCount  int          `json:"agentCount"`
	MemberCount int          `json:"memberCount" doc:"Number of people in the account. It is 1, the owner."`
	Agents      []SwarmAgent `json:"agents"`
	CreatedAt   Time         `json:"createdAt"`
	UpdatedAt   Time         `json:"updatedAt"`
}

// SwarmAgent is an agent in the details of a swarm.
type SwarmAgent struct {
	ID        string      `json:"id"`
	Name      string      `json:"name"`
	Status    AgentStatus `json:"status"`
	CreatedAt Time        `json:"createdAt"`
}

// CreateSwarmRequest creates a swarm.
type CreateSwarmRequest struct {
	Name        string `json:"name" doc:"Swarm name (1-100 characters)."`
	Description string `json:"description,omitempty" doc:"Short description, at most 500 characters."`
	Icon        string `json:"icon,omitempty" doc:"Emoji or icon string, at most 64 characters."`
}

// UpdateSwarmRequest changes a swarm; absent fields stay as they are.
type UpdateSwarmRequest struct {
	Name        Optional[string] `json:"name,omitzero" empty:"true" doc:"New swarm name (1-100 characters). The slug does not change."`
	Description Optional[string] `json:"description,omitzero" absent:"keep the description" doc:"New description, or null to clear it."`
	Icon        Optional[string] `json:"icon,omitzero" absent:"keep the icon" doc:"New icon, or null to clear it."`
}

// SwarmSecrets lists the names of the credentials that a swarm shares. No request
// returns the values.
type SwarmSecrets struct {
	Secrets []string          `json:"secrets" example:"anthropicApiKey"`
	Origins map[string]string `json:"origins" doc:"By name: the scheme, host and port that the credential is sent to, and nowhere else."`
}

// SwarmSecretsRequest sets and deletes credentials that a swarm shares.
type SwarmSecretsRequest struct {
	Secrets       map[string]string `json:"secrets,omitempty" doc:"Credentials to set, by name."`
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
