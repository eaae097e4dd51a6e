package api_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/api"
	"agento.host/agento/internal/identity"
)

// owned is an account with one of everything that a path of the table can name.
type owned struct {
	*caller
	agent, swarm string
}

// secretsOf an owned account: nothing may ever show them.
func secretsOf() []string { return []string{"sk-ant-owned", "an-owned-password", "sk-ant-swarm-owned"} }

func (h *house) owner(name string) owned {
	h.t.Helper()
	o := owned{caller: h.account(name, "")}
	o.swarm = o.do("POST", "/v1/swarms", `{"name":"Owned by `+name+`"}`).wants(201).text("data.id")
	o.do("PUT", "/v1/swarms/"+o.swarm+"/secrets", `{"secrets":{"anthropicApiKey":"sk-ant-swarm-owned"}}`).wants(200)
	o.agent = o.do("POST", "/v1/agents", `{"name":"Owned by `+name+`","swarmId":"`+o.swarm+`","secrets":{"anthropicApiKey":"sk-ant-owned","MY_PASSWORD":"an-owned-password"}}`).wants(201).text("data.id")
	o.do("PUT", "/v1/agents/"+o.agent+"/rules/owned", `{"content":"Owned by `+name+`"}`).wants(200)
	o.do("POST", "/v1/agents/"+o.agent+"/chat/messages", `{"message":"Owned by `+name+`"}`).wants(200)
	o.do("POST", "/v1/agents/"+o.agent+"/skills", `{"skillId":"csv-analysis","trustLevel":"verified"}`).wants(201)
	o.do("POST", "/v1/knowledge/ingest", `{"agentId":"`+o.agent+`","chunks":[{"text":"Owned by `+name+`","source":"owned"}]}`).wants(200)
	h.driver.Print(identity.AgentID(o.agent), "the key is sk-ant-owned, the password an-owned-password")
	return o
}

// path fills a path of the table with what o owns.
func (o owned) path(row api.Row) string {
	id := o.agent
	switch {
	case strings.HasPrefix(row.Path, "/v1/swarms"):
		id = o.swarm
	case strings.HasPrefix(row.Path, "/v1/skills"):
		id = "csv-analysis"
	}
	path := strings.NewReplacer("{id}", id, "{name}", "owned", "{n}", "1", "{skillId}", "csv-analysis").Replace(row.Path)
	switch row.Method + " " + row.Path {
	case "GET /v1/knowledge":
		path += "?agentId=" + o.agent
	case "DELETE /v1/knowledge":
		path += "?source=owned&agentId=" + o.agent
	case "GET /v1/knowledge/search":
		path += "?q=owned&agentId=" + o.agent
	}
	return path
}

// body is one that the route takes; nil if it takes none.
func (o owned) body(row api.Row) any {
	switch row.Method + " " + row.Path {
	case "POST /v1/agents":
		return `{"name":"A","secrets":{"anthropicApiKey":"sk-ant-test"}}`
	case "PATCH /v1/agents/{id}", "PATCH /v1/swarms/{id}":
		return `{"name":"B"}`
	case "POST /v1/agents/{id}/chat/messages":
		return `{"message":"Hello"}`
	case "POST /v1/agents/{id}/chat/sessions":
		return `{}`
	case "POST /v1/agents/{id}/skills":
		return `{"skillId":"web-reader","trustLevel":"verified"}`
	case "PATCH /v1/agents/{id}/skills/{skillId}":
		return `{"isEnabled":true}`
	case "POST /v1/skills":
		return `{"id":"own","name":"Own","version":"1.0.0","skillMd":"---\nname: own\ndescription: My own skill.\n---\nDo it."}`
	case "POST /v1/swarms":
		return `{"name":"A"}`
	case "POST /v1/knowledge/ingest":
		return `{"agentId":"` + o.agent + `","chunks":[{"text":"Hello","source":"a.md"}]}`
	case "PUT /v1/agents/{id}/secrets", "PUT /v1/swarms/{id}/secrets":
		return `{"secrets":{"openaiApiKey":"a-test-key"}}`
	case "PUT /v1/agents/{id}/personality":
		return `{"soulMd":"Be nice."}`
	case "PUT /v1/agents/{id}/workflow":
		return `{"workflowMd":"Work."}`
	case "PUT /v1/agents/{id}/rules/{name}":
		return `{"content":"Rule."}`
	}
	return nil
}

// ofSomebody says whether the request names a thing that belongs to an account.
func ofSomebody(row api.Row) bool {
	for _, place := range []string{"/v1/agents/{id}", "/v1/swarms/{id}", "/v1/knowledge"} {
		if strings.HasPrefix(row.Path, place) {
			return true
		}
	}
	return false
}

