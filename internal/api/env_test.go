package api_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/accountstate"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agentarchive"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/api"
	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/chat"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/egress"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/idempotency"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/knowledge"
	"agento.host/agento/internal/knowledge/embed"
	"agento.host/agento/internal/logtest"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/reconciler"
	"agento.host/agento/internal/runtime/fake"
	"agento.host/agento/internal/skill"
	"agento.host/agento/internal/swarm"
	"agento.host/agento/internal/usage"
	"agento.host/agento/internal/vault"
	"agento.host/agento/internal/widget"
	"agento.host/agento/internal/workspace"
)

// This file is the test environment of the package: the server with real services
// (testEnv), a client of its API (caller, response) and scripted gateways.

// waitTimeout is how long a test waits for a condition.
const waitTimeout = 30 * time.Second

// testEnv is a whole agento server in this process: every service is real, on a
// real database with a real vault, behind a real HTTP server. Only the gateways are
// scripted, since a real one takes half a minute to boot.
type testEnv struct {
	meter    *usage.Meter
	t        testing.TB
	url      string
	db       *database.DB
	widgets  *widget.Service
	access   *access.Service
	agents   *agent.Service
	swarms   *swarm.Service
	driver   *fake.Driver
	gateways *gateways
	network  *egress.Manager
	server   *api.Server
	log      *logtest.Buffer
	loops    []func(context.Context) error
	close    func() // also called at the end of the test
}

// options of a test environment. The zero value is what most tests need.
type options struct {
	plans       *access.Plans // nil: one plan without limits
	heartbeat   time.Duration
	db          *database.DB   // nil: an empty one
	vault       *vault.Vault   // nil: one with a new master key
	roomTimeout time.Duration  // how long requests wait for room; 0: a minute
	memory      int64          // that gateways may use together; 0: any
	waiting     *budget.Budget // of messages that wait for gateways; nil: no limit
	proxies     []netip.Prefix
	publicURL   string
	budgets     *budget.Server         // nil: no limits
	log         *logtest.Buffer        // nil: a new one
	monitor     bool                   // run the monitor of the database, which reserves room on its disk
	network     func(*egress.Settings) // changes the settings of agents' networks; nil: they are not changed
}

// newEnv returns an environment that is closed at the end of the test.
func newEnv(t testing.TB, o options) *testEnv {
	t.Helper()
	env := &testEnv{t: t, db: o.db, gateways: newGateways(), log: cmp.Or(o.log, &logtest.Buffer{})}
	if env.db == nil {
		env.db = databasetest.New(t)
	}
	env.driver = fake.New(fake.Settings{Dir: t.TempDir(), Handler: env.gateways.handler})
	env.build(o)
	stop := env.runLoops()
	server := httptest.NewUnstartedServer(env.checkStatuses())
	if o.budgets != nil {
		server.Listener = o.budgets.API.Listener(server.Listener)
		server.Config.ConnContext = budget.ConnContext
	}
	server.Start()
	env.url = server.URL
	env.close = sync.OnceFunc(func() { // in the order of a real shutdown
		env.server.Drain()
		server.Close()
		stop()
	})
	t.Cleanup(env.close)
	return env
}

