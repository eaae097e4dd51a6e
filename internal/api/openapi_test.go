package api_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"agento.host/agento/client"
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
	table := env.Server.Table()
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
	if v, _ := at(root, "components.securitySchemes.apiKey.name"); v != "X-Api-Key" {
		t.Errorf("the name of the key's header is: %v", v)
	}
	checkRefs(t, root, root)
	for method, path := range map[string]string{"POST": "/v1/agents/{id}/chat/messages", "GET": "/v1/agents/{id}/chat/turns/{turnId}/stream"} {
		op, _ := operation(root, path, method)
		if text, _ := at(op, "responses.200.headers.X-Turn-Id.description"); text == nil {
			t.Errorf("%s %s: the header X-Turn-Id is not described", method, path)
		}
	}
	for place, want := range map[string]string{
		"AgentSummary.properties.swarm":      `{"anyOf":[{"$ref":"#/components/schemas/SwarmRef"},{"type":"null"}],"description":"The swarm that the agent belongs to; null: none."}`,
		"Secrets.properties.googleApiKey":    `{"description":"Google Gemini API key.","minLength":1,"type":"string"}`,
		"ErrorEnvelope.properties.error":     `{"$ref":"#/components/schemas/ErrorBody","description":"What went wrong."}`,
		"AgentSummaryList.properties.data":   `{"description":"The rows of this page.","items":{"$ref":"#/components/schemas/AgentSummary"},"type":"array"}`,
		"UpdateAgentRequest.properties.name": `{"description":"New display name.","maxLength":100,"type":["string","null"]}`,
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
				if out.Code != http.StatusOK || !strings.Contains(out.Body.String(), "listMessages") || out.Header().Get("Content-Type") != "application/openapi+"+contentType {
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

// TestBrowserIsLedToTheReference: a person who opens the server's address finds the
// reference, a program gets JSON.
func TestBrowserIsLedToTheReference(t *testing.T) {
	env := newEnv(t, options{})
	for accept, want := range map[string]int{"text/html,application/xhtml+xml,*/*;q=0.8": http.StatusFound, "*/*": http.StatusNotFound, "application/json": http.StatusNotFound} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		req.Header.Set("Accept", accept)
		out := httptest.NewRecorder()
		env.Server.ServeHTTP(out, req)
		if out.Code != want || (want == http.StatusFound && out.Header().Get("Location") != "/docs") || (want == http.StatusNotFound && !json.Valid(out.Body.Bytes())) {
			t.Errorf("Accept %s: %d %v %s", accept, out.Code, out.Header(), out.Body)
		}
	}
}

// TestDocumentIsMadeForPeopleAndGenerators: everything has a description, ids of operations
// are words, objects of answers are open and those of requests closed, and no schema belongs
// to both.
func TestDocumentIsMadeForPeopleAndGenerators(t *testing.T) {
	root := (&caller{env: newEnv(t, options{})}).do("GET", "/openapi.json", nil).expect(200).json()
	paths, _ := at(root, "paths")
	sent, answered := map[string]bool{}, map[string]bool{}
	for path, item := range paths.(map[string]any) {
		for method, op := range item.(map[string]any) {
			op := op.(map[string]any)
			name := method + " " + path
			if id, _ := op["operationId"].(string); !regexp.MustCompile(`^[a-z]+([A-Z][a-z]+)+$`).MatchString(id) {
				t.Errorf("%s has the id %q", name, id)
			}
			if text, _ := op["description"].(string); !strings.Contains(text, ".") {
				t.Errorf("%s has no description", name)
			}
			parameters, _ := op["parameters"].([]any)
			for _, p := range parameters {
				if p := p.(map[string]any); p["description"] == nil || p["description"] == "" {
					t.Errorf("%s: the parameter %v has no description", name, p["name"])
				}
			}
			refs(root, op["requestBody"], sent)
			refs(root, op["responses"], answered)
		}
	}
	schemas, _ := at(root, "components.schemas")
	for name, schema := range schemas.(map[string]any) {
		properties, _ := schema.(map[string]any)["properties"].(map[string]any)
		for field, p := range properties {
			if text, _ := p.(map[string]any)["description"].(string); text == "" {
				t.Errorf("%s.%s has no description: give its field the tag doc", name, field)
			}
		}
		closed := schema.(map[string]any)["additionalProperties"] == false
		switch {
		case sent[name] && answered[name]:
			t.Errorf("%s is sent and answered: it cannot be open and closed", name)
		case closed == answered[name] && properties != nil && name != "Secrets":
			t.Errorf("%s: sent %t, answered %t, closed %t", name, sent[name], answered[name], closed)
		}
	}
}

// refs adds the names of the schemas that a node refers to, also in the schemas themselves.
func refs(root, node any, all map[string]bool) {
	switch node := node.(type) {
	case map[string]any:
		if ref, ok := node["$ref"].(string); ok {
			name, isSchema := strings.CutPrefix(ref, "#/components/schemas/")
			if isSchema && all[name] {
				return
			}
			if isSchema {
				all[name] = true
			}
			refs(root, follow(root, node), all)
			return
		}
		for _, v := range node {
			refs(root, v, all)
		}
	case []any:
		for _, v := range node {
			refs(root, v, all)
		}
	}
}

// TestChatEventsAreDescribed: the described events of an answer have the fields of
// client.ChatEvent, all of them and no other.
func TestChatEventsAreDescribed(t *testing.T) {
	described := map[string]reflect.Type{}
	for _, e := range api.ChatEvents() {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(e)) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			described[name] = f.Type
		}
	}
	sent := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[client.ChatEvent]()) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "-" {
			sent[name] = f.Type
		}
	}
	if !maps.Equal(described, sent) {
		t.Errorf("described: %v\nsent: %v", described, sent)
	}
}

