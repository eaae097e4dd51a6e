package api_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agentarchive"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/identity"
)

// This file is the test environment of the package: the server of apitest (testEnv), and
// a client of its API (caller, response).

// testEnv is the server with its real services and scripted gateways.
type testEnv struct{ *apitest.Env }

// options of a test environment. The zero value is what most tests need.
type options = apitest.Options

// newEnv returns an environment that is closed at the end of the test.
func newEnv(t testing.TB, o options) *testEnv {
	t.Helper()
	o.Handler = checkStatuses
	return &testEnv{apitest.New(t, o)}
}

// checkStatuses returns the server as a handler that fails the test if a route
// answers with an error status that the OpenAPI document does not state.
func checkStatuses(env *apitest.Env) http.Handler {
	if _, ok := env.T.(*testing.T); !ok {
		return env.Server // benchmarks measure the server alone
	}
	stated, routes := map[string]map[string]any{}, http.NewServeMux()
	out := httptest.NewRecorder()
	env.Server.ServeHTTP(out, httptest.NewRequestWithContext(env.T.Context(), http.MethodGet, "/openapi.json", nil))
	var doc struct {
		Paths map[string]map[string]struct{ Responses map[string]any }
	}
	if err := json.Unmarshal(out.Body.Bytes(), &doc); err != nil {
		env.T.Fatalf("read /openapi.json: %v", err)
	}
	for _, row := range env.Server.Table() {
		pattern := row.Method + " " + row.Path
		stated[pattern] = doc.Paths[row.Path][strings.ToLower(row.Method)].Responses
		routes.Handle(pattern, http.NotFoundHandler())
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &statusRecorder{ResponseWriter: w}
		env.Server.ServeHTTP(rec, r)
		_, pattern := routes.Handler(r)
		if responses, ok := stated[pattern]; ok && rec.status >= 400 && responses[strconv.Itoa(rec.status)] == nil {
			env.T.Errorf("%s answered %d, which its row in the table does not state", pattern, rec.status)
		}
	})
}

type statusRecorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// caller is a client of the API with an API key.
type caller struct {
	env     *testEnv
	account identity.AccountID
	keyID   identity.KeyID
	key     string
}

// newAccount creates an account and returns a caller whose key has every scope but
// chat:owner, and a rate limit that tests do not reach. An empty planID means the first plan.
func (env *testEnv) newAccount(name, planID string) *caller {
	env.T.Helper()
	id := env.NewAccount(name, planID)
	return env.newKey(id, apitest.AllScopes(env.T), access.MaxRateLimit)
}

// newKey returns a caller with a new key.
func (env *testEnv) newKey(account identity.AccountID, scopes access.Scopes, rateLimit int) *caller {
	env.T.Helper()
	k, secret := env.NewKey(account, scopes, rateLimit)
	return &caller{env: env, account: account, keyID: k.ID, key: secret}
}

// client returns the Go client of this caller.
func (c *caller) client() *client.Client {
	return &client.Client{URL: c.env.URL, APIKey: c.key, Retries: -1}
}

// do sends a request. body is JSON text, a value to encode as JSON, or nil.
func (c *caller) do(method, path string, body any, headers ...string) *response {
	c.env.T.Helper()
	res, err := http.DefaultClient.Do(c.request(context.Background(), method, path, body, headers...))
	if err != nil {
		c.env.T.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		c.env.T.Fatalf("%s %s: %v", method, path, err)
	}
	return &response{t: c.env.T, request: method + " " + path, status: res.StatusCode, header: res.Header, body: string(text)}
}

func (c *caller) request(ctx context.Context, method, path string, body any, headers ...string) *http.Request {
	c.env.T.Helper()
	text, isText := body.(string)
	content, isFile := body.([]byte)
	if isFile {
		text = string(content)
	} else if body != nil && !isText {
		encoded, err := json.Marshal(body)
		if err != nil {
			c.env.T.Fatal(err)
		}
		text = string(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.env.URL+path, strings.NewReader(text))
	if err != nil {
		c.env.T.Fatal(err)
	}
	if c.key != "" {
		req.Header.Set("X-Api-Key", c.key)
	}
	if strings.HasPrefix(text, "\x1f\x8b") {
		req.Header.Set("Content-Type", agentarchive.ContentType)
	} else if isFile {
		req.Header.Set("Content-Type", "application/octet-stream")
	} else if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return req
}

// newAgent creates an agent, waits until it runs and returns its id.
func (c *caller) newAgent(name string) string {
	c.env.T.Helper()
	in := map[string]any{"name": name, "secrets": map[string]string{"anthropicApiKey": "sk-ant-test"}}
	return c.do("POST", "/v1/agents", in).expect(201).field("data.id")
}

// response is the response to a request.
type response struct {
	t       testing.TB
	request string // method and path
	status  int
	header  http.Header
	body    string
}

// expect fails the test unless the response has that status.
func (r *response) expect(status int) *response {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("%s: status %d, want %d: %s", r.request, r.status, status, r.body)
	}
	return r
}

// expectError fails the test unless the response is the contract's error body with
// that status and code.
func (r *response) expectError(status int, code string) *response {
	r.t.Helper()
	r.expect(status)
	if got := r.field("error.code"); got != code {
		r.t.Fatalf("%s: code %q, want %q: %s", r.request, got, code, r.body)
	}
	if r.field("error.message") == "" || r.field("error.requestId") != r.header.Get("X-Request-Id") {
		r.t.Fatalf("%s: the error body lacks a message or its request id: %s", r.request, r.body)
	}
	return r
}

// json returns the decoded body.
func (r *response) json() any {
	r.t.Helper()
	var v any
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		r.t.Fatalf("%s: the body of status %d is not JSON: %s", r.request, r.status, r.body)
	}
	return v
}

// field returns the value at a path such as data.0.id: a string as it is, anything
// else as JSON. It returns "" if there is none.
func (r *response) field(path string) string {
	r.t.Helper()
	v, ok := at(r.json(), path)
	if !ok {
		return ""
	}
	if s, ok := v.(string); ok {
		return s
	}
	encoded, err := json.Marshal(v)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(encoded)
}

// at follows a path of field names and list indexes; "*" is the length of a list. A
// field whose name has dots matches the rest of the path.
func at(v any, path string) (any, bool) {
	if path == "" {
		return v, true
	}
	step, rest, _ := strings.Cut(path, ".")
	switch node := v.(type) {
	case map[string]any:
		if value, ok := node[path]; ok {
			return value, true
		}
		next, ok := node[step]
		if !ok {
			return nil, false
		}
		return at(next, rest)
	case []any:
		if step == "*" {
			return float64(len(node)), true
		}
		i, err := strconv.Atoi(step)
		if err != nil || i < 0 || i >= len(node) {
			return nil, false
		}
		return at(node[i], rest)
	}
	return nil, false
}

// editHome changes a file in an agent's home, as the agent itself does.
func (env *testEnv) editHome(agentID, path, content string) {
	env.T.Helper()
	env.EditHome(identity.AgentID(agentID), path, content)
}
