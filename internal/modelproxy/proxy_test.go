package modelproxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/devmodel"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/netguard"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/usage"
	"agento.host/agento/internal/vault"
)

const (
	agentToken  = "token-of-the-agent"
	providerKey = "key-at-the-provider"
)

// testResolver is a Resolver that knows one agent.
type testResolver struct {
	base   string
	key    string
	origin provider.Origin // of the key; empty: the base's
	err    error
}

func (t testResolver) Resolve(_ context.Context, token vault.Secret, name provider.Name) (Upstream, error) {
	if t.err != nil {
		return Upstream{}, t.err
	}
	if token.Reveal() != agentToken {
		return Upstream{}, fault.New(fault.Unauthorized, "agento does not know this token.")
	}
	base := map[provider.Name]string{provider.Anthropic: t.base, provider.OpenAI: t.base + "/v1", provider.Google: t.base + "/v1beta"}[name]
	origin := t.origin
	if p, _ := provider.Find(name); origin == "" {
		origin, _ = p.Origin(base) // else the proxy says that it is not a URL
	}
	return Upstream{AccountID: "acct_1", AgentID: "agent-1", BaseURL: base, Key: vault.NewSecret(t.key).For(origin)}, nil
}

// testProxy is a proxy on loopback with its meter, its logs and the exchanges that it
// reported.
type testProxy struct {
	url       string
	db        *database.DB
	usage     func() []usage.Row // by session
	logs      *syncBuffer
	exchanges chan Exchange
}

type syncBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

