// Package provider owns the model providers that agents talk to, and the names and
// rules of the secrets that agents and swarms may hold. It is the only list of them.
package provider

import "errors"

// Name is a provider's name, as config.llmProvider has it. It is also the first
// part of the model proxy's paths.
type Name string

// The providers.
const (
	Anthropic Name = "anthropic"
	OpenAI    Name = "openai"
	Google    Name = "google"
)

// Protocol is the HTTP API that a provider, or an endpoint in its place, speaks.
type Protocol string

// The protocols.
const (
	AnthropicMessages  Protocol = "anthropic-messages"
	OpenAICompletions  Protocol = "openai-completions" // Ollama, vLLM and most others too
	OpenAIResponses    Protocol = "openai-responses"
	GoogleGenerativeAI Protocol = "google-generative-ai"
)

// Provider is one model provider.
type Provider struct {
	Name         Name
	Secret       SecretName // its API key
	DefaultModel string     // of an agent whose config names no model
	BaseURL      string     // its own endpoint
	Protocol     Protocol   // of its own endpoint
	// CompatibleProtocol is what an endpoint speaks that config.baseUrl names in
	// place of the provider's own.
	CompatibleProtocol Protocol
	// Version is the part of the paths that names the API's version. VersionInBase
	// says that base URLs end with it by convention, as OpenAI's and Google's do
	// and Anthropic's do not.
	Version       string
	VersionInBase bool
}

// providers is in the order in which one is chosen for an agent whose config names
// none.
var providers = []Provider{
	{
		Name: Anthropic, Secret: AnthropicKey, DefaultModel: "claude-sonnet-5", BaseURL: "https://api.anthropic.com",
		Protocol: AnthropicMessages, CompatibleProtocol: AnthropicMessages, Version: "/v1",
	},
	{
		Name: OpenAI, Secret: OpenAIKey, DefaultModel: "gpt-5.6-terra", BaseURL: "https://api.openai.com/v1",
		Protocol: OpenAIResponses, CompatibleProtocol: OpenAICompletions, Version: "/v1", VersionInBase: true,
	},
	{
		Name: Google, Secret: GoogleKey, DefaultModel: "gemini-3.7-flash", BaseURL: "https://generativelanguage.googleapis.com/v1beta",
		Protocol: GoogleGenerativeAI, CompatibleProtocol: GoogleGenerativeAI, Version: "/v1beta", VersionInBase: true,
	},
}

// All returns every provider, in the order in which one is chosen for an agent
// whose config names none. The caller does not change it.
func All() []Provider { return providers }

// Find returns the provider of a name.
func Find(name Name) (Provider, bool) {
	for _, p := range providers {
		if p.Name == name {
			return p, true
		}
	}
	return Provider{}, false
}

// Parse reads config.llmProvider. The error's text completes a sentence that begins
// with the name of the field.
func Parse(text string) (Provider, error) {
	if p, ok := Find(Name(text)); ok {
		return p, nil
	}
	return Provider{}, errors.New("must be anthropic, openai or google")
}

// EndpointProtocol returns the protocol of an agent's endpoint. baseURL is the agent's
// config.baseUrl; empty means the provider's own endpoint.
func (p Provider) EndpointProtocol(baseURL string) Protocol {
	if baseURL == "" {
		return p.Protocol
	}
	return p.CompatibleProtocol
}

// Choose returns the provider of an agent whose config names configured (empty:
// none) and that holds the secrets for which has is true. ok is false if it has no
// key for it.
func Choose(configured Name, has func(SecretName) bool) (p Provider, ok bool) {
	for _, p := range providers {
		if (configured == "" || configured == p.Name) && has(p.Secret) {
			return p, true
		}
	}
	return Provider{}, false
}