func TestNobodyComesInWithoutAKey(t *testing.T) {
	h := open(t, plan{})
	mine := h.owner("mine")
	for i, row := range h.door.Table() {
		for _, key := range []string{"", "not-a-key", "ak_live_00000000000000000000000000000000"} {
			req := mine.request(t.Context(), row.Method, mine.path(row), mine.body(row))
			req.Header.Set("X-Api-Key", key)
			req.RemoteAddr = "192.0.2." + string(rune('0'+i%10)) + ":1" // unknown keys are counted by address
			out := httptest.NewRecorder()
			h.door.ServeHTTP(out, req)
			a := &answer{t: t, asked: row.Method + " " + row.Path, status: out.Code, header: out.Header(), body: out.Body.String()}
			a.refuses(http.StatusUnauthorized, "unauthorized")
			if a.text("error.message") != "Invalid or missing API key" || a.header.Get("X-RateLimit-Limit") != "" {
				t.Errorf("%s with key %q: %v %s", a.asked, key, a.header, a.body)
			}
		}
	}
}

func TestAKeyWithoutTheScopeIsToldWhichItLacks(t *testing.T) {
	h := open(t, plan{})
	mine := h.owner("mine")
	for _, row := range h.door.Table() {
		if row.Scope == "" {
			continue // any key will do
		}
		var others []access.Scope
		for _, name := range access.AllScopes().Names() {
			if s := access.Scope(name); s != row.Scope {
				others = append(others, s)
			}
		}
		who := h.key(mine.account, access.NewScopes(others...), access.MaxRateLimit)
		a := who.do(row.Method, mine.path(row), mine.body(row)).refuses(http.StatusForbidden, "forbidden")
		if !strings.Contains(a.text("error.message"), string(row.Scope)) || a.text("error.details.scope") != string(row.Scope) {
			t.Errorf("%s does not name the scope %s: %s", a.asked, row.Scope, a.body)
		}
		limited(t, a)
	}
}

func TestAStrangersThingsAreNotThere(t *testing.T) {
	h := open(t, plan{})
	mine, stranger := h.owner("mine"), h.account("stranger", "")
	for _, row := range h.door.Table() {
		a := stranger.do(row.Method, mine.path(row), mine.body(row))
		limited(t, a)
		if ofSomebody(row) {
			a.refuses(http.StatusNotFound, "not_found")
		}
		for _, known := range []string{mine.agent, mine.swarm, "Owned by mine", mine.account} {
			if strings.Contains(strings.ReplaceAll(a.body, mine.path(row), ""), known) && !namesOnly(a, mine) {
				t.Errorf("%s shows the stranger %q: %s", a.asked, known, a.body)
			}
		}
	}
	// Nothing of it has happened.
	mine.do("GET", "/v1/agents/"+mine.agent+"/rules/owned", nil).wants(200)
	mine.do("GET", "/v1/swarms/"+mine.swarm, nil).wants(200)
	if a := mine.do("GET", "/v1/agents/"+mine.agent, nil).wants(200); a.text("data.status") != "running" || a.text("data.name") != "Owned by mine" {
		t.Errorf("a stranger changed an agent: %s", a.body)
	}
}

// namesOnly says whether a refusal only repeats the id that it was asked about.
func namesOnly(a *answer, o owned) bool {
	return a.status == http.StatusNotFound && !strings.Contains(a.body, "Owned by") && !strings.Contains(a.body, o.account)
}

func TestNoRouteEverShowsASecret(t *testing.T) {
	h := open(t, plan{})
	mine := h.owner("mine")
	for _, row := range h.door.Table() {
		if row.Method == http.MethodDelete || row.Stream || strings.HasSuffix(row.Path, "/stop") {
			continue // the log as a stream is masked by the same hand as the log at once
		}
		a := mine.do(row.Method, mine.path(row), mine.body(row))
		if a.status >= 500 {
			t.Errorf("%s: %d %s", a.asked, a.status, a.body)
		}
		limited(t, a)
		for _, secret := range secretsOf() {
			if strings.Contains(a.body, secret) {
				t.Errorf("%s shows %q: %s", a.asked, secret, a.body)
			}
		}
	}
	for _, secret := range secretsOf() {
		if strings.Contains(h.log.String(), secret) {
			t.Errorf("the server's log shows %q", secret)
		}
	}
}

// limited fails the test if an answer does not say what is left of the key's window.
func limited(t *testing.T, a *answer) {
	t.Helper()
	for _, name := range []string{"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"} {
		if a.header.Get(name) == "" {
			t.Errorf("%s: %d without %s", a.asked, a.status, name)
		}
	}
}
