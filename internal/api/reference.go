package api

import (
	"cmp"
	"html/template"
	"net/http"
	"slices"
)

// reference is the API as a page without scripts, made from the same table that
// serves it. The whole description, with every schema, is at /openapi.json.
func (s *Server) reference(w http.ResponseWriter, _ *http.Request) {
	rows := s.routes()
	slices.SortStableFunc(rows, func(a, b route) int { return cmp.Compare(tag(a.path), tag(b.path)) })
	type section struct {
		Name string
		Rows []referenceRow
	}
	var sections []*section
	for _, r := range rows {
		if len(sections) == 0 || sections[len(sections)-1].Name != tag(r.path) {
			sections = append(sections, &section{Name: tag(r.path)})
		}
		last := sections[len(sections)-1]
		last.Rows = append(last.Rows, referenceRow{r.method, r.path, string(r.scope), r.summary})
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	_ = referencePage.Execute(w, map[string]any{"Version": s.Version, "Sections": sections}) // a reader that has gone
}

type referenceRow struct{ Method, Path, Scope, Summary string }

var referencePage = template.Must(template.New("reference").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>agento API</title>
<style>
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
h1{margin-bottom:0}h2{margin:2rem 0 .5rem;text-transform:capitalize}
table{border-collapse:collapse;width:100%}td{padding:.35rem .5rem;border-top:1px solid #ddd;vertical-align:top}
td:first-child{font-weight:600;width:5rem}code{font:13px ui-monospace,monospace}.scope{color:#666;width:9rem}
</style>
<h1>agento API</h1>
<p>Version {{.Version}}. Every request needs an <code>X-Api-Key</code> header. Errors are
<code>{"error":{"code","message","requestId","details"?}}</code>. The full description with all schemas:
<a href="/openapi.json">openapi.json</a>, <a href="/openapi.yaml">openapi.yaml</a>.</p>
{{range .Sections}}<h2>{{.Name}}</h2><table>
{{range .Rows}}<tr><td>{{.Method}}<td><code>{{.Path}}</code><td>{{.Summary}}<td class="scope">{{or .Scope "any key"}}
{{end}}</table>{{end}}
</html>
`))