func newTestProxy(t testing.TB, r Resolver, guard netguard.Guard) *testProxy {
	db := databasetest.New(t)
	prices, err := usage.LoadPrices("")
	if err != nil {
		t.Fatal(err)
	}
	p := &testProxy{db: db, logs: &syncBuffer{}, exchanges: make(chan Exchange, 1000)}
	p.usage = func() []usage.Row {
		rows, err := usage.List(t.Context(), db, "acct_1", usage.Query{From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Hour), By: usage.BySession, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	proxy := New(Settings{
		Resolver: r, Guard: guard, Meter: usage.NewMeter(db, prices, nil), Attribute: attribute, Observe: func(e Exchange) { p.exchanges <- e },
		Log: slog.New(slog.NewTextHandler(p.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	p.url = newListener(t, proxy)
	return p
}

// attribute reads the keys of peers' sessions.
func attribute(key string) (peer string, session identity.SessionID) {
	s, ok := openclaw.ParseSessionKey(key)
	if !ok {
		return "", identity.SessionID(key)
	}
	return s.Peer, identity.SessionID(s.Conversation)
}

// newListener serves p on loopback until the test ends, and returns its URL.
func newListener(t testing.TB, p *Proxy) string {
	server := httptest.NewServer(p)
	t.Cleanup(func() {
		server.Close()
		p.Close()
	})
	return server.URL
}

// waitExchange waits for the end of the next exchange.
func (p *testProxy) waitExchange(t *testing.T) Exchange {
	t.Helper()
	select {
	case e := <-p.exchanges:
		return e
	case <-testTimeout(t).Done():
		t.Fatal("no exchange ended")
		return Exchange{}
	}
}

func testTimeout(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func startModel(t testing.TB, rules ...devmodel.Rule) *devmodel.Server {
	t.Helper()
	s, err := devmodel.Start(devmodel.Settings{Rules: rules})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// call is a gateway's call of one API.
type call struct {
	name     string
	provider provider.Name
	path     string
	body     string
	setKey   func(h http.Header, key string)
}

func xAPIKey(h http.Header, key string) { h.Set("X-Api-Key", key) }
func bearer(h http.Header, key string)  { h.Set("Authorization", "Bearer "+key) }
func goog(h http.Header, key string)    { h.Set("X-Goog-Api-Key", key) }

var calls = []call{
	{"anthropic", provider.Anthropic, "/anthropic/v1/messages", `{"model":"m1","stream":true,"system":"x` + runtimeLineJSON + `","messages":[{"role":"user","content":"echo a b c"}]}`, xAPIKey},
	{"chat", provider.OpenAI, "/openai/v1/chat/completions", `{"model":"m1","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"echo a b c\n` + runtimeLineJSON + `"}]}`, bearer},
	{"responses", provider.OpenAI, "/openai/v1/responses", `{"model":"m1","stream":true,"instructions":"x` + runtimeLineJSON + `","input":"echo a b c"}`, bearer},
	{"gemini", provider.Google, "/google/v1beta/models/m1:streamGenerateContent?alt=sse", `{"systemInstruction":{"parts":[{"text":"x` + runtimeLineJSON + `"}]},"contents":[{"role":"user","parts":[{"text":"echo a b c"}]}]}`, goog},
}

const runtimeLineJSON = `\nRuntime: agent=main | session=agent:main:peer:ana:c1 | sessionId=1 | host=vm`

func (c call) send(ctx context.Context, t testing.TB, base string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+c.path, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	c.setKey(req.Header, agentToken)
	return do(t, req)
}

// answer is a response whose body is closed at the end of the test.
type answer struct {
	StatusCode int
	Header     http.Header
	Body       io.Reader
}

func do(t testing.TB, req *http.Request) answer {
	t.Helper()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return answer{res.StatusCode, res.Header, res.Body}
}

func readAll(t testing.TB, res answer) string {
	t.Helper()
	all, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

func TestCallsPassUnchangedWithTheRealKey(t *testing.T) {
	upstream := startModel(t, func(r devmodel.Request) (devmodel.Reply, bool) {
		return devmodel.Reply{Chunks: []string{"a ", "b"}, Usage: &devmodel.Usage{Input: 11, Output: 5, CacheRead: 3}}, true
	})
	for i, w := range calls {
		t.Run(w.name, func(t *testing.T) {
			p := newTestProxy(t, testResolver{base: upstream.URL(), key: " " + providerKey + "\n"}, netguard.Guard{AllowPrivate: true})
			body := readAll(t, w.send(t.Context(), t, p.url))
			if !strings.Contains(body, `"a "`) {
				t.Fatalf("got %s", body)
			}
			call, err := upstream.Wait(testTimeout(t), i+1)
			if err != nil {
				t.Fatal(err)
			}
			if call.Key.Reveal() != providerKey || string(call.Body) != w.body {
				t.Errorf("key %q, body %s", call.Key.Reveal(), call.Body)
			}
			if all := fmt.Sprint(call.Header); strings.Contains(all, agentToken) || strings.Contains(all, "X-Forwarded") {
				t.Errorf("headers %s", all)
			}
			e := p.waitExchange(t)
			want := usage.Sum{Tokens: usage.Tokens{Input: 11, Output: 5, CacheRead: 3}, Requests: 1, Unpriced: 1}
			if e.Usage != want || e.Model != "m1" || e.SessionKey != "agent:main:peer:ana:c1" || e.Status != 200 || e.AgentID != "agent-1" || e.Provider != w.provider {
				t.Errorf("got %+v", e)
			}
			if got := p.usage(); len(got) != 1 || got[0].Sum != want || got[0].Group != "c1" {
				t.Errorf("rows %+v", got)
			}
		})
	}
}

// TestCheckedCallsReachNoProvider counts the calls of a provider. A call that passes the
// check is unchanged.
func TestCheckedCallsReachNoProvider(t *testing.T) {
	upstream := startModel(t)
	refuse := true
	proxy := New(Settings{
		Resolver: testResolver{base: upstream.URL(), key: providerKey}, Guard: netguard.Guard{AllowPrivate: true},
		Check: func(key string) error {
			if key != "agent:main:peer:ana:c1" {
				t.Errorf("the session key is %q", key)
			}
			if refuse {
				return fault.New(fault.Conflict, "No turn runs.")
			}
			return nil
		},
	})
	url := newListener(t, proxy)
	for _, w := range calls {
		refuse = true
		before := len(upstream.Requests())
		res := w.send(t.Context(), t, url)
		if body := readAll(t, res); res.StatusCode != http.StatusBadRequest || !strings.Contains(body, "No turn runs.") {
			t.Errorf("%s: %d %s", w.name, res.StatusCode, body)
		}
		if n := len(upstream.Requests()); n != before {
			t.Errorf("%s: a refused call reached the provider", w.name)
		}
		refuse = false
		res = w.send(t.Context(), t, url)
		if body := readAll(t, res); res.StatusCode != http.StatusOK || !strings.Contains(body, "a b c") && !strings.Contains(body, "b ") {
			t.Errorf("%s: %d %s", w.name, res.StatusCode, body)
		}
		all := upstream.Requests()
		if len(all) != before+1 || string(all[len(all)-1].Body) != w.body {
			t.Errorf("%s: the provider got %d calls", w.name, len(all)-before)
		}
	}
}

// TestRequestsTakeMemoryOfTheirAgent while they are read, not while they are answered.
func TestRequestsTakeMemoryOfTheirAgent(t *testing.T) {
	upstream := startModel(t)
	memory := budget.New(budget.Settings{Each: 1 << 20, Refusal: "Make fewer at once."})
	proxy := New(Settings{
		Resolver: testResolver{base: upstream.URL(), key: providerKey}, Guard: netguard.Guard{AllowPrivate: true},
		Check: func(string) error { return nil }, Memory: memory,
	})
	url := newListener(t, proxy)
	release, err := memory.Acquire(t.Context(), "agent-1", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range calls {
		res := w.send(t.Context(), t, url)
		body := readAll(t, res)
		if res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") == "" || !strings.Contains(body, "Make fewer at once.") || !json.Valid([]byte(body)) {
			t.Errorf("%s: %d %v %s", w.name, res.StatusCode, res.Header, body)
		}
	}
	release()
	for _, w := range calls {
		res := w.send(t.Context(), t, url)
		if body := readAll(t, res); res.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %s", w.name, res.StatusCode, body)
		}
		if release, err := memory.Acquire(t.Context(), "agent-1", 1<<20); err != nil {
			t.Errorf("%s: its memory was not given back: %v", w.name, err)
		} else {
			release()
		}
	}
}

// TestConnectionsOfAnAgentAreLimited counts them for the agent that the token names.
func TestConnectionsOfAnAgentAreLimited(t *testing.T) {
	upstream := startModel(t)
	limits := budget.NewConnections(budget.ConnectionSettings{Holder: 1})
	proxy := New(Settings{Resolver: testResolver{base: upstream.URL(), key: providerKey}, Guard: netguard.Guard{AllowPrivate: true}})
	server := httptest.NewUnstartedServer(proxy)
	server.Listener = limits.Listener(server.Listener)
	server.Config.ConnContext = budget.ConnContext
	server.Start()
	t.Cleanup(func() { server.Close(); proxy.Close() })
	for i, want := range []int{http.StatusOK, http.StatusTooManyRequests} {
		client := &http.Client{Transport: &http.Transport{}}
		t.Cleanup(client.CloseIdleConnections)
		w := calls[0]
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+w.path, strings.NewReader(w.body))
		if err != nil {
			t.Fatal(err)
		}
		w.setKey(req.Header, agentToken)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != want {
			t.Errorf("connection %d: %d %s, %v", i, res.StatusCode, body, err)
		}
	}
}

func TestTokensAreReadFromEveryPlace(t *testing.T) {
	upstream := startModel(t)
	p := newTestProxy(t, testResolver{base: upstream.URL(), key: providerKey}, netguard.Guard{AllowPrivate: true})
	for name, put := range map[string]func(*http.Request){
		"x-api-key":      func(r *http.Request) { xAPIKey(r.Header, agentToken) },
		"bearer":         func(r *http.Request) { bearer(r.Header, agentToken) },
		"x-goog-api-key": func(r *http.Request) { goog(r.Header, agentToken) },
		"query":          func(r *http.Request) { r.URL.RawQuery = "alt=sse&key=" + agentToken },
		"hop by hop": func(r *http.Request) {
			xAPIKey(r.Header, agentToken)
			r.Header.Set("Connection", "x-api-key, authorization")
			r.Header.Set("Authorization", "Bearer "+agentToken)
		},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/openai/v1/chat/completions", strings.NewReader(`{"messages":[]}`))
			if err != nil {
				t.Fatal(err)
			}
			put(req)
			if res := do(t, req); res.StatusCode != http.StatusOK {
				t.Fatalf("%d %s", res.StatusCode, readAll(t, res))
			}
			calls := upstream.Requests()
			if call := calls[len(calls)-1]; call.Key.Reveal() != providerKey || strings.Contains(fmt.Sprint(call.Header), agentToken) {
				t.Errorf("key %q, headers %v", call.Key.Reveal(), call.Header)
			}
		})
	}
}

// The model sends one word at a time, and the test reads each before it allows the
// next.
func TestStreamsAreNotBuffered(t *testing.T) {
	gate := make(chan struct{})
	upstream := startModel(t, devmodel.Always(devmodel.Reply{Chunks: []string{"one", "two", "three"}, Gate: gate}))
	p := newTestProxy(t, testResolver{base: upstream.URL()}, netguard.Guard{AllowPrivate: true})
	for _, w := range calls {
		t.Run(w.name, func(t *testing.T) {
			go func() { gate <- struct{}{} }() // the header comes with the first event
			res := w.send(testTimeout(t), t, p.url)
			seen := ""
			for i, word := range []string{"one", "two", "three"} {
				if i > 0 {
					gate <- struct{}{}
				}
				for !strings.Contains(seen, `"`+word+`"`) {
					buf := make([]byte, 4096)
					n, err := res.Body.Read(buf)
					if err != nil {
						t.Fatalf("after %q: %v", seen, err)
					}
					seen += string(buf[:n])
				}
			}
			gate <- struct{}{}
			readAll(t, res)
		})
	}
}

func TestADisconnectedGatewayEndsTheProvidersCall(t *testing.T) {
	for _, w := range calls {
		for _, begun := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s begun=%t", w.name, begun), func(t *testing.T) {
				gate := make(chan struct{})
				upstream := startModel(t, devmodel.Always(devmodel.Reply{Chunks: []string{"one", "two"}, Gate: gate}))
				p := newTestProxy(t, testResolver{base: upstream.URL()}, netguard.Guard{AllowPrivate: true})
				ctx, cancel := context.WithCancel(testTimeout(t))
				defer cancel()
				sent := make(chan *http.Response, 1)
				go func() {
					req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+w.path, strings.NewReader(w.body))
					if err != nil {
						return
					}
					w.setKey(req.Header, agentToken)
					if res, err := http.DefaultClient.Do(req); err == nil {
						_, _ = io.Copy(io.Discard, res.Body)
						_ = res.Body.Close()
					}
					close(sent)
				}()
				call, err := upstream.Wait(ctx, 1)
				if err != nil {
					t.Fatal(err)
				}
				if begun {
					gate <- struct{}{}
				}
				cancel()
				if gone, err := call.Cancelled(testTimeout(t)); err != nil || !gone {
					t.Errorf("cancelled %t, %v", gone, err)
				}
				p.waitExchange(t)
				<-sent
			})
		}
	}
}

func TestABrokenProviderConnectionBreaksTheStream(t *testing.T) {
	upstream := startModel(t, devmodel.Always(devmodel.Reply{Chunks: []string{"one", "two"}, Usage: &devmodel.Usage{Input: 7, Output: 9}, Drop: true}))
	p := newTestProxy(t, testResolver{base: upstream.URL()}, netguard.Guard{AllowPrivate: true})
	res := calls[0].send(t.Context(), t, p.url)
	if body, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("the stream ended without an error: %s", body)
	}
	if e := p.waitExchange(t); e.Usage != (usage.Sum{Tokens: usage.Tokens{Input: 7, Output: 2}, Requests: 1, Estimated: 1, Unpriced: 1}) {
		t.Errorf("counted %+v", e.Usage)
	}
}

