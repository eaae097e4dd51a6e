package rest

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"agento.host/agento/client"
)

// config returns huma's configuration, with the parts of the OpenAPI document that
// all routes share. Bodies are encoded by appendJSON, or by encoding/json.
func config(s Settings) huma.Config {
	c := huma.DefaultConfig("agento", semanticVersion(s.Version))
	c.Info.Description = "Manage agents, send chat messages, stream logs, and install skills from any language. Authenticate with an X-Api-Key header. The reference with guides and examples is at /docs."
	c.Info.Contact = &huma.Contact{Name: "agento", URL: "https://agento.host"}
	c.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	c.Servers = []*huma.Server{{URL: cmp.Or(strings.TrimSuffix(s.PublicURL, "/"), "/"), Description: "This server."}}
	for _, t := range s.Tags {
		c.Tags = append(c.Tags, &huma.Tag{Name: t.Name, Description: t.Text})
	}
	c.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", "" // serveDescription and serveReference serve them
	c.CreateHooks = nil                                   // they would add a $schema field to every body of the contract
	c.RejectUnknownQueryParameters = false                // checkParameters does it, and names the known ones
	c.Formats = map[string]huma.Format{"application/json": {Marshal: writeJSON(s.AppendJSON), Unmarshal: readJSON}, CSV: {Marshal: writeCSV}}
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"apiKey": {Type: "apiKey", In: "header", Name: "X-Api-Key", Description: "An API key of the account: ak_live_ and 32 hexadecimal digits. Each operation names the scope that the key needs."}}
	c.Components.SecuritySchemes["bearer"] = &huma.SecurityScheme{Type: "http", Scheme: "bearer", Description: "The same key, as clients of OpenAI's API send it."}
	c.Security = []map[string][]string{{"apiKey": {}}, {"bearer": {}}}
	registerTypes(c.Components.Schemas)
	c.Components.Headers = headers()
	c.Components.Responses = errorResponses(c.Components.Schemas)
	return c
}

// serveDescription serves the OpenAPI document. Each form is written once, when it
// is first requested: huma would write it once for each of the first concurrent
// requests, into one variable.
func (a *API) serveDescription() {
	api := a.huma.OpenAPI()
	for place, write := range map[string]func() ([]byte, error){
		"/openapi.json":     func() ([]byte, error) { return json.Marshal(api) },
		"/openapi.yaml":     api.YAML,
		"/openapi-3.0.json": api.Downgrade,
		"/openapi-3.0.yaml": api.DowngradeYAML,
	} {
		written := sync.OnceValues(write)
		contentType := "application/openapi+" + strings.TrimPrefix(path.Ext(place), ".")
		a.mux.HandleFunc("GET "+place, func(w http.ResponseWriter, r *http.Request) {
			text, err := written()
			if err != nil {
				a.writeError(w, r, err)
				return
			}
			w.Header().Set("Content-Type", contentType)
			_, _ = w.Write(text) // fails if the client has disconnected
		})
	}
}

// registerTypes describes the wire types that have their own JSON form.
func registerTypes(schemas huma.Registry) {
	schemas.RegisterTypeAlias(reflect.TypeFor[client.Optional[string]](), reflect.TypeFor[*string]())
	schemas.RegisterTypeAlias(reflect.TypeFor[client.Optional[int64]](), reflect.TypeFor[*int64]())
	schemas.RegisterTypeAlias(reflect.TypeFor[client.ChatContext](), reflect.TypeFor[textOrObject]())
	schemas.RegisterTypeAlias(reflect.TypeFor[client.Time](), reflect.TypeFor[timestamp]())
	schemas.RegisterTypeAlias(reflect.TypeFor[client.AgentStatus](), reflect.TypeFor[agentStatus]())
	schemas.RegisterTypeAlias(reflect.TypeFor[client.Secrets](), reflect.TypeFor[secrets]())
	schemas.RegisterTypeAlias(reflect.TypeFor[humaError](), reflect.TypeFor[client.ErrorEnvelope]())
}