// build constructs the services in the order of agento serve.
func (env *testEnv) build(o options) {
	log := slog.New(slog.NewTextHandler(env.log, nil))
	events := event.NewLog(env.db)
	if o.vault == nil {
		o.vault = newVault(env.t)
	}
	secrets := o.vault
	env.access = access.New(access.Settings{DB: env.db, Events: events, Plans: o.plans, Log: log})
	swarms, skills := swarm.NewStore(env.db), skill.NewStore(skill.StoreSettings{DB: env.db, Dir: openclaw.SkillsDir, Log: log})
	embedder, err := embed.Builtin()
	if err != nil {
		env.t.Fatal(err)
	}
	base := knowledge.New(knowledge.Settings{
		DB: env.db, Events: events, Scopes: knowledge.NewScopes(env.db, agent.NewStore(env.db, events), swarms), Embedder: embedder, Quota: env.access, Log: log,
	})
	documents := workspace.NewStore(env.db, events, secrets)
	documents.LimitStorage(env.access)
	prices, err := usage.LoadPrices("")
	if err != nil {
		env.t.Fatal(err)
	}
	env.meter = usage.NewMeter(env.db, prices, log)
	runtime, err := agenttest.NewServer(agenttest.Settings{
		Documents: documents,
		DB:        env.db, Driver: env.driver, Log: log, Events: events, Vault: secrets, Access: env.access, SwarmRows: swarms, Knowledge: base,
		Tools: true, MaxBoots: 64, Memory: o.memory, RoomTimeout: o.roomTimeout, Contributors: []gateway.HomeContributor{skills},
		Timing: reconciler.Timing{ReadyTimeout: waitTimeout, StopGrace: time.Second, Backoff: time.Millisecond, HealthInterval: 50 * time.Millisecond},
		Erasers: []reconciler.Eraser{chat.DeleteAgent, env.meter.DeleteAgent, skills.DeleteAgent, base.AgentDeleted, func(ctx context.Context, tx *database.Tx, actor identity.Actor, id identity.AgentID) error {
			return env.network.DeleteAgent(ctx, tx, actor, id)
		}, func(ctx context.Context, tx *database.Tx, actor identity.Actor, id identity.AgentID) error {
			return env.widgets.DeleteAgent(ctx, tx, actor, id)
		}},
		Emptiers: []reconciler.Emptier{chat.EmptyAgent(env.db), base.EmptyAgent, env.meter.EmptyAgent},
	})
	if err != nil {
		env.t.Fatal(err)
	}
	env.agents, env.swarms = runtime.Agents, runtime.Swarms
	states := accountstate.New(accountstate.Settings{DB: env.db, Events: events, Accounts: env.access, Agents: runtime.Agents, Log: log})
	if err := states.Recover(env.t.Context()); err != nil {
		env.t.Fatal(err)
	}
	env.loops = append(env.loops, states.Run)
	conversations := chat.New(chat.Settings{DB: env.db, Events: events, Agents: runtime.Agents, Gateways: runtime.Gateways, Vault: secrets, Keys: env.access, Quota: env.access, Waiting: o.waiting, Log: log})
	env.widgets = widget.New(widget.Settings{DB: env.db, Events: events, Vault: secrets, Agents: agent.NewStore(env.db, events), Accounts: env.access, Turns: conversations, Log: log})
	env.loops = append(env.loops, env.widgets.Run)
	requests := idempotency.New(idempotency.Settings{DB: env.db, Events: events, Vault: secrets, Log: log})
	if err := requests.Recover(env.t.Context()); err != nil {
		env.t.Fatal(err)
	}
	env.loops = append(env.loops, env.access.Run, base.Run, conversations.Run, requests.Run, env.db.Run)
	env.loops = append(env.loops, runtime.Loops()...)
	if o.monitor {
		env.loops = append(env.loops, func(ctx context.Context) error { return env.db.Monitor(ctx, log) })
	}
	network := egress.Settings{DB: env.db, Events: events, Log: log, Policy: runtime.Agents.EgressPolicy}
	if o.network != nil {
		o.network(&network)
	}
	env.network = egress.NewManager(network)
	env.loops = append(env.loops, env.network.Run)
	skillService := env.newSkills(events, skills, runtime.Agents, log)
	archives := agentarchive.New(agentarchive.Settings{
		DB: env.db, Events: events, Agents: runtime.Agents, Documents: documents, Workspace: runtime.Workspace, Skills: skillService, Knowledge: base, Chat: conversations, Version: "test", Log: log,
	})
	env.server = api.New(api.Settings{
		DB: env.db, Events: events, Access: env.access, Limiter: access.NewLimiter(), Agents: runtime.Agents, Archives: archives, Logs: runtime.Logs, Status: runtime.Status,
		Chat: conversations, Workspace: runtime.Workspace, Swarms: runtime.Swarms, Knowledge: base, Skills: skillService, Network: env.network, Idempotency: requests, Widgets: env.widgets,
		Usage:   usage.New(usage.Settings{DB: env.db, Agents: env.agentNames}),
		Budgets: o.budgets, TrustedProxies: o.proxies, PublicURL: o.publicURL,
		Ready: env.db.Health, Degraded: env.degraded, Version: "test", Heartbeat: o.heartbeat, Log: log,
	})
}

func (env *testEnv) agentNames(ctx context.Context, account identity.AccountID) (map[string]string, error) {
	page, err := env.agents.List(ctx, account, agent.Filter{})
	names := map[string]string{}
	for _, a := range page.Agents {
		names[string(a.ID)] = a.Name
	}
	return names, err
}

