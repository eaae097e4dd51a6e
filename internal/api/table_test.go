package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/api"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

// fixture is an account that has one of each thing that a path of the table can name.
type fixture struct {
	*caller
	agent, swarm, turn, session string
	item                        string // the id of what waits for a person
	key                         string // the id of a key that the caller's key may change
	widget                      string
	member, invitation          string // a person other than the owner, who is in the swarm
	entry                       string // of the agent's knowledge
}

// fixtureSecrets returns the secrets of a fixture. No response may contain them.
func fixtureSecrets() []string {
	return []string{"sk-ant-owned", "an-owned-password", "sk-ant-swarm-owned"}
}

// newFixture creates a fixture whose account has that name.
func (env *testEnv) newFixture(name string) fixture {
	env.T.Helper()
	o := fixture{caller: env.newAccount(name, "")}
	o.swarm = o.do("POST", "/v1/swarms", `{"name":"Owned by `+name+`"}`).expect(201).field("data.id")
	o.do("PUT", "/v1/swarms/"+o.swarm+"/secrets", `{"secrets":{"anthropicApiKey":"sk-ant-swarm-owned"}}`).expect(200)
	o.agent = o.do("POST", "/v1/agents", `{"name":"Owned by `+name+`","swarmId":"`+o.swarm+`","secrets":{"anthropicApiKey":"sk-ant-owned","MY_PASSWORD":"an-owned-password"}}`).expect(201).field("data.id")
	o.do("PUT", "/v1/agents/"+o.agent+"/rules/owned", `{"content":"Owned by `+name+`"}`).expect(200)
	o.turn = o.do("POST", "/v1/agents/"+o.agent+"/chat/messages", `{"message":"Owned by `+name+`"}`).expect(200).header.Get("X-Turn-Id")
	o.session = o.do("GET", "/v1/agents/"+o.agent+"/chat/sessions", nil).expect(200).field("data.0.id")
	o.do("POST", "/v1/agents/"+o.agent+"/skills", `{"skillId":"csv-analysis","trustLevel":"verified"}`).expect(201)
	o.item = o.findSkill()
	o.do("POST", "/v1/knowledge/ingest", `{"agentId":"`+o.agent+`","chunks":[{"text":"Owned by `+name+`","source":"owned"}]}`).expect(200)
	o.entry = o.do("GET", "/v1/knowledge?agentId="+o.agent, nil).expect(200).field("data.0.id")
	o.key = o.do("POST", "/v1/keys", `{"label":"Owned by `+name+`","scopes":["chat"]}`).expect(201).field("data.id")
	o.widget = o.do("POST", "/v1/widgets", `{"name":"Owned by `+name+`","agentId":"`+o.agent+`","origins":["https://owned.example"]}`).expect(201).field("data.id")
	o.member, o.invitation = env.newFixturePeople(o.caller, name, o.swarm)
	env.Driver.Print(identity.AgentID(o.agent), "the key is sk-ant-owned, the password an-owned-password")
	return o
}

// findSkill makes the scan of the agent's skill one with findings, and returns the id under which
// that waits for a person.
func (o fixture) findSkill() string {
	o.env.T.Helper()
	o.setScore(40)
	return o.do("GET", "/v1/attention", nil).expect(200).field("data.0.id")
}

// newFixturePeople makes a viewer who is a member of a swarm, and an invitation.
func (env *testEnv) newFixturePeople(o *caller, name, swarm string) (member, invitation string) {
	env.T.Helper()
	member = string(env.NewPerson(o.account, name+"@example.com", access.Viewer).Session.Person.ID)
	o.do("POST", "/v1/swarms/"+swarm+"/members", `{"userId":"`+member+`"}`).expect(200)
	return member, o.do("POST", "/v1/members/invitations", `{"email":"waits-for-`+name+`@example.com","role":"viewer"}`).expect(201).field("data.id")
}

