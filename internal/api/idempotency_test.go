package api_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
)

const createBody = `{"name":"A","secrets":{"anthropicApiKey":"sk-ant-test"}}`

// post sends a POST request with an Idempotency-Key.
func (c *caller) post(path, key string, body any) *response {
	c.env.T.Helper()
	return c.do("POST", path, body, "Idempotency-Key", key)
}

// expectReplayed fails the test unless the response is replayed, or not.
func (r *response) expectReplayed(want bool) *response {
	r.t.Helper()
	if got := r.header.Get("Idempotency-Replayed"); (got == "true") != want {
		r.t.Fatalf("%s: replayed %q, want %v: %d %s", r.request, got, want, r.status, r.body)
	}
	return r
}

// forgetResponses makes the state that a crash leaves between the commit of a request
// and its response, as the next server finds it.
func (env *testEnv) forgetResponses() {
	env.T.Helper()
	err := env.DB.Tx(env.T.Context(), "test", func(_ context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(env.T.Context(), `UPDATE idempotent_requests SET status = 0, header = '{}', body = NULL`)
		return err
	})
	if err != nil {
		env.T.Fatal(err)
	}
}

func TestFiftyEqualRequestsAreExecutedOnce(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	for path, body := range map[string]string{
		"/v1/agents": createBody,
		"/v1/swarms": `{"name":"Growth"}`,
		"/v1/skills": `{"id":"own","name":"Own","version":"1.0.0","skillMd":"---\nname: own\ndescription: My own skill.\n---\nDo it."}`,
	} {
		answers := make([]*response, 50)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() { answers[i] = who.post(path, "once", body) })
		}
		all.Wait()
		executed := 0
		for _, a := range answers {
			a.expect(http.StatusCreated)
			if a.header.Get("Idempotency-Replayed") == "" {
				executed++
			}
			if a.body != answers[0].body || a.header.Get("Content-Type") != answers[0].header.Get("Content-Type") {
				t.Errorf("%s: %s and %s", path, a.body, answers[0].body)
			}
			checkRateLimitHeaders(t, a)
		}
		if executed != 1 {
			t.Errorf("%s: executed %d times", path, executed)
		}
	}
	for path, list := range map[string]string{"/v1/agents": "data.*", "/v1/swarms": "data.*", "/v1/skills": "data.*"} {
		if path == "/v1/skills" {
			path += "?trustLevel=custom"
		}
		if n := who.do("GET", path, nil).expect(200).field(list); n != "1" {
			t.Errorf("%s: there are %s", path, n)
		}
	}
}

func TestIdempotencyKeyBelongsToOneRequest(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	first := who.post("/v1/swarms", "k", `{"name":"A"}`).expect(201).expectReplayed(false)
	again := who.post("/v1/swarms", "k", `{"name":"A"}`).expect(201).expectReplayed(true)
	if first.body != again.body || first.header.Get("X-Request-Id") == again.header.Get("X-Request-Id") {
		t.Errorf("%s %s", first.body, again.body)
	}
	who.post("/v1/swarms", "k", `{"name":"B"}`).expectError(409, "idempotency_conflict")
	who.post("/v1/swarms?x=1", "k", `{"name":"A"}`).expectError(409, "idempotency_conflict")
	colleague := env.newKey(who.account, access.AllScopes(), access.MaxRateLimit)
	if a := colleague.post("/v1/swarms", "k", `{"name":"A"}`).expect(201).expectReplayed(false); a.field("data.id") == first.field("data.id") {
		t.Error("another API key got the response")
	}
	env.newAccount("other", "").post("/v1/swarms", "k", `{"name":"B"}`).expect(201).expectReplayed(false)
	who.post("/v1/agents", "k", createBody).expect(201).expectReplayed(false)
	for _, key := range []string{" ", strings.Repeat("x", 256), "ü"} {
		if a := who.post("/v1/swarms", key, `{"name":"A"}`).expectError(400, "invalid_request"); a.field("error.details.Idempotency-Key") == "" {
			t.Errorf("the header is not named: %s", a.body)
		}
	}
	req := who.request(t.Context(), "POST", "/v1/swarms", `{"name":"A"}`)
	req.Header["Idempotency-Key"] = []string{"a", "b"}
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != 400 {
		t.Fatalf("two keys: %v %v", res, err)
	}
	_ = res.Body.Close()
}

