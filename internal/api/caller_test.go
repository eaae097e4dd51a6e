package api_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/identity"
)

// caller is somebody with an API key.
type caller struct {
	h       *house
	account string
	keyID   string
	key     string
}

// account makes an account, and a caller with a key of every scope that tests
// cannot exhaust. An empty plan is the first there is.
func (h *house) account(name, planID string) *caller {
	h.t.Helper()
	a, err := h.accounts.CreateAccount(h.t.Context(), identity.ByOperator(""), name, planID)
	if err != nil {
		h.t.Fatal(err)
	}
	return h.key(string(a.ID), access.AllScopes(), access.MaxRateLimit)
}

// key makes a caller with a key of its own.
func (h *house) key(accountID string, scopes access.Scopes, rateLimit int) *caller {
	h.t.Helper()
	k, secret, err := h.accounts.CreateKey(h.t.Context(), identity.ByOperator(identity.AccountID(accountID)), "test", scopes, rateLimit)
	if err != nil {
		h.t.Fatal(err)
	}
	return &caller{h: h, account: accountID, keyID: string(k.ID), key: secret.Reveal()}
}

// client is the Go client of this caller.
func (c *caller) client() *client.Client { return &client.Client{URL: c.h.url, APIKey: c.key} }

// do sends a request; body is JSON text, or anything that becomes JSON, or nil.
func (c *caller) do(method, path string, body any, headers ...string) *answer {
	c.h.t.Helper()
	res, err := http.DefaultClient.Do(c.request(context.Background(), method, path, body, headers...))
	if err != nil {
		c.h.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		c.h.t.Fatalf("%s %s: %v", method, path, err)
	}
	return &answer{t: c.h.t, asked: method + " " + path, status: res.StatusCode, header: res.Header, body: string(text)}
}

func (c *caller) request(ctx context.Context, method, path string, body any, headers ...string) *http.Request {
	c.h.t.Helper()
	text, isText := body.(string)
	if body != nil && !isText {
		encoded, err := json.Marshal(body)
		if err != nil {
			c.h.t.Fatal(err)
		}
		text = string(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.h.url+path, strings.NewReader(text))
	if err != nil {
		c.h.t.Fatal(err)
	}
	if c.key != "" {
		req.Header.Set("X-Api-Key", c.key)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return req
}

// newAgent makes an agent that runs and returns its id.
func (c *caller) newAgent(name string) string {
	c.h.t.Helper()
	in := map[string]any{"name": name, "secrets": map[string]string{"anthropicApiKey": "sk-ant-test"}}
	return c.do("POST", "/v1/agents", in).wants(201).text("data.id")
}

// answer is what a request came to.
type answer struct {
	t      testing.TB
	asked  string
	status int
	header http.Header
	body   string
}

// wants ends the test if the status is another.
func (a *answer) wants(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: status %d, want %d: %s", a.asked, a.status, status, a.body)
	}
	return a
}

// refuses ends the test unless the answer is the error envelope with that code.
func (a *answer) refuses(status int, code string) *answer {
	a.t.Helper()
	a.wants(status)
	if got := a.text("error.code"); got != code {
		a.t.Fatalf("%s: code %q, want %q: %s", a.asked, got, code, a.body)
	}
	if a.text("error.message") == "" || a.text("error.requestId") != a.header.Get("X-Request-Id") {
		a.t.Fatalf("%s: the envelope lacks a message or its request id: %s", a.asked, a.body)
	}
	return a
}

// json is the decoded body.
func (a *answer) json() any {
	a.t.Helper()
	var v any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		a.t.Fatalf("%s: %d answered with no JSON: %s", a.asked, a.status, a.body)
	}
	return v
}

// text is the value at a path such as data.0.id: as JSON unless it is a string,
// empty if there is none.
func (a *answer) text(path string) string {
	a.t.Helper()
	v, ok := at(a.json(), path)
	if !ok {
		return ""
	}
	if s, ok := v.(string); ok {
		return s
	}
	encoded, err := json.Marshal(v)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(encoded)
}

// at follows a path of fields and list positions; "*" is a list's length. A field
// that has dots in its name is found as the rest of the path.
func at(v any, path string) (any, bool) {
	if path == "" {
		return v, true
	}
	step, rest, _ := strings.Cut(path, ".")
	switch node := v.(type) {
	case map[string]any:
		if whole, ok := node[path]; ok {
			return whole, true
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
