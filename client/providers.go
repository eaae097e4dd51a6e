package client

import (
	"context"
	"net/http"
)

// ProviderCheckRequest is a key of a model provider that is to be checked.
type ProviderCheckRequest struct {
	Provider string `json:"provider" enum:"anthropic,openai,google" doc:"The model provider."`
	Key      string `json:"key" doc:"Its API key. It is sent to the provider and nowhere else, and not kept." bounds:"1..4096"`
	BaseURL  string `json:"baseUrl,omitempty" absent:"ask the provider's own endpoint" doc:"Another endpoint that speaks the provider's API, as config.baseUrl of an agent."`
}

// ProviderCheck is what a model provider says of a key.
type ProviderCheck struct {
	OK              bool     `json:"ok" doc:"True if the provider accepts the key. Whether its account has credit shows only in the first message."`
	Cause           *string  `json:"cause" doc:"Why ok is false; null if it is true. not_checked: the endpoint has no list of models, and the key may be good." values:"key_refused,out_of_credit,rate_limited,overloaded,provider_failed,bad_request,not_a_model,unreachable,timed_out,refused,not_checked" example:"key_refused"`
	Message         *string  `json:"message" doc:"Why ok is false, as a sentence; null if it is true."`
	ProviderMessage *string  `json:"providerMessage" doc:"The provider's own words; null if it said nothing." example:"invalid x-api-key"`
	Models          []string `json:"models" doc:"The models that the provider lists for the key, at most 500." example:"claude-sonnet-5"`
}

// CheckProvider asks a model provider whether it accepts a key.
func (c *Client) CheckProvider(ctx context.Context, in ProviderCheckRequest) (ProviderCheck, error) {
	return data[ProviderCheck](ctx, c, http.MethodPost, "/v1/providers/check", in)
}
