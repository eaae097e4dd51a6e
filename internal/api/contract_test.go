package api_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// section is one endpoint of the contract.
type section struct {
	path    string // with {id} for :id
	example any    // of an answer in JSON; nil: it is a stream
}

// heading matches a path that is directly followed by a capital letter: this is how
// the headings look in the contract's text, which was copied from a web page.
var heading = regexp.MustCompile(`(/v1/[a-z]+(?:/(?::id|:skillId|:name|[a-z]+))*)(?:SSE)?[A-Z]`)

func readContract(t *testing.T) []section {
	t.Helper()
	text, err := os.ReadFile("testdata/contract.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []section
	found := heading.FindAllSubmatchIndex(text, -1)
	for i, m := range found {
		end := len(text)
		if i+1 < len(found) {
			end = found[i+1][0]
		}
		path := strings.NewReplacer(":id", "{id}", ":skillId", "{skillId}", ":name", "{name}").Replace(string(text[m[2]:m[3]]))
		all = append(all, section{path: path, example: exampleIn(string(text[m[1]:end]))})
	}
	return all
}

func exampleIn(text string) any {
	at := strings.Index(text, "\n{\n")
	if at < 0 {
		return nil
	}
	var v any
	if json.NewDecoder(strings.NewReader(text[at:])).Decode(&v) != nil {
		return nil
	}
	return v
}

// additions returns the fields that the API adds to the contract's examples, by place.
func additions() map[string][]string {
	return map[string][]string{
		"GET /v1/agents pagination":             {"hasMore"},
		"GET /v1/agents/{id}/skills pagination": {"hasMore"},
		"GET /v1/skills pagination":             {"hasMore"},

		"GET /v1/agents/{id}/chat/messages data.[]":    {"id", "sessionId", "peerId", "channel", "turnId", "source"},
		"GET /v1/agents/{id}/chat/messages pagination": {"hasMore", "before", "after"},
		"GET /v1/agents/{id}/chat/sessions data.[]":    {"peerId", "messageCount", "lastMessageAt"},
		"GET /v1/agents/{id}/chat/sessions pagination": {"hasMore"},

		"GET /v1/agents/{id} data":              {"needsKey", "channels"},
		"PATCH /v1/agents/{id} data":            {"needsKey"},
		"GET /v1/agents/{id}/workflow data":     {"workflowMdHash", "workflowMdUpdatedAt"},
		"GET /v1/agents/{id}/rules/{name} data": {"hash"},
		"GET /v1/account data.plan.limits":      {"storageBytes"},
		"GET /v1/account data.usage":            {"storageBytes"},
		"GET /v1/account data.plan.features":    {"swarms", "knowledge", "custom_skills", "clawhub"},
		"GET /v1/agents/{id}/skills data.[]":    {"source", "securityScore", "latestVersion"},
		"GET /v1/skills data.[]":                {"trustLevel", "verdict"},
		"GET /v1/skills/{id} data":              {"trustLevel", "verdict", "tools", "hosts", "findings"},
		"GET /v1/knowledge data.[]":             {"metadata"},
		"DELETE /v1/knowledge data":             {"count"},
	}
}

// TestTableStartsWithTheContract: the table has every endpoint, in the contract's
// order, and each response has exactly the fields of the contract's example.
func TestTableStartsWithTheContract(t *testing.T) {
	contract := readContract(t)
	if len(contract) != 38 {
		t.Fatalf("the contract has 38 endpoints, %d were read", len(contract))
	}
	env := newEnv(t, options{})
	answers := callEveryRoute(env)
	for i, row := range env.Server.Table()[:len(contract)] {
		want, pattern := contract[i], row.Method+" "+row.Path
		if row.Path != want.path {
			t.Fatalf("row %d of the table is %s, the contract has %s there", i, pattern, want.path)
		}
		if row.Stream != (want.example == nil) {
			t.Errorf("%s: the contract and the table disagree on whether it is a stream", pattern)
		}
		got := answers[pattern]
		switch {
		case got == nil:
			t.Errorf("%s: callEveryRoute does not call it", pattern)
		case row.Stream: // chat.script and stream_test.go compare every byte
		default:
			compare(t, pattern, "", want.example, got.json())
		}
	}
}

// compare fails the test unless a response has the names and types of an example.
func compare(t *testing.T, pattern, place string, want, got any) {
	t.Helper()
	if want == nil || got == nil {
		return // null has no fields; the caller has seen that the field is present
	}
	where := strings.TrimSpace(pattern + " " + place)
	if a, b := fmt.Sprintf("%T", want), fmt.Sprintf("%T", got); a != b {
		t.Errorf("%s: %s, the contract has %s", where, b, a)
		return
	}
	switch want := want.(type) {
	case map[string]any:
		got := got.(map[string]any)
		for name, example := range want {
			value, ok := got[name]
			if !ok {
				t.Errorf("%s lacks the field %s", where, name)
			}
			compare(t, pattern, strings.TrimPrefix(place+"."+name, "."), example, value)
		}
		for name := range got {
			if _, ok := want[name]; !ok && !slices.Contains(additions()[where], name) {
				t.Errorf("%s has the field %s, which the contract does not have", where, name)
			}
		}
	case []any:
		got := got.([]any)
		if len(want) > 0 && len(got) == 0 {
			t.Errorf("%s is empty: callEveryRoute must create something there", where)
		} else if len(want) > 0 {
			compare(t, pattern, place+".[]", want[0], got[0])
		}
	}
}

// callEveryRoute calls every route of the contract, in an order in which all succeed.
func callEveryRoute(env *testEnv) map[string]*response {
	env.T.Helper()
	who := env.newAccount("walker", "")
	answers := map[string]*response{}
	call := func(pattern, path string, body any) *response {
		method, _, _ := strings.Cut(pattern, " ")
		a := who.do(method, path, body)
		if a.status/100 != 2 {
			env.T.Fatalf("%s: %d %s", pattern, a.status, a.body)
		}
		answers[pattern] = a
		return a
	}
	swarm := call("POST /v1/swarms", "/v1/swarms", `{"name":"Growth","description":"About growth."}`).field("data.id")
	call("GET /v1/swarms", "/v1/swarms", nil)
	id := call("POST /v1/agents", "/v1/agents", `{"name":"My Assistant","secrets":{"anthropicApiKey":"sk-ant-test"}}`).field("data.id")
	call("GET /v1/agents", "/v1/agents", nil)
	call("GET /v1/agents/{id}", "/v1/agents/"+id, nil)
	call("PATCH /v1/agents/{id}", "/v1/agents/"+id, map[string]any{"swarmId": swarm})
	call("GET /v1/swarms/{id}", "/v1/swarms/"+swarm, nil)
	call("PATCH /v1/swarms/{id}", "/v1/swarms/"+swarm, `{"name":"Growth Team"}`)
	at := func(pattern, rest string, body any) { call(pattern, "/v1/agents/"+id+rest, body) }
	at("GET /v1/agents/{id}/status", "/status", nil)
	at("POST /v1/agents/{id}/chat/messages", "/chat/messages", `{"message":"Hello!"}`)
	at("GET /v1/agents/{id}/chat/messages", "/chat/messages", nil)
	at("GET /v1/agents/{id}/chat/sessions", "/chat/sessions", nil)
	at("POST /v1/agents/{id}/chat/sessions", "/chat/sessions", nil)
	at("GET /v1/agents/{id}/logs", "/logs", nil)
	answers["GET /v1/agents/{id}/logs/stream"] = who.do("HEAD", "/v1/agents/"+id+"/logs/stream", nil).expect(200)
	at("PUT /v1/agents/{id}/secrets", "/secrets", `{"secrets":{"MY_TOKEN":"x"}}`)
	at("GET /v1/agents/{id}/personality", "/personality", nil)
	at("PUT /v1/agents/{id}/personality", "/personality", `{"soulMd":"Be nice."}`)
	at("PUT /v1/agents/{id}/workflow", "/workflow", `{"workflowMd":"Work."}`)
	at("PUT /v1/agents/{id}/rules/{name}", "/rules/new-request", `{"content":"Handle it."}`)
	at("GET /v1/agents/{id}/workflow", "/workflow", nil)
	at("GET /v1/agents/{id}/rules", "/rules", nil)
	at("GET /v1/agents/{id}/rules/{name}", "/rules/new-request", nil)
	at("DELETE /v1/agents/{id}/rules/{name}", "/rules/new-request", nil)
	at("POST /v1/agents/{id}/skills", "/skills", `{"skillId":"web-search","trustLevel":"verified"}`)
	at("GET /v1/agents/{id}/skills", "/skills", nil)
	at("DELETE /v1/agents/{id}/skills/{skillId}", "/skills/web-search", nil)
	call("GET /v1/skills", "/v1/skills", nil)
	call("GET /v1/skills/{id}", "/v1/skills/web-search", nil)
	call("POST /v1/knowledge/ingest", "/v1/knowledge/ingest", map[string]any{"agentId": id, "chunks": []any{map[string]any{"text": "Hello.", "source": "a.md"}}})
	call("GET /v1/knowledge", "/v1/knowledge?agentId="+id, nil)
	call("DELETE /v1/knowledge", "/v1/knowledge?agentId="+id+"&source=a.md", nil)
	call("GET /v1/account", "/v1/account", nil)
	at("POST /v1/agents/{id}/stop", "/stop", nil)
	at("POST /v1/agents/{id}/start", "/start", nil)
	at("POST /v1/agents/{id}/restart", "/restart", nil)
	call("DELETE /v1/swarms/{id}", "/v1/swarms/"+swarm, nil)
	at("DELETE /v1/agents/{id}", "", nil)
	return answers
}
