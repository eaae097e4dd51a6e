package agent

import (
	"encoding/json"
	"maps"
	"strings"
	"unicode"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/workspace"
)

// Config is an agent's config object. The keys below have a meaning; every other
// key is stored and returned as it is.
type Config map[string]any

// The keys of Config that have a meaning.
const (
	keyProvider   = "llmProvider"     // a provider.Name
	keyModel      = "model"           // the provider's name of the model
	keyBaseURL    = "baseUrl"         // another endpoint for that provider
	keyChannels   = "channels"        // {"telegram": true, "slack": {"enabled": true}}
	keySharedMode = "sharedMode"      // every caller is an untrusted peer
	keySelfEdit   = "selfEdit"        // a workspace.SelfEdit
	keyEgress     = "egress"          // where it may connect to: see egress.ParsePolicy
	keyMaxOutput  = "maxOutputTokens" // of one model call
	keyLimits     = "limits"          // of a turn, below those of the installation: see Config.Limits
)

func knownKeys() []string {
	return []string{keyProvider, keyModel, keyBaseURL, keyChannels, keySharedMode, keySelfEdit, keyEgress, keyMaxOutput, keyLimits, keyKeepAwake}
}

// keyKeepAwake is true for an agent that must not sleep.
const keyKeepAwake = "keepAwake"

// KeepAwake reports whether the agent must not sleep.
func (c Config) KeepAwake() bool { on, _ := c[keyKeepAwake].(bool); return on }

// The channels.
const (
	channelTelegram = "telegram"
	channelSlack    = "slack"
)

// Limits of Config, which is stored in one row and read with every look at the agent.
const (
	maxConfigKeys   = 100
	maxConfigBytes  = 64 << 10 // as JSON
	maxConfigLevels = 32       // of objects and arrays, with the config itself: naive clients die of thousands
)

// Bounds of keyMaxOutput. With less than the lower one no model can call a tool; the upper one
// is more than any model's.
const (
	minOutputTokens = 256
	maxOutputTokens = 1_000_000
)

// maxModelName is OpenClaw's limit; the longest name in use has 60 characters.
const maxModelName = 200

// Provider returns the configured provider, or empty.
func (c Config) Provider() provider.Name { return provider.Name(c.text(keyProvider)) }

// Model returns the configured model, or empty.
func (c Config) Model() string { return c.text(keyModel) }

// BaseURL returns the endpoint that replaces the provider's own, or empty.
func (c Config) BaseURL() string { return c.text(keyBaseURL) }

// MaxOutputTokens returns the longest answer of one model call, in tokens; 0 means what agento
// knows of the model.
func (c Config) MaxOutputTokens() int64 {
	n, _ := wholeNumber(c[keyMaxOutput])
	return n
}

// SharedMode reports whether every caller is an untrusted peer, named or not.
func (c Config) SharedMode() bool {
	shared, _ := c[keySharedMode].(bool)
	return shared
}

// SelfEdit returns what happens with the agent's edits of its own documents. With
// SharedMode nobody whom the owner trusts can ask for one, so that the default is off.
func (c Config) SelfEdit() workspace.SelfEdit {
	switch set := c.text(keySelfEdit); {
	case set != "":
		return workspace.SelfEdit(set)
	case c.SharedMode():
		return workspace.SelfEditOff
	}
	return workspace.SelfEditOn
}

// UsesTelegram reports whether the agent connects to Telegram, given the secrets
// that it holds.
func (c Config) UsesTelegram(has func(provider.SecretName) bool) bool {
	return c.channelEnabled(channelTelegram) && has(provider.TelegramToken)
}

// UsesSlack reports whether the agent connects to Slack, given the secrets that it
// holds.
func (c Config) UsesSlack(has func(provider.SecretName) bool) bool {
	return c.channelEnabled(channelSlack) && has(provider.SlackBotToken) && has(provider.SlackAppToken)
}

// channelEnabled reports whether a channel is not switched off. One that config
// does not mention is enabled.
func (c Config) channelEnabled(name string) bool {
	channels, _ := c[keyChannels].(map[string]any)
	switch v := channels[name].(type) {
	case bool:
		return v
	case map[string]any:
		enabled, ok := v["enabled"].(bool)
		return enabled || !ok
	}
	return true
}

func (c Config) text(key string) string {
	s, _ := c[key].(string)
	return s
}

// merge returns c with the changes made; null removes a key.
func (c Config) merge(changes map[string]any) Config {
	merged := maps.Clone(c)
	if merged == nil {
		merged = Config{}
	}
	for k, v := range changes {
		if v == nil {
			delete(merged, k)
		} else {
			merged[k] = v
		}
	}
	return merged
}

