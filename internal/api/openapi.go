package api

import (
	"encoding/json"
	"net/http"
	"path"
	"reflect"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"agento.host/agento/client"
)

func (s *Server) describe() huma.Config {
	c := huma.DefaultConfig("agento", s.Version)
	c.Info.Description = "Manage agents, send chat messages, stream logs, and install skills from any language. Authenticate with an X-Api-Key header."
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", "" // descriptions serves it
	c.CreateHooks = nil                                   // they would add a $schema field to every body of the contract
	c.RejectUnknownQueryParameters = true
	c.Formats = map[string]huma.Format{"application/json": {Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: readJSON}}
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"key": {Type: "apiKey", In: "header", Name: "X-Api-Key"}}
	c.Security = []map[string][]string{{"key": {}}}
	registerTypes(c.Components.Schemas)
	c.Components.Headers = rateHeaders()
	c.Components.Responses = refusals(c.Components.Schemas)
	return c
}

// descriptions serves the API's description, written once when it is first asked
// for. huma would write it for each of the first who ask at once, into one variable.
func (s *Server) descriptions() {
	api := s.api.OpenAPI()
	for place, write := range map[string]func() ([]byte, error){
		"/openapi.json":     func() ([]byte, error) { return json.Marshal(api) },
		"/openapi.yaml":     api.YAML,
		"/openapi-3.0.json": api.Downgrade,
		"/openapi-3.0.yaml": api.DowngradeYAML,
	} {
		written := sync.OnceValues(write)
		kind := "application/openapi+" + strings.TrimPrefix(path.Ext(place), ".")
		s.mux.HandleFunc("GET "+place, func(w http.ResponseWriter, r *http.Request) {
			text, err := written()
			if err != nil {
				s.fail(w, r, err)
				return
			}
			w.Header().Set("Content-Type", kind)
			_, _ = w.Write(text) // a reader that has gone
		})
	}
}

// registerTypes tells the schema generator what the wire types look like that
// write themselves.
func registerTypes(schemas huma.Registry) {
	schemas.RegisterTypeAlias(reflect.TypeFor[client.Optional[string]](), reflect.TypeFor[*string]())
	schemas.RegisterTypeAlias(reflect.TypeFor[client.Time](), reflect.TypeFor[timestamp]())
	schemas.RegisterTypeAlias(reflect.TypeFor[refusal](), reflect.TypeFor[client.ErrorEnvelope]())
}

// nullables describes which fields are null where there is nothing. The schema
// generator knows it of simple types only, and thinks that every list may be.
func nullables(schemas huma.Registry) {
	for name, schema := range schemas.Map() {
		t := schemas.TypeFromRef("#/components/schemas/" + name)
		if t == nil || t.Kind() != reflect.Struct {
			continue
		}
		for f := range t.Fields() {
			field, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			p := schema.Properties[field]
			switch {
			case p == nil || strings.Contains(options, "omitempty") || f.Tag.Get("nullable") == "false":
			case f.Type.Kind() == reflect.Slice:
				p.Nullable = false
			case f.Type.Kind() == reflect.Pointer && p.Ref != "":
				schema.Properties[field] = &huma.Schema{AnyOf: []*huma.Schema{p, {Type: "null"}}}
			case f.Type.Kind() == reflect.Pointer:
				p.Nullable = true
			}
		}
	}
}

type timestamp string

// Schema implements huma.SchemaProvider.
func (timestamp) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time", Examples: []any{"2026-02-10T14:00:00.000Z"}}
}

// rateHeaders are on every answer to a known key.
func rateHeaders() map[string]*huma.Header {
	number := &huma.Schema{Type: huma.TypeInteger}
	return map[string]*huma.Header{
		"X-RateLimit-Limit":     {Description: "Requests that the key may make in any 60 seconds.", Schema: number},
		"X-RateLimit-Remaining": {Description: "Requests that are left of them now.", Schema: number},
		"X-RateLimit-Reset":     {Description: "Unix time at which the oldest request leaves the window.", Schema: number},
		"X-Request-Id":          {Description: "Names the request in the server's log.", Schema: &huma.Schema{Type: huma.TypeString}},
		"Retry-After":           {Description: "Seconds to wait.", Schema: number},
	}
}

