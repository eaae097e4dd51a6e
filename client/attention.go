package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

// AttentionItem is something that waits for a person.
type AttentionItem struct {
	ID        string            `json:"id" doc:"Id: it names what the item is about and its state." example:"agent:a1b2c3d4-e5f6-7890-abcd-ef1234567890"`
	Kind      string            `json:"kind" doc:"agent: does not run; key: has no key, or its provider refuses it; model: its calls fail; capacity: waits for room; channel: is not connected; edit: waits for approval; plan: a limit is near; skill: has findings." values:"agent,key,model,capacity,channel,edit,plan,skill" example:"key"`
	Severity  string            `json:"severity" doc:"error: something does not work; warning: something will not, or works badly; review: somebody has to decide." values:"error,warning,review" example:"error"`
	AgentID   *string           `json:"agentId" doc:"Id of the agent; null: it is about the account."`
	AgentName *string           `json:"agentName" doc:"Name of the agent; null without one."`
	Subject   *string           `json:"subject" doc:"The document, channel, skill or limit that it is about; null for others." example:"SOUL.md"`
	Sentence  string            `json:"sentence" doc:"What is wrong, and what to do."`
	Since     *Time             `json:"since" doc:"Since when; null: not known."`
	Actions   []AttentionAction `json:"actions" doc:"Requests that repair it, the best first. Empty: the sentence says who can."`
}

// AttentionAction is a request that repairs an AttentionItem.
type AttentionAction struct {
	Name   string `json:"name" doc:"What it does, as the text of a button." example:"Set a key"`
	Method string `json:"method" doc:"Method of the request." example:"PUT"`
	Path   string `json:"path" doc:"Path of the request." example:"/v1/agents/a1b2c3d4-e5f6-7890-abcd-ef1234567890/secrets"`
	Input  bool   `json:"input" doc:"True if the request has a body, which somebody has to fill in."`
}

// Dismissed is the result of DismissAttention.
type Dismissed struct {
	ID        string `json:"id" doc:"Id of the item."`
	Dismissed bool   `json:"dismissed" doc:"True."`
}

// Attention returns what waits for a person, the worst first: at most limit items; 0: 100. The
// pagination has how many there are.
func (c *Client) Attention(ctx context.Context, limit int) (List[AttentionItem], error) {
	v := url.Values{}
	if limit > 0 {
		v.Set("limit", strconv.Itoa(limit))
	}
	return call[List[AttentionItem]](ctx, c, http.MethodGet, withQuery("/v1/attention", v), nil)
}

// DismissAttention makes an item not be listed any more.
func (c *Client) DismissAttention(ctx context.Context, id string) (Dismissed, error) {
	return data[Dismissed](ctx, c, http.MethodPost, "/v1/attention/"+url.PathEscape(id)+"/dismiss", nil)
}
