package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"agento.host/agento/internal/api"
)

// emptyTexts are texts that look like nothing.
func emptyTexts() []string {
	return []string{"", " ", "\t\n", "\u00a0", "\u3000", "\u200b\ufeff", "\u3164"}
}

// mayBeEmpty are the fields of bodies whose empty text is a value.
func mayBeEmpty() []string {
	return []string{"PUT /v1/agents/{id}/workflow workflowMd", "POST /v1/skills files[0].content"}
}

// TestEmptyIsNotAbsent sends "", blanks and null in every parameter and field of the OpenAPI
// document, in a request that is valid otherwise. Each is refused by its name, unless the
// document says that the field may be null.
func TestEmptyIsNotAbsent(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newFixture("mine")
	root := (&caller{env: env}).do("GET", "/openapi.json", nil).expect(200).json()
	fields, parameters := 0, 0
	for _, row := range env.Server.Table() {
		described, ok := operation(root, row.Path, row.Method)
		if !ok {
			t.Fatalf("%s %s is not described", row.Method, row.Path)
		}
		op := described.(map[string]any)
		listed, _ := op["parameters"].([]any)
		for _, p := range listed {
			parameters += mine.checkEmptyParameter(row, follow(root, p).(map[string]any))
		}
		schema, ok := at(op, "requestBody.content")
		if !ok {
			continue
		}
		media, ok := schema.(map[string]any)["application/json"].(map[string]any)
		if !ok {
			continue // a file
		}
		schema = follow(root, media["schema"])
		text, _ := mine.body(row).(string)
		var body map[string]any
		if err := json.Unmarshal([]byte(text), &body); err != nil {
			t.Fatalf("%s %s: fixture.body has no valid body: %v", row.Method, row.Path, err)
		}
		w := emptyWalk{mine, root, row, body, ""}
		w.object(schema.(map[string]any), body)
		w.refuse("", "body", nil, func(any) {}) // instead of the object
		fields += len(schema.(map[string]any)["properties"].(map[string]any))
	}
	if fields < 40 || parameters < 40 {
		t.Errorf("only %d fields and %d parameters were found", fields, parameters)
	}
}

// checkEmptyParameter returns 1 if the parameter is in a query or a header.
func (o fixture) checkEmptyParameter(row api.Row, p map[string]any) int {
	name, required := fmt.Sprint(p["name"]), p["required"] == true
	path, query, _ := strings.Cut(o.path(row), "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		o.env.T.Fatal(err)
	}
	for _, empty := range emptyTexts() {
		var a *response
		switch p["in"] {
		case "query":
			values.Set(name, empty)
			a = o.do(row.Method, path+"?"+values.Encode(), o.body(row))
		case "header":
			if strings.Trim(empty, " \t") != "" {
				continue // not in headers
			}
			a = o.do(row.Method, o.path(row), o.body(row), name, empty)
		default:
			return 0
		}
		problem := a.expectError(http.StatusBadRequest, "invalid_request").field("error.details." + name)
		if problem == "" || (!required && name != "Idempotency-Key" && !strings.Contains(problem, "leave it out")) {
			o.env.T.Errorf("%s with %s %q: %s", a.request, name, empty, a.body)
		}
	}
	return 1
}

// emptyWalk puts empty values into a body, one at a time.
type emptyWalk struct {
	fixture
	root any
	row  api.Row
	body map[string]any
	at   string // the place of the object that is walked, as error.details has it
}

// object walks the fields of an object of the body.
func (w emptyWalk) object(schema, object map[string]any) {
	properties, _ := schema["properties"].(map[string]any)
	required, _ := schema["required"].([]any)
	for name, described := range properties {
		described := follow(w.root, described).(map[string]any)
		place := w.at + name
		set := func(v any) { object[name] = v }
		before, had := object[name]
		restore := func() {
			if delete(object, name); had {
				object[name] = before
			}
		}
		types := fmt.Sprint(described["type"], described["oneOf"])
		if !strings.Contains(types, "null") {
			w.refuse(place, place, nil, set)
		}
		if strings.Contains(types, "string") && !strings.Contains(types, "array") && !slices.Contains(mayBeEmpty(), w.row.Method+" "+w.row.Path+" "+place) {
			for _, empty := range emptyTexts() {
				problem := w.refuse(place, place, empty, set)
				if !slices.Contains(required, any(name)) && described["enum"] == nil && name != "name" && !strings.Contains(problem, "leave it out") {
					w.env.T.Errorf("%s %s: %s with %q: %s", w.row.Method, w.row.Path, place, empty, problem)
				}
			}
		}
		restore()
		if items, ok := follow(w.root, described["items"]).(map[string]any); ok {
			w.list(place, items, set)
			restore()
		}
	}
}