func schemaOf[T any](schemas huma.Registry) *huma.Schema {
	return schemas.Schema(reflect.TypeFor[T](), true, "")
}

// describeNulls describes which fields may be null. huma knows it of simple types
// only, and takes every list to be nullable.
func describeNulls(schemas huma.Registry) {
	eachField(schemas, func(object *huma.Schema, name string, f reflect.StructField) {
		p := object.Properties[name]
		_, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case strings.Contains(options, "omitempty") || f.Tag.Get("nullable") == "false":
		case f.Type.Kind() == reflect.Slice:
			p.Nullable = false
		case f.Type.Kind() == reflect.Pointer && p.Ref != "":
			object.Properties[name] = &huma.Schema{Description: p.Description, AnyOf: []*huma.Schema{{Ref: p.Ref}, {Type: "null"}}}
		case f.Type.Kind() == reflect.Pointer:
			p.Nullable = true
			if len(p.Enum) > 0 {
				p.Enum = append(p.Enum, nil)
			}
			if values, ok := p.Extensions["enum"].([]any); ok {
				p.Extensions["enum"] = append(values, nil)
			}
		}
	})
}

type textOrObject struct{}

// Schema implements huma.SchemaProvider.
func (textOrObject) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{OneOf: []*huma.Schema{{Type: huma.TypeString}, {Type: huma.TypeObject, AdditionalProperties: true}}, Examples: []any{map[string]any{"name": "Alice", "plan": "Pro"}}}
}

type timestamp string

// Schema implements huma.SchemaProvider.
func (timestamp) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time", Examples: []any{"2026-02-10T14:00:00.000Z"}}
}

// headers returns the headers of responses to an authenticated request.
func headers() map[string]*huma.Header {
	number := &huma.Schema{Type: huma.TypeInteger}
	return map[string]*huma.Header{
		"X-RateLimit-Limit":     {Description: "Requests that the key may make in any 60 seconds.", Schema: number},
		"X-RateLimit-Remaining": {Description: "Requests that are left of them now.", Schema: number},
		"X-RateLimit-Reset":     {Description: "Unix time at which the oldest request leaves the window.", Schema: number},
		"X-Request-Id":          {Description: "Names the request in the server's log.", Schema: &huma.Schema{Type: huma.TypeString}},
		"Retry-After":           {Description: "Seconds to wait.", Schema: number},
		idempotencyReplayed:     {Description: "true if this is the response of an earlier request with the same Idempotency-Key.", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"true"}}},
	}
}

func headerRefs(names ...string) map[string]*huma.Header {
	refs := map[string]*huma.Header{}
	for _, name := range append(names, "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-Request-Id") {
		refs[name] = &huma.Header{Ref: "#/components/headers/" + name}
	}
	return refs
}

// statusDescriptions says when each error status is answered.
func statusDescriptions() map[int]string {
	return map[int]string{
		http.StatusBadRequest:            "invalid_request: the request is malformed; details names each field.",
		http.StatusUnauthorized:          "unauthorized: the key is missing, unknown or revoked.",
		http.StatusForbidden:             "forbidden: the key does not have the scope; plan_limit: a limit or a missing feature of the plan.",
		http.StatusNotFound:              "not_found: the object does not exist in this account.",
		http.StatusConflict:              "conflict: the object was changed in the meantime; agent_not_running: the agent is stopped or in error; idempotency_conflict: the Idempotency-Key was used with another body.",
		http.StatusRequestEntityTooLarge: "payload_too_large: the body is too large.",
		http.StatusUnsupportedMediaType:  "unsupported_media_type: the body is not JSON, or not the file that the route takes.",
		http.StatusTooManyRequests:       "rate_limited: wait for the time in Retry-After.",
		http.StatusInternalServerError:   "internal_error: the cause is in the server's log under the request id.",
		http.StatusBadGateway:            "upstream_error: the gateway or the model provider failed.",
		http.StatusServiceUnavailable:    "unavailable: no server has capacity, or this server is shutting down.",
		http.StatusGatewayTimeout:        "upstream_timeout: the gateway or the model provider was too slow.",
	}
}