func TestARefusedKeyIsReported(t *testing.T) {
	for _, w := range calls {
		for _, status := range []int{401, 403} {
			t.Run(fmt.Sprint(w.name, " ", status), func(t *testing.T) {
				upstream := startModel(t, devmodel.Always(devmodel.Fail(status, "Incorrect API key provided: %s", providerKey)))
				p := newTestProxy(t, testResolver{base: upstream.URL(), key: providerKey}, netguard.Guard{AllowPrivate: true})
				res := w.send(t.Context(), t, p.url)
				body := readAll(t, res)
				if res.StatusCode != 400 || !strings.Contains(body, openclaw.CallFailed) {
					t.Errorf("%d %s", res.StatusCode, body)
				}
				format := map[provider.Name]string{provider.Anthropic: `"type":"error"`, provider.OpenAI: `"param":null`, provider.Google: `"status":"INVALID_ARGUMENT"`}[w.provider]
				if !strings.Contains(body, format) {
					t.Errorf("not %s's format: %s", w.provider, body)
				}
				e := p.waitExchange(t)
				if !strings.Contains(e.Failure, "127.0.0.1 refused this agent's key") || !strings.Contains(e.Failure, "Incorrect API key provided: [secret]") || !strings.Contains(e.Failure, "PUT /v1/agents/agent-1/secrets") {
					t.Errorf("the failure is %q", e.Failure)
				}
				if !e.KeyRefused || e.Status != status || e.Usage != (usage.Sum{}) {
					t.Errorf("observed %+v", e)
				}
				if strings.Contains(body, providerKey) || strings.Contains(p.logs.String(), providerKey) {
					t.Errorf("the key is in the answer or the logs: %s %s", body, p.logs)
				}
			})
		}
	}
}

