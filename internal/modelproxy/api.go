package modelproxy

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"agento.host/agento/internal/vault"
)

// The providers, as config.llmProvider names them. Each is also the first part
// of the proxy's paths: a gateway's base URL is the proxy's address with
// /anthropic, /openai/v1 or /google/v1beta.
const (
	Anthropic = "anthropic"
	OpenAI    = "openai"
	Google    = "google"
)

// provider is what the proxy must know of one provider's protocol.
type provider struct {
	name    string
	base    string // the real one; with version if the protocol's base URLs have it
	version string // where the proxy's paths have it
	// inBase says that a base URL ends with the version, as OpenAI's and Google's
	// do by convention, and Anthropic's does not.
	inBase bool
	// offers lists what gateways may call: method, path, and ! for calls that
	// cost tokens. An account's key can do more than its agents should.
	offers []string
	auth   func(h http.Header, key string)
	fail   func(status int, message string) any
}

var providers = []provider{{
	name: Anthropic, base: "https://api.anthropic.com", version: "/v1",
	offers: []string{"POST! /v1/messages", "POST /v1/messages/count_tokens", "GET /v1/models", "GET /v1/models/{model}"},
	auth:   func(h http.Header, key string) { h.Set("X-Api-Key", key) },
	fail: func(status int, message string) any {
		return object{"type": "error", "error": object{"type": errorType(status), "message": message}}
	},
}, {
	name: OpenAI, base: "https://api.openai.com/v1", version: "/v1", inBase: true,
	offers: []string{
		"POST! /v1/chat/completions", "POST! /v1/completions", "POST! /v1/responses", "POST! /v1/responses/compact",
		"POST! /v1/embeddings", "GET /v1/models", "GET /v1/models/{model...}",
	},
	auth: func(h http.Header, key string) { h.Set("Authorization", "Bearer "+key) },
	fail: func(status int, message string) any {
		return object{"error": object{"message": message, "type": errorType(status), "param": nil, "code": nil}}
	},
}, {
	name: Google, base: "https://generativelanguage.googleapis.com/v1beta", version: "/v1beta", inBase: true,
	offers: []string{"POST! /v1beta/models/{call}", "GET /v1beta/models", "GET /v1beta/models/{model}"},
	auth:   func(h http.Header, key string) { h.Set("X-Goog-Api-Key", key) },
	fail: func(status int, message string) any {
		return object{"error": object{"code": status, "message": message, "status": googleStatus[status]}}
	},
}}

type object = map[string]any

// target returns where a call goes: base with the rest of the call's path. A
// base URL is accepted with and without the version it should have.
func (p *provider) target(base, rest string) (*url.URL, error) {
	if base == "" {
		base = p.base
	}
	u, err := url.Parse(strings.TrimRight(base, "/"))
	if err != nil {
		return nil, err
	}
	escaped := u.EscapedPath()
	switch {
	case p.inBase && escaped == "":
	case p.inBase:
		rest = strings.TrimPrefix(rest, p.version)
	default:
		escaped = strings.TrimSuffix(escaped, p.version)
	}
	escaped += rest
	plain, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, err
	}
	u.Path, u.RawPath = plain, escaped
	return u, nil
}

// googleCall is what may follow models/: a model and a method that costs tokens.
var googleCall = regexp.MustCompile(`^([A-Za-z0-9._-]+):(generateContent|streamGenerateContent|countTokens|embedContent|batchEmbedContents)$`)

// climbs says whether a path has a part that leads elsewhere. Our mux takes an
// escaped ../ for a part of a model's name; the provider, or what stands before
// it, may follow it to what is not offered.
func climbs(path string) bool {
	for part := range strings.FieldsFuncSeq(path, func(c rune) bool { return c == '/' || c == '\\' }) {
		if part == "." || part == ".." {
			return true
		}
	}
	return false
}

// tokenOf reads the gateway's token, wherever its provider's client puts a key.
func tokenOf(r *http.Request) vault.Secret {
	bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	for _, v := range []string{r.Header.Get("X-Api-Key"), bearer, r.Header.Get("X-Goog-Api-Key"), r.URL.Query().Get("key")} {
		if v != "" {
			return vault.NewSecret(v)
		}
	}
	return vault.Secret{}
}

// stripToken takes every credential out of a request that goes to a provider.
func stripToken(out *http.Request) {
	for _, h := range []string{"X-Api-Key", "Authorization", "X-Goog-Api-Key", "Api-Key", "Cookie"} {
		out.Header.Del(h)
	}
	if query := out.URL.Query(); query.Has("key") {
		query.Del("key")
		out.URL.RawQuery = query.Encode()
	}
}

// errorType is what Anthropic and OpenAI call a failure.
func errorType(status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return "authentication_error"
	case status == http.StatusNotFound:
		return "not_found_error"
	case status == http.StatusTooManyRequests:
		return "rate_limit_error"
	case status >= 500:
		return "api_error"
	}
	return "invalid_request_error"
}

var googleStatus = map[int]string{
	400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED",
	500: "INTERNAL", 502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}

// errorBody is a failure as the provider would have written it.
func (p *provider) errorBody(status int, message string) []byte {
	body, err := json.Marshal(p.fail(status, message))
	if err != nil {
		return []byte("{}") // not possible: strings and numbers
	}
	return body
}