// TestDescribedBoundsHold sends more than the document allows in every field of every body:
// the response names the field.
func TestDescribedBoundsHold(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newFixture("mine")
	root := (&caller{env: env}).do("GET", "/openapi.json", nil).expect(200).json()
	checked := 0
	for _, row := range env.Server.Table() {
		op, _ := operation(root, row.Path, row.Method)
		content, _ := at(op, "requestBody.content")
		media, _ := content.(map[string]any)
		described, ok := media["application/json"].(map[string]any)
		if !ok {
			continue
		}
		properties, _ := at(follow(root, described["schema"]), "properties")
		for name, p := range properties.(map[string]any) {
			bounds := follow(root, p).(map[string]any)
			var tooMuch any
			if n, ok := bounds["maxLength"].(float64); ok {
				tooMuch = strings.Repeat("a", int(n)+1)
			} else if n, ok := bounds["maximum"].(float64); ok {
				tooMuch = int64(n) + 1
			} else if n, ok := bounds["maxItems"].(float64); ok {
				items := map[string]any{"chunks": map[string]any{"text": "a", "source": "a"}, "files": map[string]any{"path": "a", "content": "a"}}
				item := items[name]
				if item == nil {
					item = "chat"
				}
				tooMuch = slices.Repeat([]any{item}, int(n)+1)
			} else {
				continue
			}
			var body map[string]any
			if err := json.Unmarshal([]byte(mine.body(row).(string)), &body); err != nil {
				t.Fatal(err)
			}
			body[name] = tooMuch
			a := mine.do(row.Method, mine.path(row), body).expectError(http.StatusBadRequest, "invalid_request")
			if a.field("error.details."+name) == "" {
				t.Errorf("%s with too much in %s: %s", a.request, name, a.body)
			}
			checked++
		}
	}
	if checked < 30 {
		t.Errorf("only %d bounds were found", checked)
	}
}

// TestErrorCodesAreDescribed: the document and docs/errors.md have every code of a fault.
func TestErrorCodesAreDescribed(t *testing.T) {
	source, err := os.ReadFile("../fault/fault.go")
	if err != nil {
		t.Fatal(err)
	}
	guide, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	root := (&caller{env: newEnv(t, options{})}).do("GET", "/openapi.json", nil).expect(200).json()
	described, _ := at(root, "components.schemas.ErrorBody.properties.code.enum")
	codes := regexp.MustCompile(`Code\s+= "([a-z_]+)"`).FindAllStringSubmatch(string(source), -1)
	if values, _ := described.([]any); len(codes) < 10 || len(values) != len(codes) {
		t.Errorf("%d codes, %d are described: the tag values of client.Error has them", len(codes), len(values))
	}
	for _, code := range codes {
		if !slices.Contains(described.([]any), any(code[1])) {
			t.Errorf("%s is missing in the tag values of client.Error", code[1])
		}
		if !strings.Contains(string(guide), "`"+code[1]+"`") {
			t.Errorf("docs/errors.md lacks %s", code[1])
		}
	}
}