func TestGooglesRefusedKeyIsRecognized(t *testing.T) {
	answer := ""
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, answer)
	}))
	defer upstream.Close()
	p := newTestProxy(t, testResolver{base: upstream.URL}, netguard.Guard{AllowPrivate: true})
	for body, refused := range map[string]bool{
		`{"error":{"code":400,"message":"API key not valid.","details":[{"reason":"API_KEY_INVALID"}]}}`: true,
		`{"error":{"code":400,"message":"Bad contents."}}` + strings.Repeat(" ", 2*maxErrorBody):         false,
	} {
		answer = body
		got := readAll(t, calls[3].send(t.Context(), t, p.url))
		if e := p.waitExchange(t); e.KeyRefused != refused || !strings.Contains(got, openclaw.CallFailed) {
			t.Errorf("refused %t: %.200s", e.KeyRefused, got)
		}
	}
}

func TestResolverFaultsHaveTheProvidersFormat(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		body   string
	}{
		{fault.New(fault.Unauthorized, "Unknown token."), 400, openclaw.CallFailed},
		{fault.New(fault.Invalid, "This agent has no key."), 400, openclaw.CallFailed},
		{fault.New(fault.PlanLimit, "The budget is spent."), 400, openclaw.CallFailed},
		{&fault.Fault{Code: fault.RateLimited, Message: "Slowly.", RetryAfter: 1500 * time.Millisecond}, 429, "Slowly."},
		{fault.New(fault.Unavailable, "Stopping."), 503, "Stopping."},
		{errors.New("disk on fire"), 500, "Something failed inside agento"},
	} {
		p := newTestProxy(t, testResolver{err: c.err}, netguard.Guard{})
		for _, w := range calls {
			res := w.send(t.Context(), t, p.url)
			body := readAll(t, res)
			if res.StatusCode != c.status || !strings.Contains(body, c.body) || strings.Contains(body, "fire") {
				t.Errorf("%v, %s: %d %s", c.err, w.name, res.StatusCode, body)
			}
			if c.status == 429 && res.Header.Get("Retry-After") != "2" {
				t.Errorf("Retry-After %q", res.Header.Get("Retry-After"))
			}
			if e := p.waitExchange(t); e.AccountID != "" || e.Status != 0 || e.Failure != fault.From(c.err).Message {
				t.Errorf("observed %+v", e)
			}
		}
	}
}

