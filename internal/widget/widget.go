// Package widget owns chat widgets: an agent on the websites of a customer. It has their keys and
// signing secrets, the tokens of visitors, and what a widget and its visitors may use. A visitor is
// a peer of one agent, and a guest: package door serves what a visitor may do.
package widget

import (
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

const (
	// KeyPrefix begins the key of every widget. The key names the widget in the pages of a
	// website, so it is no secret.
	KeyPrefix = "wk_"
	// SecretPrefix begins the signing secret of every widget.
	SecretPrefix = "wks_"

	idPrefix    = "widget_"
	keyBytes    = 16
	secretBytes = 32
)

const (
	// MaxWidgets is how many widgets an account may have.
	MaxWidgets = 100
	// DefaultDailyMessages is the limit of messages of a widget for which none is set.
	DefaultDailyMessages = 500
	// MaxDailyMessages bounds the limit of messages of a day.
	MaxDailyMessages = 1_000_000
	// MaxDailyTokens bounds that of tokens.
	MaxDailyTokens = 1_000_000_000_000
	// MaxGrace is how long a former key or signing secret may stay valid.
	MaxGrace = 30 * 24 * time.Hour

	maxName     = 100
	maxTitle    = 60
	maxGreeting = 500
	maxOrigins  = 20
	maxOrigin   = 200
)

// AnyOrigin among the origins of a widget means every website.
const AnyOrigin = "*"

// Widget is a chat widget without its signing secret.
type Widget struct {
	ID        identity.WidgetID
	AccountID identity.AccountID
	AgentID   identity.AgentID
	Name      string
	Key       string
	Origins   []string // of the websites that may use it; empty: nobody may
	Theme     Theme
	Greeting  string // the first line of an empty chat; empty: none
	Limits    Limits
	Enabled   bool
	CreatedBy string // the actor that has made it
	CreatedAt time.Time
	UpdatedAt time.Time

	// PreviousKeyUntil and PreviousSecretUntil are when the key and the signing secret end that it
	// had before they were rotated; zero: it has none.
	PreviousKeyUntil    time.Time
	PreviousSecretUntil time.Time

	Today Day

	previousKey             string
	keyNumber, secretNumber int64
	broken                  bool // the row is damaged: it serves nobody
}

// Limits of a widget in a day of UTC.
type Limits struct {
	Messages int64
	Tokens   int64 // 0: no limit
}

// Theme is how a widget looks.
type Theme struct {
	Title    string `json:"title"`    // of the window; empty: the name of the widget
	Color    string `json:"color"`    // #rrggbb
	Mode     string `json:"mode"`     // auto, light or dark
	Position string `json:"position"` // right or left
}

// DefaultTheme is that of a widget for which none is set.
func DefaultTheme() Theme { return Theme{Color: "#2563eb", Mode: "auto", Position: "right"} }

// Day is what a widget has used in a day.
type Day struct {
	Date     string // 2026-02-10, of UTC
	Messages int64
	Tokens   int64
}

// Changes of a widget; nil leaves a field as it is.
type Changes struct {
	Name     *string
	Origins  *[]string
	Theme    *Theme
	Greeting *string
	Messages *int64
	Tokens   *int64
	Enabled  *bool
}

// apply returns the widget with the changes, and the names of the fields that have changed.
func (w Widget) apply(c Changes) (Widget, []string) {
	fields := []string{}
	set := func(field string, differs bool, change func()) {
		if differs {
			change()
			fields = append(fields, field)
		}
	}
	if c.Name != nil {
		set("name", *c.Name != w.Name, func() { w.Name = *c.Name })
	}
	if c.Origins != nil {
		set("origins", !slices.Equal(*c.Origins, w.Origins), func() { w.Origins = *c.Origins })
	}
	if c.Theme != nil {
		set("theme", *c.Theme != w.Theme, func() { w.Theme = *c.Theme })
	}
	if c.Greeting != nil {
		set("greeting", *c.Greeting != w.Greeting, func() { w.Greeting = *c.Greeting })
	}
	if c.Messages != nil {
		set("dailyMessages", *c.Messages != w.Limits.Messages, func() { w.Limits.Messages = *c.Messages })
	}
	if c.Tokens != nil {
		set("dailyTokens", *c.Tokens != w.Limits.Tokens, func() { w.Limits.Tokens = *c.Tokens })
	}
	if c.Enabled != nil {
		set("enabled", *c.Enabled != w.Enabled, func() { w.Enabled = *c.Enabled })
	}
	return w, fields
}

var colorPattern = regexp.MustCompile(`^#[0-9a-f]{6}$`)

// normalize returns the widget with its texts in their stored form, or a fault that names every
// invalid field.
func (w Widget) normalize() (Widget, error) {
	wrong := fault.Fields{}
	w.Name, w.Theme.Title, w.Greeting = strings.TrimSpace(w.Name), strings.TrimSpace(w.Theme.Title), strings.TrimSpace(w.Greeting)
	if fault.IsBlank(w.Name) {
		wrong.Add("name", "must not be empty")
	}
	checkText(wrong, "name", w.Name, maxName)
	checkText(wrong, "theme.title", w.Theme.Title, maxTitle)
	checkText(wrong, "greeting", strings.ReplaceAll(w.Greeting, "\n", " "), maxGreeting)
	if w.Theme.Color = strings.ToLower(w.Theme.Color); !colorPattern.MatchString(w.Theme.Color) {
		wrong.Add("theme.color", "must be a color such as #2563eb")
	}
	if !slices.Contains([]string{"auto", "light", "dark"}, w.Theme.Mode) {
		wrong.Add("theme.mode", "must be auto, light or dark")
	}
	if w.Theme.Position != "right" && w.Theme.Position != "left" {
		wrong.Add("theme.position", "must be right or left")
	}
	if w.Limits.Messages < 1 || w.Limits.Messages > MaxDailyMessages {
		wrong.Add("dailyMessages", "must be from 1 to %d", MaxDailyMessages)
	}
	if w.Limits.Tokens < 0 || w.Limits.Tokens > MaxDailyTokens {
		wrong.Add("dailyTokens", "must be from 1 to %d, or null for no limit", int64(MaxDailyTokens))
	}
	w.Origins = normalizeOrigins(wrong, w.Origins)
	return w, wrong.Err()
}

func checkText(wrong fault.Fields, field, text string, limit int) {
	switch {
	case utf8.RuneCountInString(text) > limit:
		wrong.Add(field, "must have at most %d characters", limit)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		wrong.Add(field, "must be plain text without control characters")
	}
}

// normalizeOrigins returns origins as browsers write them, each once.
func normalizeOrigins(wrong fault.Fields, origins []string) []string {
	if len(origins) > maxOrigins {
		wrong.Add("origins", "must have at most %d entries, it has %d", maxOrigins, len(origins))
		return nil
	}
	all := []string{}
	for _, text := range origins {
		o, ok := normalizeOrigin(text)
		if !ok {
			wrong.Add("origins", "has %.80q; an entry is the scheme, host and port of a website, such as https://www.example.com or https://*.example.com, or * for every one", text)
			continue
		}
		if !slices.Contains(all, o) {
			all = append(all, o)
		}
	}
	return all
}

func normalizeOrigin(text string) (origin string, ok bool) {
	if text == AnyOrigin {
		return text, true
	}
	u, err := url.Parse(strings.ToLower(text))
	if err != nil || len(text) > maxOrigin || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil ||
		u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
		return "", false
	}
	host := u.Hostname()
	base := strings.TrimPrefix(host, "*.")
	if strings.ContainsFunc(base, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune(".-:_", r)
	}) || strings.Trim(base, ".") != base || host != base && !strings.Contains(base, ".") {
		return "", false
	}
	port := u.Port()
	if strings.HasSuffix(u.Host, ":") || u.Scheme == "http" && port == "80" || u.Scheme == "https" && port == "443" {
		port = ""
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port != "" {
		host += ":" + port
	}
	return u.Scheme + "://" + host, true
}

// AllowsOrigin reports whether pages of an origin may use the widget. An empty one is that of a
// request whose page a browser has not named, as it does for pages of the same origin. It is a
// courtesy to browsers: whoever is none can send any origin.
func (w Widget) AllowsOrigin(origin string) bool {
	if origin == "" {
		return len(w.Origins) > 0
	}
	origin = strings.ToLower(origin)
	return slices.ContainsFunc(w.Origins, func(allowed string) bool {
		scheme, host, wild := strings.Cut(allowed, "://*.")
		if !wild {
			return allowed == AnyOrigin || allowed == origin
		}
		rest, ok := strings.CutPrefix(origin, scheme+"://")
		sub, found := strings.CutSuffix(rest, "."+host)
		return ok && found && sub != ""
	})
}

func encodeJSON(v any) string {
	text, _ := json.Marshal(v) // only texts
	return string(text)
}