// list walks the items of a list.
func (w emptyWalk) list(place string, items map[string]any, set func(any)) {
	item := func(v any) { set([]any{v}) }
	w.refuse(place, place+"[0]", nil, item)
	if items["type"] == "string" {
		for _, empty := range emptyTexts() {
			w.refuse(place, place+"[0]", empty, item)
		}
		return
	}
	object := map[string]any{}
	for name := range items["properties"].(map[string]any) {
		if slices.Contains(items["required"].([]any), any(name)) {
			object[name] = "x"
		}
	}
	item(object)
	w.at = place + "[0]."
	w.object(items, object)
}

// refuse sets a field to v, sends the body and returns what the response says of the field,
// which must be wrong. path is empty for the body itself.
func (w emptyWalk) refuse(path, detail string, v any, set func(any)) string {
	w.env.T.Helper()
	set(v)
	var body any = w.body
	if path == "" {
		body = v
	}
	text, err := json.Marshal(body)
	if err != nil {
		w.env.T.Fatal(err)
	}
	a := w.do(w.row.Method, w.path(w.row), string(text)).expectError(http.StatusBadRequest, "invalid_request")
	details, _ := at(a.json(), "error.details")
	problems, _ := details.(map[string]any)
	problem, _ := problems[detail].(string)
	if problem == "" {
		w.env.T.Errorf("%s with %s = %q: %s", a.request, detail, v, a.body)
	}
	return problem
}

// TestEmptyNamesInPaths: no path finds anything by a blank name.
func TestEmptyNamesInPaths(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newFixture("mine")
	for _, row := range env.Server.Table() {
		for _, part := range strings.Split(row.Path, "/") {
			if !strings.HasPrefix(part, "{") {
				continue
			}
			for _, empty := range []string{"%20", "%E2%80%8B", "%C2%A0"} {
				blank := row
				blank.Path = strings.Replace(row.Path, part, empty, 1)
				if a := mine.do(row.Method, mine.path(blank), mine.body(row)); a.status != http.StatusBadRequest && a.status != http.StatusNotFound {
					t.Errorf("%s: status %d", a.request, a.status)
				}
			}
		}
	}
}

// TestUnreadableParametersAreRefused: url.URL.Query drops what it cannot read, which would
// then be absent.
func TestUnreadableParametersAreRefused(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newFixture("mine")
	history := "/v1/agents/" + mine.agent + "/chat/messages?"
	for _, query := range []string{"sessionId=%zz", "sessionId=%", "limit=1;sessionId=x", "sessionId=a%2"} {
		mine.do("GET", history+query, nil).expectError(http.StatusBadRequest, "invalid_request")
	}
	a := mine.do("GET", history+"sessionId=a&sessionId=b", nil).expectError(http.StatusBadRequest, "invalid_request")
	if got := a.field("error.details.sessionId"); got != "must be given once" {
		t.Errorf("a repeated parameter: %s", a.body)
	}
}

// TestEmptySecretsAreRefused: the values of secrets are not described one by one.
func TestEmptySecretsAreRefused(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newFixture("mine")
	for _, path := range []string{"/v1/agents/" + mine.agent + "/secrets", "/v1/swarms/" + mine.swarm + "/secrets"} {
		names := []string{"openaiApiKey", "MY_VARIABLE"}
		if strings.HasPrefix(path, "/v1/swarms") {
			names = names[:1]
		}
		for _, name := range names {
			for _, empty := range []any{nil, "", " ", "\u200b", "\u3164"} {
				text, err := json.Marshal(map[string]any{"secrets": map[string]any{name: empty}})
				if err != nil {
					t.Fatal(err)
				}
				if a := mine.do("PUT", path, string(text)).expectError(http.StatusBadRequest, "invalid_request"); a.field("error.details.secrets."+name) == "" {
					t.Errorf("%s = %q: %s", name, empty, a.body)
				}
			}
		}
	}
}