func TestPrivateEndpointsAreNotAllowed(t *testing.T) {
	upstream := startModel(t)
	p := newTestProxy(t, testResolver{base: upstream.URL(), key: providerKey}, netguard.Guard{})
	for _, w := range calls {
		res := w.send(t.Context(), t, p.url)
		body := readAll(t, res)
		e := p.waitExchange(t)
		if res.StatusCode != 400 || !strings.Contains(body, openclaw.CallFailed) || !strings.Contains(e.Failure, "127.0.0.1 is a loopback address") || !strings.Contains(e.Failure, "config.baseUrl") {
			t.Errorf("%s: %d %s %q", w.name, res.StatusCode, body, e.Failure)
		}
	}
	if upstream.Count() != 0 {
		t.Error("the model was reached")
	}
}

func TestAKeyWithInvalidCharactersIsNotSent(t *testing.T) {
	upstream := startModel(t)
	p := newTestProxy(t, testResolver{base: upstream.URL(), key: "two\nlines"}, netguard.Guard{AllowPrivate: true})
	res := calls[0].send(t.Context(), t, p.url)
	if body := readAll(t, res); res.StatusCode != 400 || strings.Contains(body, "lines") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if e := p.waitExchange(t); !e.KeyRefused || !strings.Contains(e.Failure, "secrets") || upstream.Count() != 0 {
		t.Errorf("the key was sent: %+v", e)
	}
}