func (o fixture) setScore(score int) {
	o.env.T.Helper()
	err := o.env.DB.Tx(o.env.T.Context(), "test.score", func(ctx context.Context, tx *database.Tx) error {
		_, err := database.Exec(ctx, tx, `UPDATE agent_skills SET score = $1 WHERE agent_id = $2`, score, o.agent)
		return err
	})
	if err != nil {
		o.env.T.Fatal(err)
	}
}

// path returns the path of a row with the ids of the fixture.
func (o fixture) path(row api.Row) string {
	id := o.agent
	switch {
	case strings.HasPrefix(row.Path, "/v1/swarms"):
		id = o.swarm
	case strings.HasPrefix(row.Path, "/v1/skills"):
		id = "csv-analysis"
	case strings.HasPrefix(row.Path, "/v1/keys"):
		id = o.key
	case strings.HasPrefix(row.Path, "/v1/widgets"):
		id = o.widget
	case strings.HasPrefix(row.Path, "/v1/attention"):
		id = o.item
	case strings.HasPrefix(row.Path, "/v1/members/invitations"):
		id = o.invitation
	case strings.HasPrefix(row.Path, "/v1/members"):
		id = o.member
	}
	path := strings.NewReplacer("{id}", id, "{userId}", o.member, "{turnId}", o.turn, "{sessionId}", o.session, "{name}", "owned", "{n}", "1", "{skillId}", "csv-analysis", "{entryId}", o.entry).Replace(row.Path)
	switch row.Method + " " + row.Path {
	case "GET /v1/knowledge", "GET /v1/knowledge/sources", "GET /v1/knowledge/{entryId}", "PATCH /v1/knowledge/{entryId}":
		path += "?agentId=" + o.agent
	case "DELETE /v1/knowledge":
		path += "?source=owned&agentId=" + o.agent
	case "POST /v1/knowledge/files":
		path += "?filename=a.md&agentId=" + o.agent
	case "GET /v1/knowledge/search":
		path += "?q=owned&agentId=" + o.agent
	}
	return path
}

// propose lets the agent edit the document of a row, and returns the path of the row for
// that edit.
func (o fixture) propose(row api.Row) string {
	o.env.T.Helper()
	o.do("PATCH", "/v1/agents/"+o.agent, `{"config":{"selfEdit":"review"}}`).expect(200)
	names := map[string]string{"personality": "SOUL.md", "identity": "IDENTITY.md", "workflow": "WORKFLOW.md", "rules": "rules/owned.md"}
	document := names[strings.Split(row.Path, "/")[4]]
	o.env.editHome(o.agent, "workspace/"+document, "Edited for "+row.Path)
	edits := o.do("GET", "/v1/agents/"+o.agent+"/edits", nil).expect(200)
	for i := range 10 {
		if at := fmt.Sprint("data.", i, "."); edits.field(at+"document") == document {
			return strings.Replace(o.path(row), "/versions/1/", "/versions/"+edits.field(at+"version")+"/", 1)
		}
	}
	o.env.T.Fatalf("%s does not wait: %s", document, edits.body)
	return ""
}

