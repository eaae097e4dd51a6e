package openclaw

import (
	"errors"
	"strings"

	"agento.host/agento/internal/vault"
)

// Provider is who runs the model, or whose protocol another endpoint speaks.
type Provider string

// The providers that an agent's config may name.
const (
	Anthropic Provider = "anthropic"
	OpenAI    Provider = "openai"
	Google    Provider = "google"
)

// ParseProvider reads config.llmProvider.
func ParseProvider(s string) (Provider, error) {
	switch p := Provider(s); p {
	case Anthropic, OpenAI, Google:
		return p, nil
	}
	return "", errors.New("must be anthropic, openai or google")
}

// DefaultModel is the model of an agent whose config names none.
func (p Provider) DefaultModel() string {
	switch p {
	case OpenAI:
		return "gpt-5.6-terra"
	case Google:
		return "gemini-3.7-flash"
	}
	return "claude-sonnet-5"
}

// Model is what the agent thinks with. The gateway never sees a provider's key: it
// calls the model proxy with a token of its own.
type Model struct {
	Provider Provider
	ID       string // empty: Provider.DefaultModel
	// Responses says that an OpenAI endpoint speaks the Responses API, as OpenAI's
	// own does; Ollama, vLLM and most others speak Chat Completions only.
	Responses bool
	// URL is the root of the model proxy as the gateway reaches it. Below it lie
	// /v1/messages, /v1/chat/completions, /v1/responses and
	// /v1beta/models/ID:streamGenerateContent.
	URL   string
	Token vault.Secret
}

func (m Model) id() string {
	if m.ID == "" {
		return m.Provider.DefaultModel()
	}
	return m.ID
}

// config is the entry of models.providers.
func (m Model) config() object {
	api, path := "anthropic-messages", ""
	switch {
	case m.Provider == OpenAI && m.Responses:
		api, path = "openai-responses", "/v1"
	case m.Provider == OpenAI:
		api, path = "openai-completions", "/v1"
	case m.Provider == Google:
		api, path = "google-generative-ai", "/v1beta"
	}
	return object{
		"baseUrl": "${" + envModel + "}" + path,
		"api":     api,
		"apiKey":  secretRef(secretModel),
		"models":  list{m.entry()},
	}
}

// entry is the model's own entry in the catalog.
func (m Model) entry() object {
	t := m.traits()
	input := list{"text"}
	if t.images {
		input = append(input, "image")
	}
	entry := object{
		"id": literal(m.id()), "name": literal(m.id()), "reasoning": t.reasoning, "input": input,
		"contextWindow": t.context, "maxTokens": t.output,
	}
	if as := m.treatedAs(); as != "" {
		entry["params"] = object{"canonicalModelId": as}
	}
	return entry
}

// treatedAs makes answers of Claude Sonnet 5 and Opus 5 stream. OpenClaw holds every
// answer of a model back until it is whole if that model may refuse in the middle;
// their requests are otherwise those of Opus 4.8. The others of that kind (Opus 5.5,
// Fable, Mythos) also bind their thinking to the prompt, which has to stay so.
func (m Model) treatedAs() string {
	id := strings.ToLower(m.id())
	opus55 := strings.HasPrefix(id, "claude-opus-5-5")
	if strings.HasPrefix(id, "claude-sonnet-5") || strings.HasPrefix(id, "claude-opus-5") && !opus55 {
		return "claude-opus-4-8"
	}
	return ""
}

// traits are what OpenClaw has to know of a model; its own catalog is off, since
// it would offer models that the agent's owner has not chosen.
type traits struct {
	context, output int // tokens
	reasoning       bool
	images          bool
}

// traits are taken from OpenClaw 2026.9.6's catalog. A model that nobody knows
// (Ollama, vLLM, next month's) gets what every current model can do.
func (m Model) traits() traits {
	id := strings.ToLower(m.id())
	for _, known := range []struct {
		prefix string
		traits
	}{
		{"claude-haiku-4-5", traits{200_000, 64_000, true, true}},
		{"claude-sonnet-4", traits{200_000, 64_000, true, true}},
		{"claude-opus-4-8", traits{1_000_000, 128_000, true, true}},
		{"claude-opus-4-7", traits{200_000, 128_000, true, true}},
		{"claude-opus-4-6", traits{200_000, 128_000, true, true}},
		{"claude-opus-4", traits{200_000, 32_000, true, true}},
		{"claude-", traits{1_000_000, 128_000, true, true}},
		{"gpt-5.4-mini", traits{400_000, 128_000, true, true}},
		{"gpt-5.4-nano", traits{400_000, 128_000, true, true}},
		{"gpt-5", traits{400_000, 128_000, true, true}},
		{"gpt-6", traits{1_050_000, 128_000, true, true}},
		{"gpt-4o", traits{128_000, 16_384, false, true}},
		{"gemini-", traits{1_048_576, 65_536, true, true}},
	} {
		if strings.HasPrefix(id, known.prefix) {
			return known.traits
		}
	}
	return traits{context: 128_000, output: 8_192}
}

// thinking keeps answers quick: OpenClaw would let new models think hard about every
// message.
func (m Model) thinking() string {
	if m.traits().reasoning {
		return "low"
	}
	return "off"
}
