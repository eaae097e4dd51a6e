package rest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// Arguments describe what a request to a route consists of, for callers that name all of it
// in one object.
type Arguments struct {
	Path  []string // the wildcards of the path, in order
	Query []string // the parameters of the query
	Body  bool     // whether the route takes a body of JSON, whose fields are the other arguments

	// Properties are the JSON Schemas of all of them by name, without references. Required are
	// the names of those that must be there.
	Properties map[string]any
	Required   []string
}

// Arguments returns the arguments of a route. It fails if there is no such route, or if it
// takes another body than a JSON object.
func (a *API) Arguments(method, path string) (Arguments, error) {
	out := Arguments{Path: wildcards(path), Properties: map[string]any{}}
	if a.huma.OpenAPI().Paths[path] == nil || a.operationOf(method, path) == nil {
		return out, fmt.Errorf("there is no route %s %s", method, path)
	}
	op := a.operationOf(method, path)
	for _, p := range op.Parameters {
		if p.In != "path" && p.In != "query" {
			continue
		}
		schema, err := a.inline(p.Schema)
		if err != nil {
			return out, err
		}
		if p.Description != "" {
			schema["description"] = p.Description
		}
		out.Properties[p.Name] = schema
		if p.In == "query" {
			out.Query = append(out.Query, p.Name)
		}
		if p.Required {
			out.Required = append(out.Required, p.Name)
		}
	}
	if op.RequestBody == nil {
		return out, nil
	}
	m := op.RequestBody.Content["application/json"]
	if m == nil {
		return out, fmt.Errorf("%s %s does not take JSON", method, path)
	}
	body, err := a.inline(m.Schema)
	if err != nil {
		return out, err
	}
	fields, isObject := body["properties"].(map[string]any)
	if !isObject {
		return out, fmt.Errorf("%s %s does not take a JSON object", method, path)
	}
	out.Body = true
	maps.Copy(out.Properties, fields)
	required, _ := body["required"].([]any)
	for _, name := range required {
		out.Required = append(out.Required, fmt.Sprint(name))
	}
	return out, nil
}

// inline returns a schema as JSON in which each reference is replaced by what it names.
func (a *API) inline(s *huma.Schema) (map[string]any, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	var v map[string]any
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, err
	}
	err = a.replaceReferences(v)
	return v, err
}

// schemaPlace is where the document has its schemas.
const schemaPlace = "#/components/schemas/"

func (a *API) replaceReferences(v any) error {
	switch node := v.(type) {
	case map[string]any:
		if ref, ok := node["$ref"].(string); ok {
			target := a.huma.OpenAPI().Components.Schemas.Map()[strings.TrimPrefix(ref, schemaPlace)]
			if target == nil {
				return fmt.Errorf("no schema has the name %s", ref)
			}
			full, err := a.inline(target)
			if err != nil {
				return err
			}
			delete(node, "$ref")
			maps.Copy(node, full)
			return nil
		}
		for _, child := range node {
			if err := a.replaceReferences(child); err != nil {
				return err
			}
		}
	case []any:
		for _, child := range node {
			if err := a.replaceReferences(child); err != nil {
				return err
			}
		}
	}
	return nil
}

// Hold takes what a request outside of the table needs of its caller's memory budget: its
// body, of at most maxBody bytes, which it bounds.
func (a *API) Hold(w http.ResponseWriter, r *http.Request, maxBody int64) (release func(), err error) {
	size := maxBody
	if r.ContentLength >= 0 {
		size = min(size, r.ContentLength)
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	return a.holdMemory(r.Context(), size+defaultMaxAnswer)
}
