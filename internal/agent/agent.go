// Package agent owns agents: what is wanted of each, what is so, and the
// reconciler that makes the second follow the first.
package agent

import (
	"maps"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
	modelprovider "agento.host/agento/internal/provider"
)

// Wanted is what is to become of an agent's gateway.
type Wanted string

// What may be wanted.
const (
	WantRunning Wanted = "running"
	WantStopped Wanted = "stopped"
	WantDeleted Wanted = "deleted"
)

// Category says whose move it is when an agent is in error.
type Category string

// The categories of an agent's last error.
const (
	Credentials Category = "credentials" // a key or token is missing or refused
	Model       Category = "model"       // the model or its provider fails
	Config      Category = "config"      // the agent's configuration is refused
	Capacity    Category = "capacity"    // no server has room
	Runtime     Category = "runtime"     // the gateway fails
)

// Agent is one agent: what is wanted of it and what is so.
type Agent struct {
	ID        string
	AccountID string
	Name      string
	Region    string
	AvatarURL string
	Config    Options
	SwarmID   string

	Wanted  Wanted
	Wish    int64 // counts what was asked: start, stop, restart, delete
	Settled int64 // the wish whose outcome Status shows
	Fresh   int64 // the last wish that asked for a new gateway
	Booted  int64 // the wish that the present gateway was made for

	Status        client.AgentStatus
	LastError     string
	ErrorCategory Category
	Place         string
	RunningHash   string // of the spec that the present gateway was started with

	CreatedAt time.Time
	StartedAt time.Time
	StoppedAt time.Time
}

// Options is an agent's config object. The keys below are ours; every other key
// is kept and returned.
type Options map[string]any

// The keys of Options that mean something.
const (
	optProvider = "llmProvider" // anthropic, openai or google
	optModel    = "model"       // the provider's name of the model
	optBaseURL  = "baseUrl"     // another endpoint for that provider
	optChannels = "channels"    // {"telegram": true, "slack": {"enabled": true}}
	optShared   = "sharedMode"  // every caller is an untrusted peer
)

// maxConfigKeys bounds Options, which is kept in one row.
const maxConfigKeys = 100

// maxModelName is openclaw's limit; the longest name in use has 60 characters.
const maxModelName = 200

// Provider is the provider that is configured, or empty.
func (o Options) Provider() string { return o.text(optProvider) }

// Model is the model that is configured, or empty.
func (o Options) Model() string { return o.text(optModel) }

// BaseURL is the endpoint that replaces the provider's own, or empty.
func (o Options) BaseURL() string { return o.text(optBaseURL) }

// Shared says that every caller is an untrusted peer, named or not.
func (o Options) Shared() bool {
	shared, _ := o[optShared].(bool)
	return shared
}

// Channel says whether a channel is switched on. One that is not mentioned is on
// as soon as its token is there.
func (o Options) Channel(name string) bool {
	channels, _ := o[optChannels].(map[string]any)
	switch v := channels[name].(type) {
	case bool:
		return v
	case map[string]any:
		on, is := v["enabled"].(bool)
		return on || !is
	}
	return true
}

func (o Options) text(key string) string {
	s, _ := o[key].(string)
	return s
}

// merge returns o with the changes made; null removes a key.
func (o Options) merge(changes map[string]any) Options {
	merged := maps.Clone(o)
	if merged == nil {
		merged = Options{}
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

// URLChecker refuses an endpoint that agents must not be pointed at.
type URLChecker interface{ CheckURL(string) error }

func (o Options) validate(wrong fault.Fields, urls URLChecker) {
	if len(o) > maxConfigKeys {
		wrong.Add("config", "must have at most %d keys", maxConfigKeys)
	}
	for _, key := range []string{optProvider, optModel, optBaseURL} {
		if v, ok := o[key]; ok {
			if s, isText := v.(string); !isText || s == "" || len(s) > 2048 {
				wrong.Add("config."+key, "must be a string of 1-2048 characters, or null to remove it")
			}
		}
	}
	if p := o.Provider(); p != "" {
		if _, err := modelprovider.Parse(p); err != nil {
			wrong.Add("config.llmProvider", "%v", err)
		}
	}
	if strings.ContainsFunc(o.Model(), unicode.IsSpace) || len(o.Model()) > maxModelName {
		wrong.Add("config.model", "must be the provider's name for a model: at most %d characters, no spaces", maxModelName)
	}
	if b := o.BaseURL(); b != "" {
		if err := urls.CheckURL(b); err != nil {
			wrong.Add("config.baseUrl", "%s", err)
		}
	}
	if v, ok := o[optShared]; ok {
		if _, isBool := v.(bool); !isBool {
			wrong.Add("config.sharedMode", "must be true or false")
		}
	}
	o.validateChannels(wrong)
}

func (o Options) validateChannels(wrong fault.Fields) {
	v, ok := o[optChannels]
	if !ok {
		return
	}
	channels, isObject := v.(map[string]any)
	if !isObject {
		wrong.Add("config.channels", `must be an object such as {"telegram": true}`)
		return
	}
	for name, c := range channels {
		if name != "telegram" && name != "slack" {
			wrong.Add("config.channels."+name, `is no channel of agento: use "telegram" or "slack"`)
		} else if !validChannel(c) {
			wrong.Add("config.channels."+name, `must be true, false or an object such as {"enabled": true}`)
		}
	}
}

func validChannel(v any) bool {
	switch c := v.(type) {
	case bool:
		return true
	case map[string]any:
		enabled, given := c["enabled"]
		_, isBool := enabled.(bool)
		return isBool || !given
	}
	return false
}

func validateName(wrong fault.Fields, name string) {
	if n := utf8.RuneCountInString(name); n < 1 || n > 100 {
		wrong.Add("name", "must have 1-100 characters, it has %d", n)
	}
	if !printable(name) {
		wrong.Add("name", "must be one line of readable text")
	}
}

// printable refuses control characters, which would break the agent's files, and
// bytes that are no text.
func printable(s string) bool {
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return false
		}
	}
	return true
}

func validateAvatar(wrong fault.Fields, avatar string) {
	u, err := url.Parse(avatar)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || len(avatar) > 2048 {
		wrong.Add("avatarUrl", "must be an http or https URL of at most 2048 characters, or null to remove it")
	}
}
