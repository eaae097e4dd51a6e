package openclaw

import (
	"strings"

	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

// Model is the model that an agent uses. The gateway never sees the provider's key:
// it calls the model proxy with a token of its own.
type Model struct {
	Provider provider.Provider
	// Protocol is what the provider's endpoint speaks; empty means
	// Provider.Protocol.
	Protocol provider.Protocol
	ID       string // empty means Provider.DefaultModel
	// URL is the model proxy's address for this provider, as the gateway reaches it.
	// Below it are /v1/messages, /v1/chat/completions, /v1/responses and
	// /v1beta/models/ID:streamGenerateContent.
	URL   string
	Token vault.Secret
	// MaxOutput is the longest answer of one call, in tokens; 0 means what the model can do.
	MaxOutput int64
}

// TakesImages reports whether messages to a model can have images. Empty means the default model
// of a provider: each of them takes images.
func TakesImages(model string) bool { return model == "" || Model{ID: model}.capabilities().images }

func (m Model) id() string {
	if m.ID == "" {
		return m.Provider.DefaultModel
	}
	return m.ID
}

// config returns the entry of models.providers.
func (m Model) config() object {
	protocol, path := m.Protocol, ""
	if protocol == "" {
		protocol = m.Provider.Protocol
	}
	if m.Provider.VersionInBase {
		path = m.Provider.Version
	}
	return object{
		"baseUrl": "${" + envModel + "}" + path,
		"api":     string(protocol), // OpenClaw has the same names
		"apiKey":  secretRef(secretModel),
		"models":  list{m.catalogEntry()},
	}
}

// catalogEntry returns the model's entry in OpenClaw's catalog.
func (m Model) catalogEntry() object {
	t := m.capabilities()
	if m.MaxOutput > 0 {
		t.output = int(m.MaxOutput)
	}
	input := list{"text"}
	if t.images {
		input = append(input, "image")
	}
	entry := object{
		"id": literal(m.id()), "name": literal(m.id()), "reasoning": t.reasoning, "input": input,
		"contextWindow": t.context, "maxTokens": t.output,
	}
	if id := m.canonicalID(); id != "" {
		entry["params"] = object{"canonicalModelId": id}
	}
	return entry
}

// canonicalID returns the model as which OpenClaw treats this one; empty means as
// itself. It makes Claude Sonnet 5 and Opus 5 stream: OpenClaw does not stream the
// answers of models that may refuse in the middle. Their requests are
// otherwise those of Opus 4.8. The other models of that kind (Opus 5.5, Fable,
// Mythos) also bind their thinking to the prompt, which must stay so.
func (m Model) canonicalID() string {
	id := strings.ToLower(m.id())
	opus55 := strings.HasPrefix(id, "claude-opus-5-5")
	if strings.HasPrefix(id, "claude-sonnet-5") || strings.HasPrefix(id, "claude-opus-5") && !opus55 {
		return "claude-opus-4-8"
	}
	return ""
}

// capabilities are what OpenClaw must know about a model. Its own catalog is off,
// because it would offer models that the agent's owner has not chosen.
type capabilities struct {
	context, output int // tokens
	reasoning       bool
	images          bool
}

// capabilities returns the values of OpenClaw 2026.9.6's catalog. An unknown model
// (of Ollama or vLLM, or a newer one) gets what every current model can do.
func (m Model) capabilities() capabilities {
	id := strings.ToLower(m.id())
	for _, known := range []struct {
		prefix string
		capabilities
	}{
		{"claude-haiku-4-5", capabilities{200_000, 64_000, true, true}},
		{"claude-sonnet-4", capabilities{200_000, 64_000, true, true}},
		{"claude-opus-4-8", capabilities{1_000_000, 128_000, true, true}},
		{"claude-opus-4-7", capabilities{200_000, 128_000, true, true}},
		{"claude-opus-4-6", capabilities{200_000, 128_000, true, true}},
		{"claude-opus-4", capabilities{200_000, 32_000, true, true}},
		{"claude-", capabilities{1_000_000, 128_000, true, true}},
		{"gpt-5.4-mini", capabilities{400_000, 128_000, true, true}},
		{"gpt-5.4-nano", capabilities{400_000, 128_000, true, true}},
		{"gpt-5", capabilities{400_000, 128_000, true, true}},
		{"gpt-6", capabilities{1_050_000, 128_000, true, true}},
		{"gpt-4o", capabilities{128_000, 16_384, false, true}},
		{"gemini-", capabilities{1_048_576, 65_536, true, true}},
	} {
		if strings.HasPrefix(id, known.prefix) {
			return known.capabilities
		}
	}
	return capabilities{context: 128_000, output: 8_192}
}

// thinking returns the thinking level. It is low so that answers come quickly:
// OpenClaw's default for new models is high.
func (m Model) thinking() string {
	if m.capabilities().reasoning {
		return "low"
	}
	return "off"
}
