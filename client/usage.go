package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

// Cost is how many model calls there were, and their price.
type Cost struct {
	Requests          int64  `json:"requests" doc:"Model calls that the provider has answered."`
	EstimatedRequests int64  `json:"estimatedRequests" doc:"Those of requests whose tokens are estimated, because the provider has not reported them: the answer was cut, or it reports none."`
	UnpricedRequests  int64  `json:"unpricedRequests" doc:"Those of requests whose price is unknown."`
	CostMicros        *int64 `json:"costMicros" doc:"Price of the other requests, in millionths of a US dollar. Null if the price of every request is unknown."`
}

// Usage is what the model calls of one group have used.
type Usage struct {
	Group            *string `json:"group" doc:"The day such as 2026-02-10, the beginning of the hour, the id of the agent, swarm, peer, session or key, or the model such as anthropic/claude-sonnet-5. Null for calls that belong to none."`
	Name             *string `json:"name" doc:"Name of the agent or swarm, or label of the key, while it exists."`
	InputTokens      int64   `json:"inputTokens" doc:"All tokens that were sent, cached or not."`
	OutputTokens     int64   `json:"outputTokens" doc:"Tokens that the model has written."`
	ReasoningTokens  int64   `json:"reasoningTokens" doc:"Those of the output tokens that the model has used to think, as far as the provider tells them apart."`
	CacheReadTokens  int64   `json:"cacheReadTokens" doc:"Those of the input tokens that the provider has read from its cache."`
	CacheWriteTokens int64   `json:"cacheWriteTokens" doc:"Those of the input tokens that the provider has written to its cache."`
	Cost
}

// UsageQuery selects model calls and groups them. An empty field selects all.
type UsageQuery struct {
	From, To  *Time  // nil: the last 30 days
	By        string // day, hour, agent, swarm, peer, session, model or key; empty: day
	AgentID   string
	SwarmID   string
	PeerID    string
	SessionID string
	Model     string // with or without its provider, as in anthropic/claude-sonnet-5
	KeyID     string
	Limit     int    // 0: the server's default
	Offset    string // from a page before
}

// Values returns the query as the parameters of a request.
func (q UsageQuery) Values() url.Values {
	v := url.Values{}
	for name, value := range map[string]string{
		"by": q.By, "agentId": q.AgentID, "swarmId": q.SwarmID, "peerId": q.PeerID, "sessionId": q.SessionID, "model": q.Model, "keyId": q.KeyID, "offset": q.Offset,
	} {
		set(v, name, value)
	}
	if q.From != nil {
		v.Set("from", q.From.UTC().Format(timeLayout))
	}
	if q.To != nil {
		v.Set("to", q.To.UTC().Format(timeLayout))
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	return v
}

// Usage returns a page of what the account has used.
func (c *Client) Usage(ctx context.Context, q UsageQuery) (CursorList[Usage], error) {
	return call[CursorList[Usage]](ctx, c, http.MethodGet, "/v1/usage?"+q.Values().Encode(), nil)
}

// AgentUsage returns a page of what one agent has used. It ignores q.AgentID.
func (c *Client) AgentUsage(ctx context.Context, agentID string, q UsageQuery) (CursorList[Usage], error) {
	q.AgentID = ""
	return call[CursorList[Usage]](ctx, c, http.MethodGet, agentPath(agentID)+"/usage?"+q.Values().Encode(), nil)
}
