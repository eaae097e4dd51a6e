package api

import (
	"bytes"
	"cmp"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// reference is the API as a page without scripts, made from the description that
// the routes are served by. The whole of it, with every schema, is at /openapi.json.
func (s *Server) reference(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	_, _ = w.Write(s.page) // a reader that has gone
}

// resource is one section of the page.
type resource struct {
	Name string
	Rows []referenceRow
}

type referenceRow struct {
	Method, Path, Summary, Scope string
	Stream                       string // an example of it
	Parts                        []part
}

// part is a table of fields below a route.
type part struct {
	Name   string
	Fields []field
}

type field struct {
	Name, Type, Doc string
	Required        bool
}

func (s *Server) renderReference(rows []route) []byte {
	var page bytes.Buffer
	view := map[string]any{"Version": s.Version, "Resources": s.resources(rows)}
	if err := referencePage.Execute(&page, view); err != nil {
		panic(fmt.Sprintf("render the reference: %v", err)) // a mistake in the template, seen by every test
	}
	return page.Bytes()
}

// resources groups the routes by what they are about, in the order of the table.
func (s *Server) resources(rows []route) []*resource {
	var all []*resource
	for _, r := range rows {
		i := slices.IndexFunc(all, func(v *resource) bool { return v.Name == tag(r.path) })
		if i < 0 {
			i, all = len(all), append(all, &resource{Name: tag(r.path)})
		}
		all[i].Rows = append(all[i].Rows, s.referenceRow(r))
	}
	return all
}

func (s *Server) referenceRow(r route) referenceRow {
	op := operationOf(s.api.OpenAPI().Paths[r.path], r.method)
	row := referenceRow{Method: r.method, Path: r.path, Summary: r.summary, Scope: cmp.Or(string(r.scope), "any key"), Stream: r.example}
	var params []field
	for _, p := range op.Parameters {
		params = append(params, field{Name: p.Name, Type: p.In + ", " + s.typeOf(p.Schema), Doc: p.Description, Required: p.Required})
	}
	row.add("Parameters", params)
	if op.RequestBody != nil {
		row.add("Body", s.fields("", op.RequestBody.Content["application/json"].Schema))
	}
	status := cmp.Or(r.status, http.StatusOK)
	if media := op.Responses[fmt.Sprint(status)].Content["application/json"]; media != nil {
		answer := s.fields("", media.Schema)
		for i := range answer {
			answer[i].Required = false // it is always there
		}
		row.add(fmt.Sprintf("Answer %d", status), answer)
	}
	return row
}

func (r *referenceRow) add(name string, fields []field) {
	if len(fields) > 0 {
		r.Parts = append(r.Parts, part{name, fields})
	}
}

// fields lists what an object holds, with what the objects in it hold: required
// ones first.
func (s *Server) fields(prefix string, schema *huma.Schema) []field {
	schema = s.resolve(schema)
	names := slices.SortedFunc(maps.Keys(schema.Properties), func(a, b string) int {
		return cmp.Or(-compareBool(slices.Contains(schema.Required, a), slices.Contains(schema.Required, b)), cmp.Compare(a, b))
	})
	var all []field
	for _, name := range names {
		v := s.resolve(schema.Properties[name])
		doc := cmp.Or(schema.Properties[name].Description, v.Description)
		all = append(all, field{Name: prefix + name, Type: s.typeOf(schema.Properties[name]), Doc: doc, Required: slices.Contains(schema.Required, name)})
		if v.Type == huma.TypeArray {
			all = append(all, s.fields(prefix+name+"[].", v.Items)...)
		} else {
			all = append(all, s.fields(prefix+name+".", v)...)
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

// resolve is what a schema refers to.
func (s *Server) resolve(schema *huma.Schema) *huma.Schema {
	if schema == nil {
		return &huma.Schema{}
	}
	if len(schema.AnyOf) > 0 { // a thing or null
		schema = schema.AnyOf[0]
	}
	if schema.Ref != "" {
		return s.api.OpenAPI().Components.Schemas.SchemaFromRef(schema.Ref)
	}
	return schema
}

func (s *Server) typeOf(schema *huma.Schema) string {
	null := schema.Nullable || len(schema.AnyOf) > 0
	schema = s.resolve(schema)
	name := cmp.Or(schema.Type, "any")
	switch {
	case len(schema.Enum) > 0:
		name = strings.ReplaceAll(strings.Trim(fmt.Sprintf("%q", schema.Enum), "[]"), `" "`, `", "`)
	case schema.Type == huma.TypeArray:
		name = "array of " + s.typeOf(schema.Items)
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