// TestReplayIsAuthorized: a replay needs what the request needed.
func TestReplayIsAuthorized(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	who.post("/v1/swarms", "k", `{"name":"A"}`).expect(201)
	(&caller{env: env}).post("/v1/swarms", "k", `{"name":"A"}`).expectError(401, "unauthorized")
	err := env.DB.Tx(t.Context(), "test", func(_ context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(t.Context(), `UPDATE keys SET scopes = 'agents:read' WHERE id = $1`, who.keyID)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	apitest.WaitUntil(t, "the key has lost its scope", func() bool {
		return who.post("/v1/swarms", "k", `{"name":"A"}`).status == http.StatusForbidden
	})
}

func TestRefusedRequestsKeepNoResponse(t *testing.T) {
	env := newEnv(t, options{})
	rich := env.newAccount("acme", "")
	who := env.newKey(rich.account, access.AllScopes(), 10)
	who.post("/v1/agents", "k", `{"name":""}`).expectError(400, "invalid_request")
	who.post("/v1/agents", "k", `{"name":`).expectError(400, "invalid_request")
	who.post("/v1/agents", "k", `{"name":"`+strings.Repeat("x", 2<<20)+`"}`).expectError(413, "payload_too_large")
	who.do("POST", "/v1/agents", createBody, "Idempotency-Key", "k", "Content-Type", "text/plain").expectError(415, "unsupported_media_type")
	who.post("/v1/agents/none/start", "k", nil).expectError(404, "not_found")
	rich.post("/v1/agents/none/start", "k", strings.Repeat("x", 2<<20)).expectError(400, "invalid_request")
	created := who.post("/v1/agents", "k", createBody).expect(201).expectReplayed(false) // the key is still free
	for range 4 {
		who.do("GET", "/v1/agents", nil).expect(200)
	}
	if a := who.post("/v1/agents", "k", createBody).expectError(429, "rate_limited"); a.header.Get("Idempotency-Replayed") != "" {
		t.Error("a rate-limited request is answered with a replay")
	}
	if n := rich.do("GET", "/v1/agents", nil).field("data.*"); n != "1" || created.field("data.id") == "" {
		t.Errorf("there are %s agents", n)
	}
}

func TestConflictIsReplayed(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	id := who.newAgent("A")
	install := func(key string) *response {
		return who.post("/v1/agents/"+id+"/skills", key, `{"skillId":"csv-analysis","trustLevel":"verified"}`)
	}
	install("first").expect(201)
	first := install("second").expectError(409, "conflict").expectReplayed(false)
	who.do("DELETE", "/v1/agents/"+id+"/skills/csv-analysis", nil).expect(200)
	if again := install("second").expect(409).expectReplayed(true); again.body != first.body {
		t.Errorf("%s\n%s", first.body, again.body) // with the id of the request that the log has
	}
}

// TestWorkGoesOnWithoutItsClient: the client disconnects while the agent boots; the same
// request again waits for it.
func TestWorkGoesOnWithoutItsClient(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	env.Gateways.Booting.Store(true)
	ctx, disconnect := context.WithCancel(t.Context())
	var gone sync.WaitGroup
	gone.Go(func() {
		req := who.request(ctx, "POST", "/v1/agents", createBody, "Idempotency-Key", "k")
		if res, err := http.DefaultClient.Do(req); err == nil {
			_ = res.Body.Close()
			t.Errorf("the request was not interrupted: %d", res.StatusCode)
		}
	})
	apitest.WaitUntil(t, "the agent exists", func() bool { return who.do("GET", "/v1/agents", nil).field("data.*") == "1" })
	disconnect()
	gone.Wait()
	var waiting sync.WaitGroup
	for range 3 {
		waiting.Go(func() { who.post("/v1/agents", "k", createBody).expect(201).expectReplayed(true) })
	}
	who.post("/v1/agents", "k", `{"name":"B"}`).expectError(409, "idempotency_conflict")
	env.Gateways.Booting.Store(false)
	waiting.Wait()
	if n := who.do("GET", "/v1/agents", nil).field("data.*"); n != "1" {
		t.Errorf("there are %s agents", n)
	}
}

// TestRestartBetweenEqualRequests: the server is stopped while the agent boots. The
// request is answered with 503, and the same request to the next server finds the agent.
func TestRestartBetweenEqualRequests(t *testing.T) {
	o := options{DB: databasetest.New(t), Vault: apitest.NewVault(t)}
	env := newEnv(t, o)
	who := env.newAccount("acme", "")
	kept := who.post("/v1/swarms", "k", `{"name":"A"}`).expect(201)
	env.Gateways.Booting.Store(true)
	var first *response
	var ended sync.WaitGroup
	ended.Go(func() { first = who.post("/v1/agents", "k", createBody) })
	apitest.WaitUntil(t, "the agent exists", func() bool { return who.do("GET", "/v1/agents", nil).field("data.*") == "1" })
	env.Close()
	ended.Wait()
	first.expectError(503, "unavailable")
	next := newEnv(t, o)
	who.env = next
	created := who.post("/v1/agents", "k", createBody).expect(201).expectReplayed(false)
	who.post("/v1/agents", "k", createBody).expect(201).expectReplayed(true)
	if a := who.do("GET", "/v1/agents", nil).expect(200); a.field("data.*") != "1" || a.field("data.0.id") != created.field("data.id") {
		t.Errorf("the agents are %s, created was %s", a.body, created.body)
	}
	if a := who.post("/v1/swarms", "k", `{"name":"A"}`).expect(201).expectReplayed(true); a.body != kept.body {
		t.Errorf("%s, before the restart %s", a.body, kept.body)
	}
}

// TestCrashBetweenCommitAndResponse: every POST that is executed again finds what it has
// done. An ingest finds its texts, which it skips.
func TestCrashBetweenCommitAndResponse(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newFixture("mine")
	mine.do("PUT", "/v1/agents/"+mine.agent+"/personality", `{"soulMd":"First."}`).expect(200)
	mine.do("PUT", "/v1/agents/"+mine.agent+"/workflow", `{"workflowMd":"First."}`).expect(200)
	latest := func() string { return mine.do("GET", "/v1/audit?limit=1", nil).expect(200).field("data.0.id") }
	for _, row := range env.Server.Table() {
		if row.Method != http.MethodPost {
			continue
		}
		path, key := mine.path(row), row.Path
		if strings.HasSuffix(path, "/approve") || strings.HasSuffix(path, "/reject") {
			path = mine.propose(row)
		}
		first := mine.post(path, key, mine.body(row))
		if first.status/100 != 2 {
			t.Fatalf("%s: %d %s", first.request, first.status, first.body)
		}
		events := latest()
		env.forgetResponses()
		again := mine.post(path, key, mine.body(row)).expect(first.status).expectReplayed(false)
		if row.Stream && (again.body != first.body || again.header.Get("X-Turn-Id") != first.header.Get("X-Turn-Id")) {
			t.Errorf("%s: %v %s, at first %v %s", again.request, again.header, again.body, first.header, first.body)
		}
		for _, field := range []string{"data.id", "data.startedAt", "data.version"} {
			if !row.Stream && again.field(field) != first.field(field) {
				t.Errorf("%s: %s, at first %s", again.request, again.body, first.body)
			}
		}
		if ingest := strings.HasPrefix(row.Path, "/v1/knowledge/"); ingest && (first.field("data.stored") != "1" || again.field("data.skipped") != "1") {
			t.Errorf("%s: %s, at first %s", again.request, again.body, first.body)
		} else if now := latest(); !ingest && now != events {
			t.Errorf("%s was done twice: event %s follows %s", again.request, now, events)
		}
		mine.post(path, key, mine.body(row)).expect(first.status).expectReplayed(true)
	}
}

// TestFiftyEqualMessagesAreOneTurn: all get every event of the one turn, while it runs,
// after its end, and after a restart.
func TestFiftyEqualMessagesAreOneTurn(t *testing.T) {
	o := options{DB: databasetest.New(t), Vault: apitest.NewVault(t)}
	env := newEnv(t, o)
	who := env.newAccount("acme", "")
	id := who.newAgent("A")
	path := "/v1/agents/" + id + "/chat/messages"
	script, resume := pausedAnswer("I am ", "thinking.")
	env.Gateways.SetScript(script)
	answers := make([]*response, 50)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() { answers[i] = who.post(path, "once", `{"message":"Hello"}`) })
	}
	apitest.WaitUntil(t, "the turn runs", func() bool { return len(env.Gateways.Turns()) > 0 })
	resume()
	all.Wait()
	const events = "id: 1\ndata: {\"type\":\"text\",\"content\":\"I am \"}\n\n" +
		"id: 2\ndata: {\"type\":\"text\",\"content\":\"thinking.\"}\n\nid: 3\ndata: {\"type\":\"done\",\"stopReason\":\"end\"}\n\n"
	executed := 0
	check := func(a *response) {
		t.Helper()
		a.expect(http.StatusOK)
		if sessionOfDone.ReplaceAllString(a.body, "") != events || a.header.Get("X-Turn-Id") != answers[0].header.Get("X-Turn-Id") || a.header.Get("Content-Type") != "text/event-stream; charset=utf-8" {
			t.Errorf("%v %q", a.header, a.body)
		}
		if a.header.Get("Idempotency-Replayed") == "" {
			executed++
		}
	}
	for _, a := range answers {
		check(a)
	}
	check(who.post(path, "once", `{"message":"Hello"}`))
	who.post(path, "once", `{"message":"Goodbye"}`).expectError(409, "idempotency_conflict")
	if n := len(env.Gateways.Turns()); n != 1 || executed != 1 {
		t.Errorf("%d turns, executed %d times", n, executed)
	}
	if n := who.do("GET", path, nil).expect(200).field("data.*"); n != "2" {
		t.Errorf("%s messages", n)
	}
	who.do("POST", "/v1/agents/"+id+"/stop", nil).expect(200)
	check(who.post(path, "once", `{"message":"Hello"}`))
	env.Close()
	who.env = newEnv(t, o)
	check(who.post(path, "once", `{"message":"Hello"}`))
}

