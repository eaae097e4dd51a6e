package rest

import (
	"bytes"
	"cmp"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// serveReference serves the API as a page without scripts, made from the OpenAPI
// document. The document itself, with every schema, is at /openapi.json.
func (a *API) serveReference(version string, routes []Route) {
	page := a.renderReference(version, routes)
	a.mux.HandleFunc("GET /docs", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		_, _ = w.Write(page) // fails if the client has disconnected
	})
}

// resource is one section of the page.
type resource struct {
	Name string
	Rows []referenceRow
}

// referenceRow is one route of the page.
type referenceRow struct {
	Method, Path, Summary, Scope string
	Stream                       string // an example; empty: the route answers with JSON
	Parts                        []part
}

// part is a table of fields of a route.
type part struct {
	Name   string
	Fields []field
}

// field is one row of such a table.
type field struct {
	Name, Type, Doc string
	Required        bool
}

func (a *API) renderReference(version string, routes []Route) []byte {
	var page bytes.Buffer
	view := map[string]any{"Version": version, "Resources": a.resources(routes)}
	if err := referencePage.Execute(&page, view); err != nil {
		panic(fmt.Sprintf("render the reference: %v", err)) // a mistake in the template, which every test finds
	}
	return page.Bytes()
}

// resources groups the routes by resource, in the order of the table.
func (a *API) resources(routes []Route) []*resource {
	var all []*resource
	for _, r := range routes {
		i := slices.IndexFunc(all, func(v *resource) bool { return v.Name == tag(r.Path) })
		if i < 0 {
			i, all = len(all), append(all, &resource{Name: tag(r.Path)})
		}
		all[i].Rows = append(all[i].Rows, a.referenceRow(r))
	}
	return all
}

func (a *API) referenceRow(r Route) referenceRow {
	op := a.operationOf(r.Method, r.Path)
	row := referenceRow{Method: r.Method, Path: r.Path, Summary: r.Summary, Scope: cmp.Or(r.Scope, "any key"), Stream: r.example}
	var params []field
	for _, p := range op.Parameters {
		params = append(params, field{Name: p.Name, Type: p.In + ", " + a.typeOf(p.Schema), Doc: p.Description, Required: p.Required})
	}
	row.add("Parameters", params)
	if op.RequestBody != nil {
		row.add("Body", a.bodyFields(op.RequestBody.Content))
	}
	status := r.successStatus()
	if r.IsDownload() {
		row.add(fmt.Sprintf("Answer %d", status), []field{{Type: r.download, Doc: "A file."}})
	}
	if media := op.Responses[strconv.Itoa(status)].Content["application/json"]; media != nil {
		answer := a.fields("", media.Schema)
		for i := range answer {
			answer[i].Required = false // a field of a response is always present
		}
		row.add(fmt.Sprintf("Answer %d", status), answer)
	}
	return row
}

// bodyFields lists the fields of a body, or says what file it is.
func (a *API) bodyFields(content map[string]*huma.MediaType) []field {
	if m := content["application/json"]; m != nil {
		return a.fields("", m.Schema)
	}
	for contentType := range content {
		return []field{{Type: contentType, Doc: "A file.", Required: true}}
	}
	return nil
}

func (r *referenceRow) add(name string, fields []field) {
	if len(fields) > 0 {
		r.Parts = append(r.Parts, part{name, fields})
	}
}

