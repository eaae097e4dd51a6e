package rest_test

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/rest"
)

// document returns the OpenAPI document of an API.
func document(t *testing.T, api *rest.API) map[string]any {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal(send(t, api, http.MethodGet, "/openapi.json", nil).Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// place returns what is at a path of names in JSON.
func place(v any, names ...string) any {
	for _, name := range names {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

func TestSemanticVersion(t *testing.T) {
	for version, want := range map[string]string{
		"v1.2.3": "1.2.3", "1.2.3": "1.2.3", "v0.4.0-12-g3a90538": "0.4.0-12-g3a90538", "v1.0.0-rc.1+linux": "1.0.0-rc.1+linux",
		"dev": "0.0.0+dev", "3a90538-dirty": "0.0.0+3a90538-dirty", "": "0.0.0", "v1.2": "0.0.0+v1-2", "v01.2.3": "0.0.0+v01-2-3",
	} {
		if got := place(document(t, newAPI(rest.Settings{Version: version})), "info", "version"); got != want {
			t.Errorf("the version %q is shown as %v, want %s", version, got, want)
		}
	}
}

func TestServerOfTheDocument(t *testing.T) {
	for address, want := range map[string]string{"": "/", "https://api.example.com/": "https://api.example.com"} {
		servers, _ := document(t, newAPI(rest.Settings{PublicURL: address}))["servers"].([]any)
		if len(servers) != 1 || place(servers[0], "url") != want {
			t.Errorf("with the address %q the servers are %v", address, servers)
		}
	}
}

// TestLenient: unknown query parameters are ignored, and nothing else is.
func TestLenient(t *testing.T) {
	route := rest.NewRoute("POST /v1/every", "Every", func(context.Context, *optionalInput) (*output, error) { return &output{}, nil })
	for query, want := range map[string]map[bool]int{
		"color=red":         {false: 200, true: 200},
		"color=red&other=1": {false: 400, true: 200},
		"other=":            {false: 400, true: 200},
		"color=green":       {false: 400, true: 400},
		"session=":          {false: 400, true: 400},
	} {
		for lenient, status := range want {
			out := send(t, newAPI(rest.Settings{Lenient: lenient}, route), http.MethodPost, "/v1/every?"+query, strings.NewReader(`{"name":"a","title":"t"}`))
			if out.Code != status {
				t.Errorf("?%s, lenient: %t: status %d, want %d: %s", query, lenient, out.Code, status, out.Body)
			}
		}
	}
	none := rest.NewRoute("GET /v1/none", "None", func(context.Context, *struct{}) (*output, error) { return &output{}, nil })
	checkDetails(t, "a route without parameters", send(t, newAPI(rest.Settings{}, none), http.MethodGet, "/v1/none?page=1", nil), map[string]string{"page": "is not a parameter of this request, which has none: remove it"})
}

// TestBoundsAreOnlyDescribed: what services check is in the document, and huma leaves it to
// them.
func TestBoundsAreOnlyDescribed(t *testing.T) {
	type described struct {
		Body struct {
			Name   string   `json:"name" bounds:"1..3"`
			Count  int      `json:"count,omitempty" bounds:"..5"`
			Scopes []string `json:"scopes,omitempty" bounds:"..1" values:"a,b"`
			Inner  struct {
				Kind string `json:"kind,omitempty"`
			} `json:"inner,omitzero"`
		}
	}
	api := newAPI(rest.Settings{}, rest.NewRoute("POST /v1/every", "Every", func(context.Context, *described) (*struct{ Body client.Data[client.Swarm] }, error) {
		return &struct{ Body client.Data[client.Swarm] }{}, nil
	}))
	if out := send(t, api, http.MethodPost, "/v1/every", strings.NewReader(`{"name":"long","count":9,"scopes":["c","d"]}`)); out.Code != http.StatusOK {
		t.Errorf("status %d: %s", out.Code, out.Body)
	}
	schemas := place(document(t, api), "components", "schemas")
	body := place(schemas, "DescribedBody", "properties")
	for _, c := range []struct {
		field, keyword string
		want           any
	}{{"name", "minLength", 1.0}, {"name", "maxLength", 3.0}, {"count", "maximum", 5.0}, {"scopes", "maxItems", 1.0}} {
		if got := place(body, c.field, c.keyword); got != c.want {
			t.Errorf("%s of %s is %v, want %v", c.keyword, c.field, got, c.want)
		}
	}
	if got := place(body, "scopes", "items", "enum"); !reflect.DeepEqual(got, []any{"a", "b"}) {
		t.Errorf("the values of scopes are %v", got)
	}
	if place(schemas, "DescribedBody", "additionalProperties") != false || place(schemas, "Swarm", "additionalProperties") != nil || place(schemas, "SwarmResponse", "properties", "data") == nil {
		t.Errorf("only objects of requests are closed: %v", schemas)
	}
}