func TestRedirectsDoNotReachTheGateway(t *testing.T) {
	upstream := httptest.NewServer(http.RedirectHandler("http://elsewhere.invalid/", http.StatusTemporaryRedirect))
	defer upstream.Close()
	p := newTestProxy(t, testResolver{base: upstream.URL}, netguard.Guard{AllowPrivate: true})
	res := calls[0].send(t.Context(), t, p.url)
	if body := readAll(t, res); res.StatusCode != 400 || res.Header.Get("Location") != "" {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if e := p.waitExchange(t); !strings.Contains(e.Failure, "redirects") {
		t.Errorf("the failure is %q", e.Failure)
	}
}

func TestEveryProviderHasRoutes(t *testing.T) {
	for _, a := range apis() {
		if len(a.routes) == 0 || a.setKey == nil || a.fail == nil {
			t.Errorf("the proxy does not serve %s", a.Name)
		}
	}
}

func TestOnlyListedRoutesAreOffered(t *testing.T) {
	upstream := startModel(t)
	p := newTestProxy(t, testResolver{base: upstream.URL()}, netguard.Guard{AllowPrivate: true})
	for call, want := range map[string]int{
		"GET /anthropic/v1/models": 200, "GET /openai/v1/models": 200, "GET /google/v1beta/models": 200,
		"GET /anthropic/v1/files": 404, "POST /anthropic/v1/messages/batches": 404, "GET /openai/v1/files": 404,
		"DELETE /openai/v1/responses/r1": 404, "POST /google/v1beta/models/m:tune": 404, "POST /google/v1beta/files": 404,
		"POST /openai/v1/models/../files": 404, "POST /google/v1beta/models/..%2f..%2ffiles:generateContent": 404,
	} {
		method, path, _ := strings.Cut(call, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, p.url+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		bearer(req.Header, agentToken)
		if res := do(t, req); res.StatusCode != want {
			t.Errorf("%s: %d, want %d", call, res.StatusCode, want)
		}
	}
	if got := p.usage(); len(got) != 0 {
		t.Errorf("counted %+v", got)
	}
}

func TestTargetURLs(t *testing.T) {
	for _, c := range []struct {
		provider         provider.Name
		base, path, want string
	}{
		{provider.Anthropic, "", "/v1/messages", "https://api.anthropic.com/v1/messages"},
		{provider.Anthropic, "http://h:1", "/v1/messages", "http://h:1/v1/messages"},
		{provider.Anthropic, "http://h:1/v1/", "/v1/messages", "http://h:1/v1/messages"},
		{provider.Anthropic, "http://h/proxy", "/v1/messages", "http://h/proxy/v1/messages"},
		{provider.OpenAI, "", "/v1/chat/completions", "https://api.openai.com/v1/chat/completions"},
		{provider.OpenAI, "http://h:1/v1", "/v1/responses", "http://h:1/v1/responses"},
		{provider.OpenAI, "http://h:1", "/v1/responses", "http://h:1/v1/responses"},
		{provider.OpenAI, "http://h:1/", "/v1/models/a%2Fb", "http://h:1/v1/models/a%2Fb"},
		{provider.OpenAI, "https://h/openai/v1", "/v1/responses", "https://h/openai/v1/responses"},
		{provider.OpenAI, "https://h/v1beta/openai", "/v1/responses", "https://h/v1beta/openai/responses"},
		{provider.Google, "", "/v1beta/models/m:generateContent", "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent"},
		{provider.Google, "http://h", "/v1beta/models", "http://h/v1beta/models"},
		{provider.Google, "http://h/v1beta", "/v1beta/models", "http://h/v1beta/models"},
	} {
		for _, a := range apis() {
			if a.Name == c.provider {
				if u, err := a.target(c.base, c.path); err != nil || u.String() != c.want {
					t.Errorf("%+v: %v, %v", c, u, err)
				}
			}
		}
	}
}

func TestRequestsAndAnswersOfAnySizePass(t *testing.T) {
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "identity" || r.Header.Get("Anthropic-Version") != "2023-06-01" || r.Header.Get("Upgrade") != "" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		w.Header().Set("X-Request-Id", "theirs")
		_, _ = w.Write(body)
	}))
	defer upstream.Close()
	p := newTestProxy(t, testResolver{base: upstream.URL}, netguard.Guard{AllowPrivate: true})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/anthropic/v1/messages", io.MultiReader(bytes.NewReader(large))) // chunked
	if err != nil {
		t.Fatal(err)
	}
	xAPIKey(req.Header, agentToken)
	req.Header.Set("Anthropic-Version", "2023-06-01")
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	res := do(t, req)
	if body := readAll(t, res); res.StatusCode != 200 || body != string(large) || res.Header.Get("X-Request-Id") != "theirs" {
		t.Errorf("%d, %d bytes", res.StatusCode, len(body))
	}
}