// fields lists the fields of an object and of the objects in it, required ones
// first.
func (a *API) fields(prefix string, schema *huma.Schema) []field {
	schema = a.resolve(schema)
	names := slices.SortedFunc(maps.Keys(schema.Properties), func(x, y string) int {
		return cmp.Or(-compareBool(slices.Contains(schema.Required, x), slices.Contains(schema.Required, y)), cmp.Compare(x, y))
	})
	var all []field
	for _, name := range names {
		v := a.resolve(schema.Properties[name])
		doc := cmp.Or(schema.Properties[name].Description, v.Description)
		all = append(all, field{Name: prefix + name, Type: a.typeOf(schema.Properties[name]), Doc: doc, Required: slices.Contains(schema.Required, name)})
		if v.Type == huma.TypeArray {
			all = append(all, a.fields(prefix+name+"[].", v.Items)...)
		} else {
			all = append(all, a.fields(prefix+name+".", v)...)
		}
	}
	return all
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// resolve returns the schema that a reference refers to.
func (a *API) resolve(schema *huma.Schema) *huma.Schema {
	if schema == nil {
		return &huma.Schema{}
	}
	if len(schema.AnyOf) > 0 { // an object or null
		schema = schema.AnyOf[0]
	}
	if schema.Ref != "" {
		return a.huma.OpenAPI().Components.Schemas.SchemaFromRef(schema.Ref)
	}
	return schema
}

func (a *API) typeOf(schema *huma.Schema) string {
	null := schema.Nullable || len(schema.AnyOf) > 0
	schema = a.resolve(schema)
	name := cmp.Or(schema.Type, "any")
	switch {
	case len(schema.Enum) > 0:
		name = strings.ReplaceAll(strings.Trim(fmt.Sprintf("%q", schema.Enum), "[]"), `" "`, `", "`)
	case schema.Type == huma.TypeArray:
		name = "array of " + a.typeOf(schema.Items)
	case schema.Format == "date-time":
		name = "time"
	}
	if schema.Default != nil {
		name += fmt.Sprintf(", default %v", schema.Default)
	}
	if null {
		name += " or null"
	}
	return name
}

var referencePage = template.Must(template.New("reference").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>agento API</title>
<style>
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{margin-bottom:0}h2{margin:2rem 0 .5rem;text-transform:capitalize}h3{font-size:1em;margin:.75rem 0 .25rem}
details{border-top:1px solid #8885}details[open]{padding-bottom:1rem}
summary{cursor:pointer;padding:.35rem 0;display:grid;grid-template-columns:5rem minmax(0,1fr) minmax(0,15rem) 9rem;gap:.5rem;align-items:baseline}
summary b::before{content:"▸ "}details[open] summary b::before{content:"▾ "}
code,pre{font:13px ui-monospace,monospace;overflow-wrap:anywhere}pre{overflow-x:auto;background:#8882;padding:.5rem}
table{border-collapse:collapse;width:100%;table-layout:fixed}td{padding:.2rem .5rem .2rem 0;vertical-align:top;overflow-wrap:anywhere}
td:first-child{width:35%}td:nth-child(2){width:22%}.quiet{opacity:.65}.must{opacity:.65;font-size:.85em}
@media(max-width:45rem){summary{grid-template-columns:5rem 1fr}}
</style>
<h1>agento API</h1>
<p>Version {{.Version}}. Every request needs an <code>X-Api-Key</code> header whose key has the route's scope. Answers are
<code>{"data":…}</code>, errors <code>{"error":{"code","message","requestId","details"?}}</code>. The description for programs:
<a href="/openapi.json">openapi.json</a>, <a href="/openapi.yaml">openapi.yaml</a>.</p>
{{range .Resources}}<h2>{{.Name}}</h2>
{{range .Rows}}<details><summary><b>{{.Method}}</b><code>{{.Path}}</code><span>{{.Summary}}</span><span class="quiet">{{.Scope}}</span></summary>
{{range .Parts}}<h3>{{.Name}}</h3><table>
{{range .Fields}}<tr><td><code>{{.Name}}</code>{{if .Required}} <span class="must">required</span>{{end}}<td class="quiet">{{.Type}}<td>{{.Doc}}
{{end}}</table>{{end}}{{if .Stream}}<h3>Answer 200, a stream of events</h3><pre>{{.Stream}}</pre>{{end}}</details>
{{end}}{{end}}
</html>
`))
