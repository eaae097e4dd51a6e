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

// FuzzEveryRoute throws anything at every route, with a key that may do
// everything: the answer is never a failure of ours, and always in the contract's
// envelope if it is a refusal.
func FuzzEveryRoute(f *testing.F) {
	h := open(f, plan{})
	z := &fuzzed{owned: h.owner("fuzz")}
	table := h.door.Table()
	for i, row := range table {
		text, _ := z.body(row).(string)
		f.Add(uint(i), "owned", "", []byte(text))
		f.Add(uint(i), "1", "limit=2&offset=1&since=2026-01-01T00:00:00Z&agentId="+z.agent, []byte(`{"name":null,"secrets":{"A":1},"chunks":[{}],"config":{"a":[{}]},"message":"\u0000","context":{"a":{}}}`))
	}
	for _, text := range []string{"", "null", "[]", "{", `"\xff"`, "\xff", `{"name":"\ud800"}`, `{"a":1e999}`, strings.Repeat("[", 20_000)} {
		f.Add(uint(1), "%00", "tail=-1&limit=9999999999999999999&a[b]=c&;&%zz", []byte(text))
	}
	f.Fuzz(func(t *testing.T, n uint, name, query string, body []byte) {
		h.t = t // whom failures are told to
		z.try(t, table[n%uint(len(table))], name, query, body)
	})
}

// TestNoWrongTypeIsAFailureOfOurs puts values of every type where a request has
// another.
func TestNoWrongTypeIsAFailureOfOurs(t *testing.T) {
	h := open(t, plan{})
	z := &fuzzed{owned: h.owner("typed")}
	wrong := []any{nil, true, -1, 1.5, 1e300, "", "x", "\x00", strings.Repeat("x", 300), []any{}, []any{nil, 1}, map[string]any{}, map[string]any{"": nil, "a": []any{}}}
	for _, row := range h.door.Table() {
		text, ok := z.body(row).(string)
		if !ok {
			continue
		}
		for _, v := range wrong {
			for _, body := range replaced(t, text, v) {
				z.try(t, row, "owned", "", body)
			}
		}
	}
}

// replaced are variants of a JSON body, each with v in place of one of its values.
func replaced(t *testing.T, text string, v any) [][]byte {
	t.Helper()
	var body any
	if err := json.Unmarshal([]byte(text), &body); err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	note := func() {
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
				note()
				node[k] = old
			}
		case []any:
			for i, old := range node {
				walk(old)
				node[i] = v
				note()
				node[i] = old
			}
		}
	}
	walk(body)
	return all
}

// try sends a request and holds the answer against what must be so of every one.
func (z *fuzzed) try(t *testing.T, row api.Row, name, query string, body []byte) {
	t.Helper()
	a := z.ask(t, row, name, query, body)
	if a.status >= 500 && !slices.Contains([]int{http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}, a.status) {
		t.Errorf("%s: %d %s\n%s", a.asked, a.status, a.body, z.h.log)
	}
	if a.status >= 400 {
		a.refuses(a.status, a.text("error.code"))
		if a.text("error.code") == "" || a.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d is refused without the envelope: %v %s", a.asked, a.status, a.header, a.body)
		}
	}
	for _, secret := range secretsOf() {
		if strings.Contains(a.body, secret) {
			t.Errorf("%s shows %q: %s", a.asked, secret, a.body)
		}
	}
	z.mend(t, row, a)
}

// fuzzed is a house that is mended after every request, so that the next one finds
// something to act on.
type fuzzed struct {
	owned
	owners int // so far
}

// ask calls the server without a network. A stream is left as soon as it begins.
func (z *fuzzed) ask(t *testing.T, row api.Row, name, query string, body []byte) *answer {
	t.Helper()
	path, known, _ := strings.Cut(z.path(row), "?")
	path = strings.ReplaceAll(path, "/owned", "/"+url.PathEscape(name))
	if strings.Contains(row.Path, "{n}") {
		path = strings.ReplaceAll(path, "/versions/1", "/versions/"+url.PathEscape(name))
	}
	for {
		ctx, leave := context.WithCancel(t.Context())
		req := httptest.NewRequestWithContext(ctx, row.Method, "/", bytes.NewReader(body))
		u, err := url.Parse(path)
		if err != nil {
			leave()
			t.Skip("no client can send that path")
		}
		u.RawQuery = strings.Trim(known+"&"+query, "&")
		req.URL, req.RequestURI = u, u.String()
		req.Header.Set("X-Api-Key", z.key)
		req.Header.Set("Content-Type", "application/json")
		out := &leaver{ResponseRecorder: httptest.NewRecorder(), leave: func() {}}
		if row.Stream && row.Method == http.MethodGet {
			out.leave = leave
		}
		z.h.door.ServeHTTP(out, req)
		leave()
		if out.Code == http.StatusTooManyRequests {
			z.caller = z.h.key(z.account, access.AllScopes(), access.MaxRateLimit)
			continue
		}
		return &answer{t: t, asked: row.Method + " " + path + "?" + query, status: out.Code, header: out.Header(), body: out.Body.String()}
	}
}

// leaver is a client that goes away when the answer begins.
type leaver struct {
	*httptest.ResponseRecorder
	leave func()
}

func (l *leaver) WriteHeader(status int) {
	l.ResponseRecorder.WriteHeader(status)
	l.leave()
}

func (z *fuzzed) mend(t *testing.T, row api.Row, a *answer) {
	t.Helper()
	if a.status/100 != 2 {
		return
	}
	switch row.Method + " " + row.Path {
	case "POST /v1/agents":
		z.do("DELETE", "/v1/agents/"+a.text("data.id"), nil).wants(200)
	case "POST /v1/swarms":
		z.do("DELETE", "/v1/swarms/"+a.text("data.id"), nil).wants(200)
	case "DELETE /v1/agents/{id}", "DELETE /v1/swarms/{id}":
		z.owners++
		z.owned = z.h.owner(fmt.Sprint("fuzz ", z.owners))
	case "POST /v1/agents/{id}/stop":
		z.do("POST", "/v1/agents/"+z.agent+"/start", nil).wants(200)
	}
}