// A provider that answers at once must not race with the end of the request.
func TestAFastAnswerIsComplete(t *testing.T) {
	upstream := startModel(t, devmodel.Always(devmodel.Say("one two three four five")))
	p := newTestProxy(t, testResolver{base: upstream.URL()}, netguard.Guard{AllowPrivate: true})
	w := calls[0]
	w.body = `{"stream":true,"system":"` + strings.Repeat("x", 20_000) + `","messages":[]}`
	for range 500 {
		readAll(t, w.send(t.Context(), t, p.url))
	}
}

func TestARejectionBeforeTheEndOfALongRequestPasses(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		_, _ = io.WriteString(w, "too large")
	}))
	defer upstream.Close()
	p := newTestProxy(t, testResolver{base: upstream.URL}, netguard.Guard{AllowPrivate: true})
	w := calls[0]
	w.body = strings.Repeat("x", 4_000_000)
	for range 10 {
		res := w.send(testTimeout(t), t, p.url)
		body := readAll(t, res)
		if e := p.waitExchange(t); res.StatusCode != http.StatusBadRequest || !strings.Contains(body, "prompt is too long") || !strings.HasPrefix(e.Failure, "The conversation is longer than the model accepts (HTTP 413): too large.") {
			t.Fatalf("%d %q, %q", res.StatusCode, body, e.Failure)
		}
	}
}

func TestCleanTextIsValidForTheDatabase(t *testing.T) {
	if got := cleanText("a\x00b\nc\xff"+strings.Repeat("x", 9), 10); got != "abcxxxx" {
		t.Errorf("got %q", got)
	}
}

// TestProxyItselfKeepsTheKeyFromAnotherOrigin: a resolver that chose the wrong endpoint
// does not reveal the key.
func TestProxyItselfKeepsTheKeyFromAnotherOrigin(t *testing.T) {
	called := false
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }))
	defer upstream.Close()
	for name, origin := range map[string]provider.Origin{"another host": "https://api.openai.com", "another scheme": provider.Origin("https" + strings.TrimPrefix(upstream.URL, "http")), "another port": "http://127.0.0.1"} {
		p := newTestProxy(t, testResolver{base: upstream.URL, key: providerKey, origin: origin}, netguard.Guard{AllowPrivate: true})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/openai/v1/chat/completions", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+agentToken)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if called || res.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: the endpoint was called: %v; %d %s", name, called, res.StatusCode, body)
		}
		if e := p.waitExchange(t); !e.KeyRefused || !strings.Contains(e.Failure, "PUT /v1/agents/agent-1/secrets") || e.AgentID != "agent-1" {
			t.Errorf("%s: %+v", name, e)
		}
	}
}