// newSkills returns a marketplace with the verified skills of the binary and no
// access to the internet.
func (env *testEnv) newSkills(events *event.Log, store *skill.Store, agents *agent.Service, log *slog.Logger) *skill.Service {
	catalog, err := skill.NewCatalog(env.t.Context(), skill.CatalogSettings{Log: log})
	if err != nil {
		env.t.Fatal(err)
	}
	env.loops = append(env.loops, catalog.Run)
	return skill.New(skill.Settings{Store: store, Events: events, Catalog: catalog, Access: env.access, Agents: agents, MinScore: skill.DefaultMinScore, Log: log})
}

// runLoops runs the loops until stop is called, which ends the gateways too.
func (env *testEnv) runLoops() (stop func()) {
	t := env.t
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, loop := range env.loops {
		all.Go(func() {
			if err := loop(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("a loop ended: %v", err)
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
		env.driver.Close()
		for _, v := range env.driver.Violations() {
			t.Errorf("the driver was used against its contract: %s", v)
		}
	}
}

// checkStatuses returns the server as a handler that fails the test if a route
// answers with an error status that the OpenAPI document does not state.
func (env *testEnv) checkStatuses() http.Handler {
	if _, ok := env.t.(*testing.T); !ok {
		return env.server // benchmarks measure the server alone
	}
	stated, routes := map[string]map[string]any{}, http.NewServeMux()
	out := httptest.NewRecorder()
	env.server.ServeHTTP(out, httptest.NewRequestWithContext(env.t.Context(), http.MethodGet, "/openapi.json", nil))
	var doc struct {
		Paths map[string]map[string]struct{ Responses map[string]any }
	}
	if err := json.Unmarshal(out.Body.Bytes(), &doc); err != nil {
		env.t.Fatalf("read /openapi.json: %v", err)
	}
	for _, row := range env.server.Table() {
		pattern := row.Method + " " + row.Path
		stated[pattern] = doc.Paths[row.Path][strings.ToLower(row.Method)].Responses
		routes.Handle(pattern, http.NotFoundHandler())
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &statusRecorder{ResponseWriter: w}
		env.server.ServeHTTP(rec, r)
		_, pattern := routes.Handler(r)
		if responses, ok := stated[pattern]; ok && rec.status >= 400 && responses[strconv.Itoa(rec.status)] == nil {
			env.t.Errorf("%s answered %d, which its row in the table does not state", pattern, rec.status)
		}
	})
}

type statusRecorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func newVault(t testing.TB) *vault.Vault {
	t.Helper()
	master := make([]byte, 32)
	_, _ = rand.Read(master)
	v, err := vault.New(master)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// waitUntil waits until a condition holds.
func waitUntil(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(waitTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}

// waitClosed waits until a channel is closed.
func waitClosed(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(waitTimeout):
		t.Fatalf("timed out waiting for %s", what)
	}
}

// caller is a client of the API with an API key.
type caller struct {
	env     *testEnv
	account identity.AccountID
	keyID   identity.KeyID
	key     string
}

// newAccount creates an account and returns a caller whose key has every scope but
// chat:owner, and a rate limit that tests do not reach. An empty planID means the first plan.
func (env *testEnv) newAccount(name, planID string) *caller {
	env.t.Helper()
	a, err := env.access.CreateAccount(env.t.Context(), identity.ByOperator(""), name, planID)
	if err != nil {
		env.t.Fatal(err)
	}
	scopes, err := access.ParseScopes([]string{"all", string(access.AccountAdmin)})
	if err != nil {
		env.t.Fatal(err)
	}
	return env.newKey(a.ID, scopes, access.MaxRateLimit)
}

// newKey returns a caller with a new key.
func (env *testEnv) newKey(account identity.AccountID, scopes access.Scopes, rateLimit int) *caller {
	env.t.Helper()
	k, secret, err := env.access.CreateKey(env.t.Context(), identity.ByOperator(account), access.NewKey{Label: "test", Scopes: scopes, RateLimit: rateLimit})
	if err != nil {
		env.t.Fatal(err)
	}
	return &caller{env: env, account: account, keyID: k.ID, key: secret.Reveal()}
}

// client returns the Go client of this caller.
func (c *caller) client() *client.Client {
	return &client.Client{URL: c.env.url, APIKey: c.key, Retries: -1}
}

// do sends a request. body is JSON text, a value to encode as JSON, or nil.
func (c *caller) do(method, path string, body any, headers ...string) *response {
	c.env.t.Helper()
	res, err := http.DefaultClient.Do(c.request(context.Background(), method, path, body, headers...))
	if err != nil {
		c.env.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		c.env.t.Fatalf("%s %s: %v", method, path, err)
	}
	return &response{t: c.env.t, request: method + " " + path, status: res.StatusCode, header: res.Header, body: string(text)}
}

func (c *caller) request(ctx context.Context, method, path string, body any, headers ...string) *http.Request {
	c.env.t.Helper()
	text, isText := body.(string)
	if body != nil && !isText {
		encoded, err := json.Marshal(body)
		if err != nil {
			c.env.t.Fatal(err)
		}
		text = string(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.env.url+path, strings.NewReader(text))
	if err != nil {
		c.env.t.Fatal(err)
	}
	if c.key != "" {
		req.Header.Set("X-Api-Key", c.key)
	}
	if strings.HasPrefix(text, "\x1f\x8b") {
		req.Header.Set("Content-Type", agentarchive.ContentType)
	} else if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return req
}

// newAgent creates an agent, waits until it runs and returns its id.
func (c *caller) newAgent(name string) string {
	c.env.t.Helper()
	in := map[string]any{"name": name, "secrets": map[string]string{"anthropicApiKey": "sk-ant-test"}}
	return c.do("POST", "/v1/agents", in).expect(201).field("data.id")
}

// response is the response to a request.
type response struct {
	t       testing.TB
	request string // method and path
	status  int
	header  http.Header
	body    string
}

// expect fails the test unless the response has that status.
func (r *response) expect(status int) *response {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("%s: status %d, want %d: %s", r.request, r.status, status, r.body)
	}
	return r
}

// expectError fails the test unless the response is the contract's error body with
// that status and code.
func (r *response) expectError(status int, code string) *response {
	r.t.Helper()
	r.expect(status)
	if got := r.field("error.code"); got != code {
		r.t.Fatalf("%s: code %q, want %q: %s", r.request, got, code, r.body)
	}
	if r.field("error.message") == "" || r.field("error.requestId") != r.header.Get("X-Request-Id") {
		r.t.Fatalf("%s: the error body lacks a message or its request id: %s", r.request, r.body)
	}
	return r
}

// json returns the decoded body.
func (r *response) json() any {
	r.t.Helper()
	var v any
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		r.t.Fatalf("%s: the body of status %d is not JSON: %s", r.request, r.status, r.body)
	}
	return v
}

// field returns the value at a path such as data.0.id: a string as it is, anything
// else as JSON. It returns "" if there is none.
func (r *response) field(path string) string {
	r.t.Helper()
	v, ok := at(r.json(), path)
	if !ok {
		return ""
	}
	if s, ok := v.(string); ok {
		return s
	}
	encoded, err := json.Marshal(v)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(encoded)
}

// at follows a path of field names and list indexes; "*" is the length of a list. A
// field whose name has dots matches the rest of the path.
func at(v any, path string) (any, bool) {
	if path == "" {
		return v, true
	}
	step, rest, _ := strings.Cut(path, ".")
	switch node := v.(type) {
	case map[string]any:
		if value, ok := node[path]; ok {
			return value, true
		}
		next, ok := node[step]
		if !ok {
			return nil, false
		}
		return at(next, rest)
	case []any:
		if step == "*" {
			return float64(len(node)), true
		}
		i, err := strconv.Atoi(step)
		if err != nil || i < 0 || i >= len(node) {
			return nil, false
		}
		return at(node[i], rest)
	}
	return nil, false
}

// gateways are the scripted gateways of an environment. They answer the requests
// that agento sends to OpenClaw and record the turns.
type gateways struct {
	mu     sync.Mutex
	turns  []*turn     // in order of arrival; guarded by mu
	script agentScript // guarded by mu

	booting atomic.Bool // they are not ready yet
}

// turn is one message as the gateway received it, with the agent's files at that time.
type turn struct {
	Agent    string // id
	Entry    string // model: openclaw/main or openclaw/guest
	Session  string
	Context  string // the system message
	Message  string
	Images   int    // how many the message has
	Soul     string // SOUL.md in the agent's home
	Injected string // the rest of every prompt: workflow and rules
	ended    chan struct{}
}

// agentScript answers a turn.
type agentScript func(ctx context.Context, t *turn, send sendFunc)

// sendFunc sends a piece of an answer. It fails if the client has disconnected.
type sendFunc func(piece string) error

func newGateways() *gateways { return &gateways{script: echo} }

// echo is the default script.
func echo(_ context.Context, t *turn, send sendFunc) {
	for _, piece := range []string{"You said: ", t.Message} {
		if send(piece) != nil {
			return
		}
	}
}

// setScript sets what answers the following turns.
func (g *gateways) setScript(script agentScript) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.script = script
}

// allTurns returns the turns so far.
func (g *gateways) allTurns() []*turn {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]*turn(nil), g.turns...)
}