// errorResponses describes each error status once; the routes refer to it.
func errorResponses(schemas huma.Registry) map[string]*huma.Response {
	envelope := schemaOf[client.ErrorEnvelope](schemas)
	all := map[string]*huma.Response{}
	for status, text := range statusDescriptions() {
		r := &huma.Response{
			Description: text, Headers: headerRefs(),
			Content: map[string]*huma.MediaType{"application/json": {Schema: envelope}},
		}
		if status == http.StatusTooManyRequests {
			r.Headers = headerRefs("Retry-After")
		}
		all[responseName(status)] = r
	}
	return all
}

// responseName names the response of an error status, as generated types are named.
func responseName(status int) string { return strings.ReplaceAll(http.StatusText(status), " ", "") }

// describeResponses replaces huma's guess of a route's responses by what they are.
func (a *API) describeResponses(r Route) {
	op := a.operationOf(r.Method, r.Path)
	status := strconv.Itoa(r.successStatus())
	success := op.Responses[status]
	own := success.Headers
	success.Headers = headerRefs()
	if r.takesIdempotencyKey() {
		success.Headers = headerRefs(idempotencyReplayed)
	}
	for name, text := range r.AnswerHeaders {
		success.Headers[name] = &huma.Header{Description: text, Schema: &huma.Schema{Type: huma.TypeString}}
	}
	if own["Content-Type"] != nil { // the handler chooses CSV
		success.Content["text/csv"] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
		delete(own, "Content-Type")
		maps.Copy(success.Headers, own)
	}
	if media := success.Content["application/json"]; media != nil && r.Doc.Answer != "" {
		media.Example = exampleBody(r.Doc.Answer)
	}
	if r.IsStream() {
		success.Description = "A stream of server-sent events. The schema is that of the data of one event. Lines that begin with a colon are comments.\n\n```text\n" + strings.TrimSpace(r.example) + "\n```"
		success.Content = map[string]*huma.MediaType{"text/event-stream": {Schema: describeEvents(a.huma.OpenAPI().Components.Schemas, r.EventsName, r.Events)}}
	} else if !r.IsDownload() {
		success.Description = "Success."
	}
	if r.IsDownload() {
		success.Description = "A file, sent while it is written."
		success.Content = map[string]*huma.MediaType{r.download: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}
	}
	if op.RequestBody != nil {
		if media := op.RequestBody.Content["application/json"]; media != nil && r.Doc.Body != "" {
			media.Example = exampleBody(r.Doc.Body)
		}
	}
	op.Responses = map[string]*huma.Response{status: success}
	if r.Async {
		op.Responses["202"] = &huma.Response{Description: "With Prefer: respond-async, at once: status says how far it is.", Headers: success.Headers, Content: success.Content}
	}
	for _, status := range slices.Concat(r.ownErrors(op), r.Errors) {
		code := strconv.Itoa(status)
		op.Responses[code] = &huma.Response{Ref: "#/components/responses/" + responseName(status)}
	}
}

// ownErrors returns the error statuses that this package itself answers.
func (r Route) ownErrors(op *huma.Operation) []int {
	own := []int{http.StatusBadRequest, http.StatusInternalServerError}
	if r.takesIdempotencyKey() {
		own = append(own, http.StatusConflict)
	}
	if op.RequestBody != nil {
		own = append(own, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	return own
}

func (r Route) successStatus() int {
	if r.Status == 0 {
		return http.StatusOK
	}
	return r.Status
}

func (a *API) operationOf(method, path string) *huma.Operation {
	p := a.huma.OpenAPI().Paths[path]
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