func headers(names ...string) map[string]*huma.Header {
	refs := map[string]*huma.Header{}
	for _, name := range append(names, "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-Request-Id") {
		refs[name] = &huma.Header{Ref: "#/components/headers/" + name}
	}
	return refs
}

// why says when each status is answered.
func why() map[int]string {
	return map[int]string{
		http.StatusBadRequest:            "invalid_request: the request is malformed; details names each field.",
		http.StatusUnauthorized:          "unauthorized: no key, an unknown one, or a revoked one.",
		http.StatusForbidden:             "forbidden: the key lacks the scope; plan_limit: the plan allows no more.",
		http.StatusNotFound:              "not_found: no such thing in this account.",
		http.StatusConflict:              "conflict: it was changed meanwhile; agent_not_running: the agent is stopped or in error.",
		http.StatusRequestEntityTooLarge: "payload_too_large: the body is too large.",
		http.StatusUnsupportedMediaType:  "unsupported_media_type: the body is not JSON.",
		http.StatusTooManyRequests:       "rate_limited: wait as long as Retry-After says.",
		http.StatusInternalServerError:   "internal_error: the cause is in the server's log under the request id.",
		http.StatusBadGateway:            "upstream_error: the gateway or the model provider failed.",
		http.StatusServiceUnavailable:    "unavailable: no server has room, or this one is shutting down.",
		http.StatusGatewayTimeout:        "upstream_timeout: the gateway or the model provider was too slow.",
	}
}

// refusals are the error answers, each described once.
func refusals(schemas huma.Registry) map[string]*huma.Response {
	envelope := schemas.Schema(reflect.TypeFor[client.ErrorEnvelope](), true, "")
	all := map[string]*huma.Response{}
	for status, text := range why() {
		r := &huma.Response{
			Description: text, Headers: headers(),
			Content: map[string]*huma.MediaType{"application/json": {Schema: envelope}},
		}
		if status == http.StatusTooManyRequests {
			r.Headers = headers("Retry-After")
		}
		all[strconv.Itoa(status)] = r
	}
	return all
}

// describeAnswers replaces what huma supposes of a route's answers by what they are.
func (s *Server) describeAnswers(r route) {
	op := operationOf(s.api.OpenAPI().Paths[r.path], r.method)
	status := r.status
	if status == 0 {
		status = http.StatusOK
	}
	success := op.Responses[strconv.Itoa(status)]
	success.Headers = headers()
	if r.example != "" {
		success.Description = "A stream of server-sent events."
		success.Content = map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}, Example: r.example}}
	}
	op.Responses = map[string]*huma.Response{strconv.Itoa(status): success}
	if r.early {
		op.Responses["202"] = &huma.Response{Description: "With Prefer: respond-async, at once; status is provisioning.", Headers: headers(), Content: success.Content}
	}
	for _, status := range refusalsOf(r, op) {
		code := strconv.Itoa(status)
		op.Responses[code] = &huma.Response{Ref: "#/components/responses/" + code}
	}
}

func operationOf(p *huma.PathItem, method string) *huma.Operation {
	switch method {
	case http.MethodPost:
		return p.Post
	case http.MethodPut:
		return p.Put
	case http.MethodPatch:
		return p.Patch
	case http.MethodDelete:
		return p.Delete
	}
	return p.Get
}

func refusalsOf(r route, op *huma.Operation) []int {
	all := []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable}
	if strings.Contains(r.path, "{") {
		all = append(all, http.StatusNotFound)
	}
	if op.RequestBody != nil {
		all = append(all, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	if r.method != http.MethodGet {
		all = append(all, http.StatusConflict)
	}
	if r.method == http.MethodPost {
		all = append(all, http.StatusBadGateway, http.StatusGatewayTimeout)
	}
	return all
}
