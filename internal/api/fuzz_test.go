package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/api"
)

// FuzzEveryRoute sends random input to every route, with a key that has every scope.
// The response is never an internal error, and every error has the contract's body.
func FuzzEveryRoute(f *testing.F) {
	env := newEnv(f, options{})
	z := &fuzzEnv{fixture: env.newFixture("fuzz")}
	table := env.Server.Table()
	for i, row := range table {
		text, _ := z.body(row).(string)
		f.Add(uint(i), "owned", "", []byte(text))
		f.Add(uint(i), "1", "limit=2&offset=1&since=2026-01-01T00:00:00Z&agentId="+z.agent, []byte(`{"name":null,"secrets":{"A":1},"chunks":[{}],"config":{"a":[{}]},"message":"\u0000","context":{"a":{}}}`))
	}
	for _, text := range []string{"", "null", "[]", "{", `"\xff"`, "\xff", `{"name":"\ud800"}`, `{"a":1e999}`, strings.Repeat("[", 20_000)} {
		f.Add(uint(1), "%00", "tail=-1&limit=9999999999999999999&a[b]=c&;&%zz", []byte(text))
	}
	f.Fuzz(func(t *testing.T, n uint, name, query string, body []byte) {
		env.T = t // failures are reported to this run
		z.check(t, table[n%uint(len(table))], name, query, body)
	})
}

// TestWrongTypesNeverCauseInternalErrors replaces each value of a request by values
// of every type.
func TestWrongTypesNeverCauseInternalErrors(t *testing.T) {
	env := newEnv(t, options{})
	z := &fuzzEnv{fixture: env.newFixture("typed")}
	wrong := []any{nil, true, -1, 1.5, 1e300, "", "x", "\x00", strings.Repeat("x", 300), []any{}, []any{nil, 1}, map[string]any{}, map[string]any{"": nil, "a": []any{}}}
	for _, row := range env.Server.Table() {
		text, ok := z.body(row).(string)
		if !ok || !json.Valid([]byte(text)) {
			continue // no body, or a file
		}
		for _, v := range wrong {
			for _, body := range variants(t, text, v) {
				z.check(t, row, "owned", "", body)
			}
		}
	}
}

// variants returns variants of a JSON body, each with v in place of one of its values.
func variants(t *testing.T, text string, v any) [][]byte {
	t.Helper()
	var body any
	if err := json.Unmarshal([]byte(text), &body); err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	add := func() {
		encoded, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, encoded)
	}
	var walk func(node any)
	walk = func(node any) {
		switch node := node.(type) {
		case map[string]any:
			for k, old := range node {
				walk(old)
				node[k] = v
				add()
				node[k] = old
			}
		case []any:
			for i, old := range node {
				walk(old)
				node[i] = v
				add()
				node[i] = old
			}
		}
	}
	walk(body)
	return all
}

// check sends a request and fails the test if the response breaks a rule that holds
// for all of them.
func (z *fuzzEnv) check(t *testing.T, row api.Row, name, query string, body []byte) {
	t.Helper()
	a := z.send(t, row, name, query, body)
	if a.status >= 500 && !slices.Contains([]int{http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}, a.status) {
		t.Errorf("%s: %d %s\n%s", a.request, a.status, a.body, z.env.Log)
	}
	if a.status >= 400 {
		a.expectError(a.status, a.field("error.code"))
		if a.field("error.code") == "" || a.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d has no error body: %v %s", a.request, a.status, a.header, a.body)
		}
	}
	for _, secret := range fixtureSecrets() {
		if strings.Contains(a.body, secret) {
			t.Errorf("%s shows %q: %s", a.request, secret, a.body)
		}
	}
	z.repair(t, row, a)
}

// fuzzEnv is a fixture that is repaired after every request, so that the next one has
// an agent and a swarm to act on.
type fuzzEnv struct {
	fixture
	fixtures int // so far
}

// send calls the server without a network. It disconnects from a log stream as soon
// as the response begins.
func (z *fuzzEnv) send(t *testing.T, row api.Row, name, query string, body []byte) *response {
	t.Helper()
	path, known, _ := strings.Cut(z.path(row), "?")
	path = strings.ReplaceAll(path, "/owned", "/"+url.PathEscape(name))
	if strings.Contains(row.Path, "{n}") {
		path = strings.ReplaceAll(path, "/versions/1", "/versions/"+url.PathEscape(name))
	}
	for {
		ctx, cancel := context.WithCancel(t.Context())
		req := httptest.NewRequestWithContext(ctx, row.Method, "/", bytes.NewReader(body))
		u, err := url.Parse(path)
		if err != nil {
			cancel()
			t.Skip("no client can send that path")
		}
		u.RawQuery = strings.Trim(known+"&"+query, "&")
		req.URL, req.RequestURI = u, u.String()
		req.Header.Set("X-Api-Key", z.key)
		req.Header.Set("Content-Type", "application/json")
		out := &cancelWriter{ResponseRecorder: httptest.NewRecorder(), cancel: func() {}}
		if row.Stream && row.Method == http.MethodGet {
			out.cancel = cancel
		}
		z.env.Server.ServeHTTP(out, req)
		cancel()
		if out.Code == http.StatusTooManyRequests {
			z.caller = z.env.newKey(z.account, access.AllScopes(), access.MaxRateLimit)
			continue
		}
		return &response{t: t, request: row.Method + " " + path + "?" + query, status: out.Code, header: out.Header(), body: out.Body.String()}
	}
}

// cancelWriter is a client that disconnects when the response begins.
type cancelWriter struct {
	*httptest.ResponseRecorder
	cancel func()
}

func (l *cancelWriter) WriteHeader(status int) {
	l.ResponseRecorder.WriteHeader(status)
	l.cancel()
}

func (z *fuzzEnv) repair(t *testing.T, row api.Row, a *response) {
	t.Helper()
	if a.status/100 != 2 {
		return
	}
	switch row.Method + " " + row.Path {
	case "POST /v1/agents":
		z.do("DELETE", "/v1/agents/"+a.field("data.id"), nil).expect(200)
	case "POST /v1/swarms":
		z.do("DELETE", "/v1/swarms/"+a.field("data.id"), nil).expect(200)
	case "DELETE /v1/agents/{id}", "DELETE /v1/swarms/{id}":
		z.fixtures++
		z.fixture = z.env.newFixture(fmt.Sprint("fuzz ", z.fixtures))
	case "POST /v1/agents/{id}/stop":
		z.do("POST", "/v1/agents/"+z.agent+"/start", nil).expect(200)
	}
}