// body returns a valid body for a row; nil if the route takes none.
func (o fixture) body(row api.Row) any {
	switch row.Method + " " + row.Path {
	case "POST /v1/agents":
		return `{"name":"A","secrets":{"anthropicApiKey":"sk-ant-test"}}`
	case "PATCH /v1/agents/{id}", "PATCH /v1/swarms/{id}":
		return `{"name":"B"}`
	case "POST /v1/agents/{id}/chat/messages":
		return `{"message":"Hello"}`
	case "POST /v1/agents/import":
		return pack(newArchive())
	case "POST /v1/agents/{id}/chat/sessions":
		return `{}`
	case "PATCH /v1/agents/{id}/chat/sessions/{sessionId}":
		return `{"name":"A"}`
	case "POST /v1/agents/{id}/skills":
		return `{"skillId":"web-reader","trustLevel":"verified"}`
	case "PATCH /v1/agents/{id}/skills/{skillId}":
		return `{"isEnabled":true}`
	case "POST /v1/skills":
		return `{"id":"own","name":"Own","version":"1.0.0","skillMd":"---\nname: own\ndescription: My own skill.\n---\nDo it."}`
	case "POST /v1/swarms":
		return `{"name":"A"}`
	case "POST /v1/keys":
		return `{"scopes":["chat"]}`
	case "POST /v1/providers/check":
		return `{"provider":"anthropic","key":"` + apitest.DemoKey + `"}`
	case "PATCH /v1/keys/{id}":
		return `{"label":"B"}`
	case "POST /v1/widgets":
		return `{"name":"A","agentId":"` + o.agent + `"}`
	case "PATCH /v1/widgets/{id}":
		return `{"name":"B"}`
	case "POST /v1/keys/{id}/rotate", "POST /v1/widgets/{id}/rotate", "POST /v1/widgets/{id}/secret/rotate":
		return `{"graceSeconds":60}`
	case "POST /v1/knowledge/files":
		return []byte("# Hello\n\nA file.")
	case "PATCH /v1/knowledge/{entryId}":
		return `{"metadata":{"type":"faq"}}`
	case "PATCH /v1/members/{id}":
		return `{"role":"developer"}`
	case "POST /v1/members/invitations":
		return `{"email":"somebody@example.com","role":"viewer"}`
	case "POST /v1/swarms/{id}/members":
		return `{"userId":"` + o.member + `"}`
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

// belongsToAccount reports whether the path names a thing that belongs to an account.
func belongsToAccount(row api.Row) bool {
	if row.Path == "/v1/knowledge/bases" {
		return false // a list of the caller's own
	}
	for _, place := range []string{"/v1/agents/{id}", "/v1/swarms/{id}", "/v1/keys/{id}", "/v1/widgets/{id}", "/v1/attention/{id}", "/v1/members/{id}", "/v1/members/invitations/{id}", "/v1/knowledge"} {
		if strings.HasPrefix(row.Path, place) {
			return true
		}
	}
	return false
}

func TestRoutesNeedAKey(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newFixture("mine")
	for i, row := range env.Server.Table() {
		for _, key := range []string{"", "not-a-key", "ak_live_00000000000000000000000000000000"} {
			req := mine.request(t.Context(), row.Method, mine.path(row), mine.body(row))
			req.Header.Set("X-Api-Key", key)
			req.RemoteAddr = "192.0.2." + string(rune('0'+i%10)) + ":1" // unknown keys are rate-limited by address
			out := httptest.NewRecorder()
			env.Server.ServeHTTP(out, req)
			a := &response{t: t, request: row.Method + " " + row.Path, status: out.Code, header: out.Header(), body: out.Body.String()}
			a.expectError(http.StatusUnauthorized, "unauthorized")
			if a.field("error.message") != "Invalid or missing API key" || a.header.Get("X-RateLimit-Limit") != "30" || a.header.Get("X-RateLimit-Remaining") == "" || a.header.Get("X-RateLimit-Reset") == "" {
				t.Errorf("%s with key %q: %v %s", a.request, key, a.header, a.body)
			}
		}
	}
}

func TestMissingScopeIsNamed(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newFixture("mine")
	for _, row := range env.Server.Table() {
		if row.Scope == "" {
			continue // any key has access
		}
		var others []access.Scope
		for _, name := range access.AllScopes().Names() {
			if s := access.Scope(name); s != row.Scope {
				others = append(others, s)
			}
		}
		who := env.newKey(mine.account, access.NewScopes(others...), access.MaxRateLimit)
		a := who.do(row.Method, mine.path(row), mine.body(row)).expectError(http.StatusForbidden, "forbidden")
		if !strings.Contains(a.field("error.message"), string(row.Scope)) || a.field("error.details.scope") != string(row.Scope) {
			t.Errorf("%s does not name the scope %s: %s", a.request, row.Scope, a.body)
		}
		checkRateLimitHeaders(t, a)
	}
}

// TestMissingFeatureIsNamed: plan_locked lacks every feature, plan_small all but the API.
func TestMissingFeatureIsNamed(t *testing.T) {
	plans, err := access.LoadPlans("testdata/plans.yaml")
	if err != nil {
		t.Fatal(err)
	}
	env := newEnv(t, options{Plans: plans})
	locked := fixture{caller: env.newAccount("locked", "plan_locked"), agent: "none", swarm: "none", turn: "none", session: "none", key: "none", entry: "none", item: "none", member: "none", invitation: "none", widget: "none"}
	small := fixture{caller: env.newAccount("small", "plan_small"), agent: "none", swarm: "none", turn: "none", session: "none", key: "none", entry: "none", item: "none", member: "none", invitation: "none", widget: "none"}
	for _, row := range env.Server.Table() {
		if row.Scope == "" {
			locked.do(row.Method, locked.path(row), locked.body(row)).expect(200)
			continue
		}
		checkMissingFeature(t, locked, row, access.FeatureAPIAccess)
		if row.Feature != access.FeatureAPIAccess {
			checkMissingFeature(t, small, row, row.Feature)
		}
	}
}

func checkMissingFeature(t *testing.T, o fixture, row api.Row, feature string) {
	t.Helper()
	a := o.do(row.Method, o.path(row), o.body(row)).expectError(http.StatusForbidden, "plan_limit")
	if got := a.field("error.details.feature"); got != feature {
		t.Errorf("%s names the feature %q, want %q", a.request, got, feature)
	}
}

func TestOtherAccountsGetNotFound(t *testing.T) {
	env := newEnv(t, options{})
	mine, other := env.newFixture("mine"), env.newAccount("other", "")
	for _, row := range env.Server.Table() {
		a := other.do(row.Method, mine.path(row), mine.body(row))
		checkRateLimitHeaders(t, a)
		if belongsToAccount(row) {
			a.expectError(http.StatusNotFound, "not_found")
		}
		for _, known := range []string{mine.agent, mine.swarm, mine.key, mine.widget, mine.member, mine.invitation, "mine@example.com", "Owned by mine", string(mine.account)} {
			if strings.Contains(strings.ReplaceAll(a.body, mine.path(row), ""), known) && !onlyRepeatsID(a, mine) {
				t.Errorf("%s shows %q to another account: %s", a.request, known, a.body)
			}
		}
	}
	// Nothing was changed.
	mine.do("GET", "/v1/agents/"+mine.agent+"/rules/owned", nil).expect(200)
	mine.do("GET", "/v1/swarms/"+mine.swarm, nil).expect(200)
	if a := mine.do("GET", "/v1/agents/"+mine.agent, nil).expect(200); a.field("data.status") != "running" || a.field("data.name") != "Owned by mine" {
		t.Errorf("another account changed the agent: %s", a.body)
	}
}

// onlyRepeatsID reports whether an error repeats nothing but the id in the request.
func onlyRepeatsID(a *response, o fixture) bool {
	return a.status == http.StatusNotFound && !strings.Contains(a.body, "Owned by") && !strings.Contains(a.body, string(o.account))
}

func TestNoRouteReturnsSecrets(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newFixture("mine")
	for _, row := range env.Server.Table() {
		if row.Method == http.MethodDelete || row.Stream || strings.HasSuffix(row.Path, "/stop") {
			continue // the log stream is masked by the same code as the log
		}
		a := mine.do(row.Method, mine.path(row), mine.body(row))
		if a.status >= 500 {
			t.Errorf("%s: %d %s", a.request, a.status, a.body)
		}
		checkRateLimitHeaders(t, a)
		for _, secret := range fixtureSecrets() {
			if strings.Contains(a.body, secret) {
				t.Errorf("%s shows %q: %s", a.request, secret, a.body)
			}
		}
	}
	for _, secret := range fixtureSecrets() {
		if strings.Contains(env.Log.String(), secret) {
			t.Errorf("the server's log shows %q", secret)
		}
	}
}

// checkRateLimitHeaders fails the test if a response lacks the rate limit headers.
func checkRateLimitHeaders(t *testing.T, a *response) {
	t.Helper()
	for _, name := range []string{"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"} {
		if a.header.Get(name) == "" {
			t.Errorf("%s: %d without %s", a.request, a.status, name)
		}
	}
}