// checkConfigKeys adds a problem for every key of a caller's config or change that is nearly one
// with a meaning. It would be kept and do nothing: with sharedmode, callers stay trusted. Null
// is allowed, so that such a key can be removed.
func checkConfigKeys(problems fault.Fields, sent map[string]any) {
	plain := strings.NewReplacer("_", "", "-", "", " ", "")
	for key, v := range sent {
		for _, known := range knownKeys() {
			if v != nil && key != known && strings.EqualFold(plain.Replace(key), known) {
				problems.Add("config."+key, "must be spelled %s, or have another name if it is a field of your own", known)
			}
		}
	}
}

// checkNoNulls adds a problem for every key with a meaning that is null in the config of a
// new agent, where there is nothing to remove.
func checkNoNulls(problems fault.Fields, sent map[string]any) {
	for _, known := range knownKeys() {
		if v, ok := sent[known]; ok && v == nil {
			problems.Add("config."+known, "must not be null: leave it out for the default")
		}
	}
}

// URLChecker refuses endpoints that agents must not call.
type URLChecker interface{ CheckURL(string) error }

func (c Config) validate(problems fault.Fields, urls URLChecker) {
	if len(c) > maxConfigKeys {
		problems.Add("config", "must have at most %d keys", maxConfigKeys)
	}
	if !nestsAtMost(map[string]any(c), maxConfigLevels) {
		problems.Add("config", "must have at most %d levels of objects and arrays", maxConfigLevels)
	} else if text, err := json.Marshal(c); err != nil || len(text) > maxConfigBytes {
		problems.Add("config", "must take at most %d bytes as JSON; this one takes %d", maxConfigBytes, len(text))
	}
	for _, key := range []string{keyProvider, keyModel, keyBaseURL} {
		if v, ok := c[key]; ok {
			if s, isText := v.(string); !isText || s == "" || len(s) > 2048 {
				problems.Add("config."+key, "must be a string of 1-2048 characters, or null to remove it")
			}
		}
	}
	if p := c.text(keyProvider); p != "" {
		if _, err := provider.Parse(p); err != nil {
			problems.Add("config.llmProvider", "%v", err)
		}
	}
	if strings.ContainsFunc(c.Model(), unicode.IsSpace) || len(c.Model()) > maxModelName {
		problems.Add("config.model", "must be the provider's name for a model: at most %d characters, no spaces", maxModelName)
	}
	if b := c.BaseURL(); b != "" {
		if err := urls.CheckURL(b); err != nil {
			problems.Add("config.baseUrl", "%s", err)
		}
	}
	if v, ok := c[keySharedMode]; ok {
		if _, isBool := v.(bool); !isBool {
			problems.Add("config.sharedMode", "must be true or false")
		}
	}
	if v, ok := c[keyKeepAwake]; ok {
		if _, isBool := v.(bool); !isBool {
			problems.Add("config."+keyKeepAwake, "must be true or false, or null to remove it")
		}
	}
	if v, ok := c[keySelfEdit]; ok {
		switch s, _ := v.(string); workspace.SelfEdit(s) {
		case workspace.SelfEditOn, workspace.SelfEditReview, workspace.SelfEditOff:
		default:
			problems.Add("config.selfEdit", `must be "off", "review" or "on"`)
		}
	}
	if v, ok := c[keyMaxOutput]; ok {
		if n, isNumber := wholeNumber(v); !isNumber || n < minOutputTokens || n > maxOutputTokens {
			problems.Add("config.maxOutputTokens", "must be a whole number from %d to %d, or null to remove it", minOutputTokens, maxOutputTokens)
		}
	}
	c.validateChannels(problems)
	c.validateEgress(problems)
}

// nestsAtMost reports whether a decoded JSON value has at most this many levels of objects
// and arrays.
func nestsAtMost(v any, levels int) bool {
	switch v := v.(type) {
	case map[string]any:
		for _, e := range v {
			if !nestsAtMost(e, levels-1) {
				return false
			}
		}
	case []any:
		for _, e := range v {
			if !nestsAtMost(e, levels-1) {
				return false
			}
		}
	default:
		return true
	}
	return levels > 0
}

func (c Config) validateChannels(problems fault.Fields) {
	v, ok := c[keyChannels]
	if !ok {
		return
	}
	channels, isObject := v.(map[string]any)
	if !isObject {
		problems.Add("config.channels", `must be an object such as {"telegram": true}`)
		return
	}
	for name, channel := range channels {
		if name != channelTelegram && name != channelSlack {
			problems.Add("config.channels."+name, `is not a channel of agento: use "telegram" or "slack"`)
		} else if !isChannel(channel) {
			problems.Add("config.channels."+name, `must be true, false or an object such as {"enabled": true}`)
		}
	}
}

func isChannel(v any) bool {
	switch c := v.(type) {
	case bool:
		return true
	case map[string]any:
		for key := range c {
			if key != "enabled" && strings.EqualFold(key, "enabled") {
				return false // it would be ignored, and the channel on
			}
		}
		enabled, ok := c["enabled"]
		_, isBool := enabled.(bool)
		return isBool || !ok
	}
	return false
}
