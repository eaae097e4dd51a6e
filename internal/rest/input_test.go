package rest_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/rest"
)

// optionalInput has a parameter or a field of each kind that may be absent.
type optionalInput struct {
	Session string `query:"session" absent:"read all"`
	Color   string `query:"color" enum:"red,blue"`
	Limit   int    `query:"limit"`
	Mode    string `header:"Mode"`
	Body    struct {
		Name    string                  `json:"name"`
		Title   string                  `json:"title" minLength:"1"`
		Peer    string                  `json:"peer,omitempty" absent:"speak for yourself"`
		Kind    string                  `json:"kind,omitempty" enum:"a,b"`
		Text    string                  `json:"text,omitempty" empty:"true"`
		Icon    client.Optional[string] `json:"icon,omitzero" absent:"keep it"`
		On      *bool                   `json:"on,omitempty"`
		Count   int                     `json:"count,omitempty"`
		Tags    []string                `json:"tags,omitempty"`
		Labels  map[string]string       `json:"labels,omitempty"`
		Free    map[string]any          `json:"free,omitempty"`
		Context client.ChatContext      `json:"context,omitempty"`
		Rows    []struct {
			Note string `json:"note,omitempty"`
		} `json:"rows,omitempty"`
	}
}

func optionalAPI() *rest.API {
	return newAPI(rest.Settings{}, rest.NewRoute("POST /v1/every", "Every", func(context.Context, *optionalInput) (*output, error) { return &output{}, nil }))
}

func TestEmptyFieldsAreRefused(t *testing.T) {
	api := optionalAPI()
	for fields, want := range map[string]map[string]string{
		`"peer":""`:                    {"peer": "must not be empty: leave it out to speak for yourself"},
		`"peer":"\u00a0\u200b"`:        {"peer": "must not consist of blanks: leave it out to speak for yourself"},
		`"peer":null`:                  {"peer": "must not be null: leave it out to speak for yourself"},
		`"icon":""`:                    {"icon": "must not be empty: leave it out to keep it, or send null to remove it"},
		`"icon":null`:                  nil,
		`"text":""`:                    nil,
		`"text":null`:                  {"text": "must not be null: leave it out"},
		`"kind":""`:                    {"kind": `must be one of "a, b"`},
		`"on":null,"count":null`:       {"on": "must not be null: leave it out", "count": "must not be null: leave it out"},
		`"tags":null,"rows":null`:      {"tags": "must not be null: leave it out", "rows": "must not be null: leave it out"},
		`"tags":["a"," ",null]`:        {"tags[1]": "must not consist of blanks: leave it out", "tags[2]": "must not be null: leave it out"},
		`"rows":[{},{"note":""}]`:      {"rows[1].note": "must not be empty: leave it out"},
		`"labels":null,"free":null`:    {"labels": "must not be null: leave it out", "free": "must not be null: leave it out"},
		`"labels":{"a":"","b":null}`:   {"labels.b": "must not be null"},
		`"free":{"a":null,"b":""}`:     nil,
		`"context":null`:               {"context": "must not be null: leave it out"},
		`"context":" "`:                {"context": "must not consist of blanks: leave it out"},
		`"context":["a"]`:              {"context": "must be of type string or object"},
		`"context":7`:                  {"context": "must be of type string or object"},
		`"context":true`:               {"context": "must be of type string or object"},
		`"context":{"a":[null,1e400]}`: nil,
		`"Peer":"p"`:                   {"Peer": "is not a field of this request: remove it"},
		`"peer":"","kind":"c"`:         {"peer": "must not be empty: leave it out to speak for yourself", "kind": `must be one of "a, b"`},
	} {
		checkDetails(t, fields, serve(api, newRequest(t, `{"name":"","title":"t",`+fields+`}`)), want)
	}
	checkDetails(t, "title", serve(api, newRequest(t, `{"name":null,"title":" "}`)), map[string]string{"name": "must not be null", "title": "must not consist of blanks"})
}

