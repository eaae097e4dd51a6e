package api_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"agento.host/agento/internal/api"
)

// TestOpenAPIDescribesEveryRoute: a client that is generated from openapi.json has
// every route with its input and every response.
func TestOpenAPIDescribesEveryRoute(t *testing.T) {
	env := newEnv(t, options{})
	anonymous := &caller{env: env}
	doc := anonymous.do("GET", "/openapi.json", nil).expect(200)
	if dir := os.Getenv("OPENAPI_DIR"); dir != "" { // for other tools
		if err := os.WriteFile(dir+"/openapi.json", []byte(doc.body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root := doc.json()
	table := env.server.Table()
	for _, row := range table {
		op, ok := at(root, "paths."+row.Path+"."+strings.ToLower(row.Method))
		if !ok {
			op, ok = operation(root, row.Path, row.Method)
		}
		if !ok {
			t.Errorf("%s %s is not described", row.Method, row.Path)
			continue
		}
		checkOperation(t, root, row.Method+" "+row.Path, row, op.(map[string]any))
	}
	if v, _ := at(root, "components.securitySchemes.key.name"); v != "X-Api-Key" {
		t.Errorf("the name of the key's header is: %v", v)
	}
	checkRefs(t, root, root)
	for place, want := range map[string]string{
		"AgentSummary.properties.swarm":      `{"anyOf":[{"$ref":"#/components/schemas/SwarmRef"},{"type":"null"}]}`,
		"AgentSummary.properties.region":     `{"type":"string"}`,
		"ErrorEnvelope.properties.error":     `{"$ref":"#/components/schemas/Error"}`,
		"ListAgentSummary.properties.data":   `{"items":{"$ref":"#/components/schemas/AgentSummary"},"type":"array"}`,
		"UpdateAgentRequest.properties.name": `{"description":"New display name.","type":["string","null"]}`,
	} {
		if got := doc.field("components.schemas." + place); got != want {
			t.Errorf("%s is described as %s, want %s", place, got, want)
		}
	}
	if n := strings.Count(doc.body, `"operationId"`); n != len(table) {
		t.Errorf("%d operations are described, the table has %d", n, len(table))
	}
}

// TestOpenAPIForConcurrentFirstRequests: concurrent first requests get the same document.
func TestOpenAPIForConcurrentFirstRequests(t *testing.T) {
	server := api.New(api.Settings{Version: "test"})
	var all sync.WaitGroup
	for _, path := range []string{"/openapi.json", "/openapi.yaml", "/openapi-3.0.json", "/openapi-3.0.yaml"} {
		for range 4 {
			all.Go(func() {
				out := httptest.NewRecorder()
				server.ServeHTTP(out, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
				_, contentType, _ := strings.Cut(path, ".")
				contentType = contentType[strings.LastIndex(contentType, ".")+1:]
				if out.Code != http.StatusOK || !strings.Contains(out.Body.String(), "get-agents-id-chat-messages") || out.Header().Get("Content-Type") != "application/openapi+"+contentType {
					t.Errorf("%s: %d %v %.100s", path, out.Code, out.Header(), out.Body)
				}
			})
		}
	}
	all.Wait()
}

func operation(root any, path, method string) (any, bool) {
	paths, ok := at(root, "paths")
	if !ok {
		return nil, false
	}
	item, ok := paths.(map[string]any)[path].(map[string]any)
	if !ok {
		return nil, false
	}
	op, ok := item[strings.ToLower(method)]
	return op, ok
}

func checkOperation(t *testing.T, root any, name string, row api.Row, op map[string]any) {
	t.Helper()
	responses := op["responses"].(map[string]any)
	success := 0
	for status, response := range responses {
		response := follow(root, response)
		for _, header := range []string{"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-Request-Id"} {
			if _, ok := at(response, "headers."+header); !ok {
				t.Errorf("%s: response %s lacks the header %s", name, status, header)
			}
		}
		content := "application/json"
		if status[0] == '2' {
			success++
			if row.Stream {
				content = "text/event-stream"
			} else if row.Download {
				content = "application/gzip"
			}
		}
		media, _ := response.(map[string]any)["content"].(map[string]any)
		described, ok := media[content].(map[string]any)
		if !ok || described["schema"] == nil {
			t.Errorf("%s: response %s has no schema for %s", name, status, content)
			continue
		}
		if schema := follow(root, described["schema"]); status[0] != '2' {
			if _, ok := at(schema, "properties.error"); !ok {
				t.Errorf("%s: response %s is not the error body: %v", name, status, schema)
			}
		}
	}
	for _, status := range []string{"400", "401", "403", "429", "500"} {
		if responses[status] == nil {
			t.Errorf("%s: response %s is not described", name, status)
		}
	}
	if success == 0 || responses["422"] != nil || responses["default"] != nil {
		t.Errorf("%s: it is described with the responses: %v", name, responses)
	}
	if name == "POST /v1/agents" && (responses["201"] == nil || responses["202"] == nil) {
		t.Errorf("%s: 201 and 202 are not both described", name)
	}
}

// follow returns the target of a $ref.
func follow(root, node any) any {
	m, ok := node.(map[string]any)
	if !ok {
		return node
	}
	ref, ok := m["$ref"].(string)
	if !ok {
		return node
	}
	to, _ := at(root, strings.ReplaceAll(strings.TrimPrefix(ref, "#/"), "/", "."))
	return follow(root, to)
}

// checkRefs fails the test for every $ref without a target.
func checkRefs(t *testing.T, root, node any) {
	t.Helper()
	switch node := node.(type) {
	case map[string]any:
		if node["$ref"] != nil && follow(root, node) == nil {
			t.Errorf("%v has no target", node["$ref"])
		}
		for _, v := range node {
			checkRefs(t, root, v)
		}
	case []any:
		for _, v := range node {
			checkRefs(t, root, v)
		}
	}
}

func TestReferencePageListsEveryRoute(t *testing.T) {
	env := newEnv(t, options{})
	page := (&caller{env: env}).do("GET", "/docs", nil).expect(200)
	if dir := os.Getenv("OPENAPI_DIR"); dir != "" {
		if err := os.WriteFile(dir+"/docs.html", []byte(page.body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range env.server.Table() {
		if !strings.Contains(page.body, "<code>"+row.Path+"</code>") {
			t.Errorf("the page lacks %s", row.Path)
		}
	}
	if strings.Contains(page.body, "<script") || page.header.Get("Content-Security-Policy") == "" {
		t.Error("the page must need no scripts")
	}
	var v any
	if json.Unmarshal([]byte(page.body), &v) == nil {
		t.Error("the page is JSON")
	}
}