// TestRefusedMessageLeavesItsKeyFree: the corrected message is a turn.
func TestRefusedMessageLeavesItsKeyFree(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	path := "/v1/agents/" + who.newAgent("A") + "/chat/messages"
	who.post(path, "k", `{"message":""}`).expectError(400, "invalid_request")
	who.post(path, "k", `{"message":"Hello"}`).expect(200).expectReplayed(false)
}

func TestIdempotencyKeyIsDescribed(t *testing.T) {
	env := newEnv(t, options{})
	doc := (&caller{env: env}).do("GET", "/openapi.json", nil).expect(200).json()
	for _, row := range env.Server.Table() {
		op, _ := operation(doc, row.Path, row.Method)
		parameters, _ := op.(map[string]any)["parameters"].([]any)
		described := false
		for _, p := range parameters {
			name, _ := at(p, "name")
			described = described || name == "Idempotency-Key"
		}
		if want := row.Method == http.MethodPost; described != want {
			t.Errorf("%s %s: the header is described: %v", row.Method, row.Path, described)
		}
		if _, conflict := at(op, "responses.409"); described && !conflict {
			t.Errorf("%s %s: 409 is not described", row.Method, row.Path)
		}
	}
}

func TestClientSendsAnIdempotencyKey(t *testing.T) {
	env := newEnv(t, options{})
	c := env.newAccount("acme", "").client()
	ctx := client.WithIdempotencyKey(t.Context(), "k")
	for range 2 {
		if _, err := c.CreateSwarm(ctx, client.CreateSwarmRequest{Name: "A"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.CreateSwarm(ctx, client.CreateSwarmRequest{Name: "B"}); !client.IsCode(err, "idempotency_conflict") {
		t.Errorf("another request with the key: %v", err)
	}
	if all, err := c.ListSwarms(ctx); err != nil || len(all) != 1 {
		t.Errorf("%d swarms, %v", len(all), err)
	}
}
