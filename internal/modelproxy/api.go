package modelproxy

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

// api is a provider's HTTP API as the proxy offers it. The first part of the proxy's
// paths is the provider's name: a gateway's base URL is the proxy's address with
// /anthropic, /openai/v1 or /google/v1beta.
type api struct {
	provider.Provider
	wire
}

// wire is what only the proxy has to know about a provider's API.
type wire struct {
	// routes lists what gateways may call: the method and the path, with a ! for calls
	// that cost tokens. An account's key is allowed more than its agents should be.
	routes []string
	setKey func(h http.Header, key string)
	fail   func(status int, message string) any // returns the body of an error
	// failEvent returns the event of a stream that fails with a body of fail's.
	failEvent func(path string, body []byte) string
}

var wires = map[provider.Name]wire{
	provider.Anthropic: {
		routes: []string{"POST! /v1/messages", "POST /v1/messages/count_tokens", "GET /v1/models", "GET /v1/models/{model}"},
		setKey: func(h http.Header, key string) { h.Set("X-Api-Key", key) },
		fail: func(status int, message string) any {
			return object{"type": "error", "error": object{"type": errorType(status), "message": message}}
		},
		failEvent: func(_ string, body []byte) string { return "event: error\ndata: " + string(body) + "\n\n" },
	},
	provider.OpenAI: {
		routes: []string{
			"POST! /v1/chat/completions", "POST! /v1/completions", "POST! /v1/responses", "POST! /v1/responses/compact",
			"POST! /v1/embeddings", "GET /v1/models", "GET /v1/models/{model...}",
		},
		setKey: func(h http.Header, key string) { h.Set("Authorization", "Bearer "+key) },
		fail: func(status int, message string) any {
			return object{"error": object{"message": message, "type": errorType(status), "param": nil, "code": nil}}
		},
		failEvent: func(path string, body []byte) string {
			if !strings.HasSuffix(path, "/responses") {
				return "data: " + string(body) + "\n\n"
			}
			var answer struct {
				Error struct{ Message, Type string }
			}
			_ = json.Unmarshal(body, &answer)
			event, _ := json.Marshal(object{"type": "error", "code": answer.Error.Type, "message": answer.Error.Message, "param": nil, "sequence_number": 0})
			return "event: error\ndata: " + string(event) + "\n\n"
		},
	},
	provider.Google: {
		routes: []string{"POST! /v1beta/models/{call}", "GET /v1beta/models", "GET /v1beta/models/{model}"},
		setKey: func(h http.Header, key string) { h.Set("X-Goog-Api-Key", key) },
		fail: func(status int, message string) any {
			return object{"error": object{"code": status, "message": message, "status": googleStatus[status]}}
		},
		failEvent: func(_ string, body []byte) string { return "data: " + string(body) + "\n\n" },
	},
}

type object = map[string]any

// apis returns the API of every provider.
func apis() []*api {
	var all []*api
	for _, p := range provider.All() {
		all = append(all, &api{p, wires[p.Name]})
	}
	return all
}

// target returns the URL of a call: base and path, which is the path below the
// provider's name. base is accepted with and without the version that it should have;
// empty means the provider's own endpoint.
func (a *api) target(base, path string) (*url.URL, error) {
	if base == "" {
		base = a.BaseURL
	}
	u, err := url.Parse(strings.TrimRight(base, "/"))
	if err != nil {
		return nil, err
	}
	escaped := u.EscapedPath()
	switch {
	case a.VersionInBase && escaped == "":
	case a.VersionInBase:
		path = strings.TrimPrefix(path, a.Version)
	default:
		escaped = strings.TrimSuffix(escaped, a.Version)
	}
	escaped += path
	plain, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, err
	}
	u.Path, u.RawPath = plain, escaped
	return u, nil
}

// googleCall matches the path after models/: a model and a method that costs tokens.
var googleCall = regexp.MustCompile(`^([A-Za-z0-9._-]+):(generateContent|streamGenerateContent|countTokens|embedContent|batchEmbedContents)$`)

// hasDotSegment reports whether a path has a part . or .. in it. Our mux accepts an
// escaped ../ as part of a model's name, but the provider, or a proxy before it, may
// follow it to a path that is not offered.
func hasDotSegment(path string) bool {
	for part := range strings.FieldsFuncSeq(path, func(c rune) bool { return c == '/' || c == '\\' }) {
		if part == "." || part == ".." {
			return true
		}
	}
	return false
}

// readToken returns the gateway's token from any of the places in which the clients of
// the providers send a key.
func readToken(r *http.Request) vault.Secret {
	bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	for _, v := range []string{r.Header.Get("X-Api-Key"), bearer, r.Header.Get("X-Goog-Api-Key"), r.URL.Query().Get("key")} {
		if v != "" {
			return vault.NewSecret(v)
		}
	}
	return vault.Secret{}
}

// removeCredentials removes every credential from a request to a provider.
func removeCredentials(out *http.Request) {
	for _, h := range []string{"X-Api-Key", "Authorization", "X-Goog-Api-Key", "Api-Key", "Cookie"} {
		out.Header.Del(h)
	}
	if query := out.URL.Query(); query.Has("key") {
		query.Del("key")
		out.URL.RawQuery = query.Encode()
	}
}

// errorType returns Anthropic's and OpenAI's name of an error.
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

// errorBody returns an error in the provider's format.
func (a *api) errorBody(status int, message string) []byte {
	body, err := json.Marshal(a.fail(status, message))
	if err != nil {
		return []byte("{}") // impossible: it has only strings and numbers
	}
	return body
}

// decodeObject returns the fields of a JSON object, or of the first one of a list; nil if
// data is neither.
func decodeObject(data []byte) map[string]any {
	var value any
	if json.Unmarshal(data, &value) != nil {
		return nil
	}
	if list, ok := value.([]any); ok && len(list) > 0 {
		value = list[0]
	}
	fields, _ := value.(map[string]any)
	return fields
}