func TestEmptyParametersAreRefused(t *testing.T) {
	api := optionalAPI()
	for query, want := range map[string]map[string]string{
		"session=":            {"session": "must not be empty: leave it out to read all"},
		"session":             {"session": "must not be empty: leave it out to read all"},
		"session=+%E3%80%80":  {"session": "must not consist of blanks: leave it out to read all"},
		"session=a&session=b": {"session": "must be given once"},
		"color=&limit=":       {"color": "must not be empty: leave it out", "limit": "must not be empty: leave it out"},
		"session=a&limit=1":   nil,
		"Session=a":           {"Session": "is not a parameter of this request: remove it, or use one of session, color, limit"},
	} {
		checkDetails(t, query, send(t, api, http.MethodPost, "/v1/every?"+query, strings.NewReader(`{"name":"a","title":"t"}`)), want)
	}
	for _, query := range []string{"session=%zz", "session=a;limit=1", "%"} {
		req := newRequest(t, `{"name":"a","title":"t"}`)
		req.URL.RawQuery = query
		if e := errorOf(t, serve(api, req)); e.Code != "invalid_request" || !strings.Contains(e.Message, "cannot be read") {
			t.Errorf("%s: %v", query, e)
		}
	}
	req := newRequest(t, `{"name":"a","title":"t"}`)
	req.Header["Mode"] = []string{""}
	checkDetails(t, "the header", serve(api, req), map[string]string{"Mode": "must not be empty: leave it out"})
}

// checkDetails compares the details of an error; nil means success.
func checkDetails(t *testing.T, request string, out *httptest.ResponseRecorder, want map[string]string) {
	t.Helper()
	var e client.ErrorEnvelope
	err := json.Unmarshal(out.Body.Bytes(), &e)
	switch {
	case err != nil:
		t.Errorf("%s: %v", request, err)
	case want == nil && out.Code >= 400, want != nil && (out.Code != http.StatusBadRequest || !maps.Equal(e.Error.Details, want)):
		t.Errorf("%s: status %d, %v, want %q", request, out.Code, e.Error, want)
	}
}

// TestEmptyTextsAreDescribed: the OpenAPI document has a least length where an empty text is
// refused.
func TestEmptyTextsAreDescribed(t *testing.T) {
	var doc struct {
		Paths map[string]map[string]struct {
			Parameters []struct {
				Name   string
				Schema struct{ MinLength int }
			}
		}
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct{ MinLength int }
			}
		}
	}
	out := send(t, optionalAPI(), http.MethodGet, "/openapi.json", nil)
	if err := json.Unmarshal(out.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	for _, p := range doc.Paths["/v1/every"]["post"].Parameters {
		if want := map[string]int{"session": 1, "Mode": 1, "Idempotency-Key": 1}[p.Name]; p.Schema.MinLength != want {
			t.Errorf("%s: %d", p.Name, p.Schema.MinLength)
		}
	}
	found := false
	for _, s := range doc.Components.Schemas {
		if s.Properties["peer"].MinLength == 0 {
			continue
		}
		found = true
		for name, want := range map[string]int{"peer": 1, "icon": 1, "title": 1, "name": 0, "text": 0, "kind": 0, "tags": 0, "context": 0} {
			if got := s.Properties[name].MinLength; got != want {
				t.Errorf("%s: %d, want %d", name, got, want)
			}
		}
	}
	if !found {
		t.Errorf("the body is not described: %s", out.Body)
	}
}

func TestBodiesThatAreNoJSONByTheirHeaders(t *testing.T) {
	api := optionalAPI()
	for _, c := range []struct {
		name, value string
		status      int
	}{
		{"Content-Type", "Application/JSON", 200}, {"Content-Type", "application/json;charset=UTF-8", 200}, {"Content-Type", ` application/json ; charset="utf-8"`, 200},
		{"Content-Type", "application/merge-patch+json", 200}, {"Content-Type", "", 200},
		{"Content-Type", "text/json", 415}, {"Content-Type", "application/json; charset=utf-16", 415}, {"Content-Type", "application/jsonp", 415}, {"Content-Type", "application", 415},
		{"Content-Encoding", "identity", 200}, {"Content-Encoding", "", 200}, {"Content-Encoding", "gzip", 415}, {"Content-Encoding", "BR", 415}, {"Content-Encoding", "identity, deflate", 415},
	} {
		req := newRequest(t, `{"name":"a","title":"t"}`)
		req.Header.Set(c.name, c.value)
		out := serve(api, req)
		if ok := out.Code < 400; ok != (c.status < 400) || !ok && out.Code != c.status {
			t.Errorf("%s: %s: %d %s", c.name, c.value, out.Code, out.Body)
		}
		if c.name == "Content-Encoding" && c.status == 415 {
			if e := errorOf(t, out); !strings.Contains(e.Message, strings.TrimSpace(c.value)) || out.Header().Get("Accept-Encoding") != "identity" {
				t.Errorf("%v, headers %v", e, out.Header())
			}
		}
	}
}