// resetTurns drops the recorded turns.
func (g *gateways) resetTurns() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.turns = nil
}

// lastTurn returns the latest turn.
func (g *gateways) lastTurn(t testing.TB) *turn {
	t.Helper()
	all := g.allTurns()
	if len(all) == 0 {
		t.Fatal("no gateway received a turn")
	}
	return all[len(all)-1]
}

func (g *gateways) handler(gw *fake.Gateway) http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"/healthz", "/startupz", "/readyz"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			if g.booting.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			_, _ = fmt.Fprint(w, `{"ok":true,"failing":[]}`)
		})
	}
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) { g.complete(gw, w, r) })
	return requireToken(gw, mux)
}

// requireToken refuses requests without the gateway's token, as OpenClaw does. It is that
// of the start: nothing makes this gateway read its secrets again.
func requireToken(gw *fake.Gateway, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var known struct{ GatewayToken string }
		if json.Unmarshal(gw.Spec.Secrets, &known) != nil || r.Header.Get("Authorization") != "Bearer "+known.GatewayToken {
			http.Error(w, `{"error":{"message":"unauthorized"}}`, http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// complete is OpenClaw's chat completions endpoint: it streams the answer in pieces
// and sends a failure as an event of the stream.
func (g *gateways) complete(gw *fake.Gateway, w http.ResponseWriter, r *http.Request) {
	t := &turn{Agent: string(gw.ID), Session: r.Header.Get("X-Openclaw-Session-Key"), ended: make(chan struct{})}
	defer close(t.ended)
	t.read(gw, r)
	g.mu.Lock()
	g.turns = append(g.turns, t)
	script := g.script
	g.mu.Unlock()
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(event any) error {
		text, err := json.Marshal(event)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "data: %s\n\n", text); err != nil {
			return err
		}
		return out.Flush()
	}
	script(r.Context(), t, func(piece string) error {
		if failure, failed := strings.CutPrefix(piece, failurePrefix); failed {
			return send(map[string]any{"error": map[string]string{"message": failure, "type": "api_error"}})
		}
		return send(map[string]any{"choices": []any{map[string]any{"delta": map[string]string{"content": piece}}}})
	})
	_, _ = fmt.Fprint(w, "data: [DONE]\n\n")
}

// failurePrefix begins a piece that is an error instead of text.
const failurePrefix = "\x00fails: "

func (t *turn) read(gw *fake.Gateway, r *http.Request) {
	var request struct {
		Model    string
		Messages []struct {
			Role    string
			Content any
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		panic(err) // the test fails: the client sees a broken connection
	}
	t.Entry = request.Model
	for _, m := range request.Messages {
		text, isText := m.Content.(string)
		switch {
		case !isText: // parts: a text and images
			parts, _ := m.Content.([]any)
			t.Message, _ = parts[0].(map[string]any)["text"].(string)
			t.Images = len(parts) - 1
		case m.Role == "system":
			t.Context = text
		default:
			t.Message = text
		}
	}
	t.Soul = readHome(gw, "workspace/SOUL.md")
	t.Injected = readHome(gw, "workspace/injected/AGENTS.md")
}

func readHome(gw *fake.Gateway, path string) string {
	text, err := os.ReadFile(filepath.Join(gw.HomeDir(), path))
	if err != nil {
		return ""
	}
	return string(text)
}

// editHome changes a file in an agent's home, as the agent itself does.
func (env *testEnv) editHome(agentID, path, content string) {
	env.t.Helper()
	gw := env.driver.Gateway(identity.AgentID(agentID))
	if gw == nil {
		env.t.Fatalf("the agent %s has no gateway", agentID)
	}
	// The reconciler may read the home at any time; it must not find a file half written.
	whole := filepath.Join(gw.HomeDir(), "edited")
	if err := errors.Join(os.WriteFile(whole, []byte(content), 0o600), os.Rename(whole, filepath.Join(gw.HomeDir(), path))); err != nil {
		env.t.Fatal(err)
	}
}

// answerOnce answers every turn with one piece.
func answerOnce(piece string) agentScript {
	return func(_ context.Context, _ *turn, send sendFunc) { _ = send(piece) }
}

// degraded is the Degraded of the server's Settings.
func (env *testEnv) degraded() []api.Degradation {
	if space := env.db.Space(); space != "" {
		return []api.Degradation{{Name: "disk", Message: space}}
	}
	return nil
}
