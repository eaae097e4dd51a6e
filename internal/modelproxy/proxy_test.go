package modelproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/devmodel"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/vault"
)

const (
	agentToken  = "token-of-the-agent"
	providerKey = "key-at-the-provider"
)

// directory is a Resolver that knows one agent.
type directory struct {
	base string
	key  string
	err  error
}

func (d directory) Resolve(_ context.Context, token vault.Secret, provider string) (Upstream, error) {
	if d.err != nil {
		return Upstream{}, d.err
	}
	if token.Reveal() != agentToken {
		return Upstream{}, fault.New(fault.Unauthorized, "agento does not know this token.")
	}
	base := map[string]string{Anthropic: d.base, OpenAI: d.base + "/v1", Google: d.base + "/v1beta"}[provider]
	return Upstream{AccountID: "acct_1", AgentID: "agent-1", BaseURL: base, Key: vault.NewSecret(d.key)}, nil
}

// bench is a proxy on loopback with all that a test looks at.
type bench struct {
	url   string
	meter *Meter
	logs  *safeBuffer

	mu   sync.Mutex
	done []Exchange // guarded by mu
	more chan struct{}
}

type safeBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

func serve(t testing.TB, r Resolver, guard Guard) *bench {
	b := &bench{meter: NewMeter(databasetest.New(t), nil), logs: &safeBuffer{}, more: make(chan struct{}, 1000)}
	p := New(Settings{
		Resolver: r, Guard: guard, Meter: b.meter, Observe: b.observe,
		Log: slog.New(slog.NewTextHandler(b.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	b.url = newListener(t, p)
	return b
}

// newListener serves p on loopback until the test's end.
func newListener(t testing.TB, p *Proxy) string {
	server := httptest.NewServer(p)
	t.Cleanup(func() {
		server.Close()
		p.Close()
	})
	return server.URL
}

func (b *bench) observe(e Exchange) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = append(b.done, e)
	b.more <- struct{}{}
}

// last waits for the end of the next exchange.
func (b *bench) last(t *testing.T) Exchange {
	t.Helper()
	select {
	case <-b.more:
	case <-soon(t).Done():
		t.Fatal("no exchange ended")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.done[len(b.done)-1]
}

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func model(t testing.TB, rules ...devmodel.Rule) *devmodel.Server {
	t.Helper()
	s, err := devmodel.Start(devmodel.Settings{Rules: rules})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// wire is how a gateway calls each API.
type wire struct {
	name, provider, path, body string
	key                        func(h http.Header, key string)
}

func xAPIKey(h http.Header, key string) { h.Set("X-Api-Key", key) }
func bearer(h http.Header, key string)  { h.Set("Authorization", "Bearer "+key) }
func goog(h http.Header, key string)    { h.Set("X-Goog-Api-Key", key) }

var wires = []wire{
	{"anthropic", Anthropic, "/anthropic/v1/messages", `{"model":"m1","stream":true,"system":"x` + escapedLine + `","messages":[{"role":"user","content":"echo a b c"}]}`, xAPIKey},
	{"chat", OpenAI, "/openai/v1/chat/completions", `{"model":"m1","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"echo a b c\n` + escapedLine + `"}]}`, bearer},
	{"responses", OpenAI, "/openai/v1/responses", `{"model":"m1","stream":true,"instructions":"x` + escapedLine + `","input":"echo a b c"}`, bearer},
	{"gemini", Google, "/google/v1beta/models/m1:streamGenerateContent?alt=sse", `{"systemInstruction":{"parts":[{"text":"x` + escapedLine + `"}]},"contents":[{"role":"user","parts":[{"text":"echo a b c"}]}]}`, goog},
}

const escapedLine = `\nRuntime: agent=main | session=agent:main:peer:ana:c1 | sessionId=1 | host=vm`

func (w wire) send(ctx context.Context, t testing.TB, base string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+w.path, strings.NewReader(w.body))
	if err != nil {
		t.Fatal(err)
	}
	w.key(req.Header, agentToken)
	return do(t, req)
}

// answer is a response whose body the test's end closes.
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

func TestCallsPassUntouchedWithTheRealKey(t *testing.T) {
	upstream := model(t, func(r devmodel.Request) (devmodel.Reply, bool) {
		return devmodel.Reply{Chunks: []string{"a ", "b"}, Usage: &devmodel.Usage{Input: 11, Output: 5, CacheRead: 3}}, true
	})
	for i, w := range wires {
		t.Run(w.name, func(t *testing.T) {
			b := serve(t, directory{base: upstream.URL(), key: " " + providerKey + "\n"}, Guard{AllowPrivate: true})
			body := readAll(t, w.send(t.Context(), t, b.url))
			if !strings.Contains(body, `"a "`) {
				t.Fatalf("got %s", body)
			}
			call, err := upstream.Wait(soon(t), i+1)
			if err != nil {
				t.Fatal(err)
			}
			if call.Key.Reveal() != providerKey || string(call.Body) != w.body {
				t.Errorf("key %q, body %s", call.Key.Reveal(), call.Body)
			}
			if all := fmt.Sprint(call.Header); strings.Contains(all, agentToken) || strings.Contains(all, "X-Forwarded") {
				t.Errorf("headers %s", all)
			}
			e := b.last(t)
			want := Counts{Requests: 1, Input: 11, Output: 5, CacheRead: 3}
			if e.Counts != want || e.Model != "m1" || e.SessionKey != "agent:main:peer:ana:c1" || e.Status != 200 || e.AgentID != "agent-1" || e.Provider != w.provider {
				t.Errorf("got %+v", e)
			}
			if got := rows(t, b.meter, "acct_1", "agent-1"); len(got) != 1 || got[0].Counts != want || got[0].PeerID != "ana" || got[0].SessionID != "c1" {
				t.Errorf("rows %+v", got)
			}
		})
	}
}

func TestTokenPlaces(t *testing.T) {
	upstream := model(t)
	b := serve(t, directory{base: upstream.URL(), key: providerKey}, Guard{AllowPrivate: true})
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
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+"/openai/v1/chat/completions", strings.NewReader(`{"messages":[]}`))
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

// TestStreamsAreNotHeldBack lets the model speak one word at a time and reads
// each before the next is allowed.
func TestStreamsAreNotHeldBack(t *testing.T) {
	gate := make(chan struct{})
	upstream := model(t, devmodel.Always(devmodel.Reply{Chunks: []string{"one", "two", "three"}, Gate: gate}))
	b := serve(t, directory{base: upstream.URL()}, Guard{AllowPrivate: true})
	for _, w := range wires {
		t.Run(w.name, func(t *testing.T) {
			res := w.send(soon(t), t, b.url)
			seen := ""
			for _, word := range []string{"one", "two", "three"} {
				gate <- struct{}{}
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

func TestAGatewayThatLeavesEndsTheProvidersCall(t *testing.T) {
	for _, w := range wires {
		for _, begun := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s begun=%t", w.name, begun), func(t *testing.T) {
				gate := make(chan struct{})
				upstream := model(t, devmodel.Always(devmodel.Reply{Chunks: []string{"one", "two"}, Gate: gate}))
				b := serve(t, directory{base: upstream.URL()}, Guard{AllowPrivate: true})
				ctx, leave := context.WithCancel(soon(t))
				defer leave()
				sent := make(chan *http.Response, 1)
				go func() {
					req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+w.path, strings.NewReader(w.body))
					if err != nil {
						return
					}
					w.key(req.Header, agentToken)
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
				leave()
				if gone, err := call.Cancelled(soon(t)); err != nil || !gone {
					t.Errorf("cancelled %t, %v", gone, err)
				}
				b.last(t)
				<-sent
			})
		}
	}
}

func TestAProviderThatBreaksOffCutsTheStream(t *testing.T) {
	upstream := model(t, devmodel.Always(devmodel.Reply{Chunks: []string{"one", "two"}, Usage: &devmodel.Usage{Input: 7, Output: 9}, Drop: true}))
	b := serve(t, directory{base: upstream.URL()}, Guard{AllowPrivate: true})
	res := wires[0].send(t.Context(), t, b.url)
	if body, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("the stream ended well: %s", body)
	}
	if e := b.last(t); e.Counts != (Counts{Requests: 1, Input: 7, Output: 1}) {
		t.Errorf("counted %+v", e.Counts)
	}
}

// barring are words in an error that make OpenClaw 2026.9.6 bar a provider for a
// minute, or hide the message; seen on a real gateway.
var barring = []string{"401", "403", "unauthorized", "forbidden", "authentication", "api key", "invalid", "expired", "denied", "permission", "{id}", "quota", "billing"}

func TestARefusedKeyIsToldInWords(t *testing.T) {
	for _, w := range wires {
		for _, status := range []int{401, 403} {
			t.Run(fmt.Sprint(w.name, " ", status), func(t *testing.T) {
				upstream := model(t, devmodel.Always(devmodel.Fail(status, "Incorrect API key provided: %s", providerKey)))
				b := serve(t, directory{base: upstream.URL(), key: providerKey}, Guard{AllowPrivate: true})
				res := w.send(t.Context(), t, b.url)
				body := readAll(t, res)
				if res.StatusCode != 400 || !strings.Contains(body, "127.0.0.1 refused this agent's key") || !strings.Contains(body, "PUT /v1/agents/agent-1/secrets") {
					t.Errorf("%d %s", res.StatusCode, body)
				}
				shape := map[string]string{Anthropic: `"type":"error"`, OpenAI: `"param":null`, Google: `"status":"INVALID_ARGUMENT"`}[w.provider]
				if !strings.Contains(body, shape) {
					t.Errorf("not %s's shape: %s", w.provider, body)
				}
				e := b.last(t)
				for _, word := range barring {
					if strings.Contains(strings.ToLower(e.Failure), word) {
						t.Errorf("%q in %q", word, e.Failure)
					}
				}
				if !e.KeyRefused || e.Status != status || e.Counts != (Counts{}) {
					t.Errorf("observed %+v", e)
				}
				if strings.Contains(body, providerKey) || strings.Contains(b.logs.String(), providerKey) {
					t.Errorf("the key is out: %s %s", body, b.logs)
				}
			})
		}
	}
}

func TestGooglesOwnRefusal(t *testing.T) {
	answer := ""
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, answer)
	}))
	defer upstream.Close()
	b := serve(t, directory{base: upstream.URL}, Guard{AllowPrivate: true})
	for body, refused := range map[string]bool{
		`{"error":{"code":400,"message":"API key not valid.","details":[{"reason":"API_KEY_INVALID"}]}}`: true,
		`{"error":{"code":400,"message":"Bad contents."}}` + strings.Repeat(" ", 2*maxErrorBody):         false,
	} {
		answer = body
		got := readAll(t, wires[3].send(t.Context(), t, b.url))
		if e := b.last(t); e.KeyRefused != refused || (got == body) == refused {
			t.Errorf("refused %t: %.200s", e.KeyRefused, got)
		}
	}
}

func TestOtherErrorsPass(t *testing.T) {
	for _, status := range []int{400, 404, 413, 429, 500, 529} {
		upstream := model(t, devmodel.Always(devmodel.Reply{Status: status, Error: "theirs", Reason: "why"}))
		b := serve(t, directory{base: upstream.URL()}, Guard{AllowPrivate: true})
		res := wires[0].send(t.Context(), t, b.url)
		if body := readAll(t, res); res.StatusCode != status || body != `{"error":{"message":"theirs","type":"why"},"type":"error"}` {
			t.Errorf("%d: %d %s", status, res.StatusCode, body)
		}
		if e := b.last(t); e.KeyRefused || e.Failure != "" || e.Counts != (Counts{}) || e.Status != status {
			t.Errorf("%d: observed %+v", status, e)
		}
	}
}

func TestResolversFaults(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		body   string
	}{
		{fault.New(fault.Unauthorized, "Unknown token."), 401, "Unknown token."},
		{fault.New(fault.Invalid, "This agent has no key."), 400, "This agent has no key."},
		{fault.New(fault.PlanLimit, "The budget is spent."), 400, "The budget is spent."},
		{&fault.Fault{Code: fault.RateLimited, Message: "Slowly.", RetryAfter: 1500 * time.Millisecond}, 429, "Slowly."},
		{fault.New(fault.Unavailable, "Stopping."), 503, "Stopping."},
		{errors.New("disk on fire"), 500, "Something failed inside agento"},
	} {
		b := serve(t, directory{err: c.err}, Guard{})
		for _, w := range wires {
			res := w.send(t.Context(), t, b.url)
			body := readAll(t, res)
			if res.StatusCode != c.status || !strings.Contains(body, c.body) || strings.Contains(body, "fire") {
				t.Errorf("%v, %s: %d %s", c.err, w.name, res.StatusCode, body)
			}
			if c.status == 429 && res.Header.Get("Retry-After") != "2" {
				t.Errorf("Retry-After %q", res.Header.Get("Retry-After"))
			}
			if e := b.last(t); e.AccountID != "" || e.Status != 0 {
				t.Errorf("observed %+v", e)
			}
		}
	}
}

func TestAProviderOutOfReach(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := "http://" + listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	b := serve(t, directory{base: dead, key: providerKey}, Guard{AllowPrivate: true})
	for _, w := range wires {
		res := w.send(t.Context(), t, b.url)
		body := readAll(t, res)
		if res.StatusCode != 502 || !strings.Contains(body, "The model provider at 127.0.0.1 could not be reached.") {
			t.Errorf("%s: %d %s", w.name, res.StatusCode, body)
		}
	}
	if logs := b.logs.String(); !strings.Contains(logs, "refused") || strings.Contains(logs, providerKey) || strings.Contains(logs, agentToken) {
		t.Errorf("logs %s", logs)
	}
}

func TestEndpointsOfTheMachineAreNotAllowed(t *testing.T) {
	upstream := model(t)
	b := serve(t, directory{base: upstream.URL(), key: providerKey}, Guard{})
	for _, w := range wires {
		res := w.send(t.Context(), t, b.url)
		body := readAll(t, res)
		if res.StatusCode != 400 || !strings.Contains(body, "127.0.0.1 is a loopback address") || !strings.Contains(body, "config.baseUrl") {
			t.Errorf("%s: %d %s", w.name, res.StatusCode, body)
		}
	}
	if upstream.Count() != 0 {
		t.Error("the model was reached")
	}
}

func TestAKeyThatCannotBeSent(t *testing.T) {
	upstream := model(t)
	b := serve(t, directory{base: upstream.URL(), key: "two\nlines"}, Guard{AllowPrivate: true})
	res := wires[0].send(t.Context(), t, b.url)
	if body := readAll(t, res); res.StatusCode != 400 || strings.Contains(body, "lines") || !strings.Contains(body, "secrets") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if !b.last(t).KeyRefused || upstream.Count() != 0 {
		t.Error("it was sent")
	}
}

func TestARedirectDoesNotReachTheGateway(t *testing.T) {
	upstream := httptest.NewServer(http.RedirectHandler("http://elsewhere.invalid/", http.StatusTemporaryRedirect))
	defer upstream.Close()
	b := serve(t, directory{base: upstream.URL}, Guard{AllowPrivate: true})
	res := wires[0].send(t.Context(), t, b.url)
	if body := readAll(t, res); res.StatusCode != 400 || !strings.Contains(body, "redirects") || res.Header.Get("Location") != "" {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

func TestOnlySomeEndpointsAreOffered(t *testing.T) {
	upstream := model(t)
	b := serve(t, directory{base: upstream.URL()}, Guard{AllowPrivate: true})
	for call, want := range map[string]int{
		"GET /anthropic/v1/models": 200, "GET /openai/v1/models": 200, "GET /google/v1beta/models": 200,
		"GET /anthropic/v1/files": 404, "POST /anthropic/v1/messages/batches": 404, "GET /openai/v1/files": 404,
		"DELETE /openai/v1/responses/r1": 404, "POST /google/v1beta/models/m:tune": 404, "POST /google/v1beta/files": 404,
		"POST /openai/v1/models/../files": 404, "POST /google/v1beta/models/..%2f..%2ffiles:generateContent": 404,
	} {
		method, path, _ := strings.Cut(call, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, b.url+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		bearer(req.Header, agentToken)
		if res := do(t, req); res.StatusCode != want {
			t.Errorf("%s: %d, want %d", call, res.StatusCode, want)
		}
	}
	if got := rows(t, b.meter, "acct_1", ""); len(got) != 0 {
		t.Errorf("counted %+v", got)
	}
}

func TestTargets(t *testing.T) {
	for _, c := range []struct{ provider, base, rest, want string }{
		{Anthropic, "", "/v1/messages", "https://api.anthropic.com/v1/messages"},
		{Anthropic, "http://h:1", "/v1/messages", "http://h:1/v1/messages"},
		{Anthropic, "http://h:1/v1/", "/v1/messages", "http://h:1/v1/messages"},
		{Anthropic, "http://h/proxy", "/v1/messages", "http://h/proxy/v1/messages"},
		{OpenAI, "", "/v1/chat/completions", "https://api.openai.com/v1/chat/completions"},
		{OpenAI, "http://h:1/v1", "/v1/responses", "http://h:1/v1/responses"},
		{OpenAI, "http://h:1", "/v1/responses", "http://h:1/v1/responses"},
		{OpenAI, "http://h:1/", "/v1/models/a%2Fb", "http://h:1/v1/models/a%2Fb"},
		{OpenAI, "https://h/openai/v1", "/v1/responses", "https://h/openai/v1/responses"},
		{OpenAI, "https://h/v1beta/openai", "/v1/responses", "https://h/v1beta/openai/responses"},
		{Google, "", "/v1beta/models/m:generateContent", "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent"},
		{Google, "http://h", "/v1beta/models", "http://h/v1beta/models"},
		{Google, "http://h/v1beta", "/v1beta/models", "http://h/v1beta/models"},
	} {
		for i := range providers {
			if p := &providers[i]; p.name == c.provider {
				if u, err := p.target(c.base, c.rest); err != nil || u.String() != c.want {
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
	b := serve(t, directory{base: upstream.URL}, Guard{AllowPrivate: true})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+"/anthropic/v1/messages", io.MultiReader(bytes.NewReader(large))) // chunked
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

// TestAQuickAnswerIsNotCut has an upstream that answers as fast as it can, which
// once raced with the end of the request.
func TestAQuickAnswerIsNotCut(t *testing.T) {
	upstream := model(t, devmodel.Always(devmodel.Say("one two three four five")))
	b := serve(t, directory{base: upstream.URL()}, Guard{AllowPrivate: true})
	w := wires[0]
	w.body = `{"stream":true,"system":"` + strings.Repeat("x", 20_000) + `","messages":[]}`
	for range 500 {
		readAll(t, w.send(t.Context(), t, b.url))
	}
}

func TestARefusalBeforeTheEndOfALongRequest(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		_, _ = io.WriteString(w, "too large")
	}))
	defer upstream.Close()
	b := serve(t, directory{base: upstream.URL}, Guard{AllowPrivate: true})
	w := wires[0]
	w.body = strings.Repeat("x", 4_000_000)
	for range 10 {
		res := w.send(soon(t), t, b.url)
		if body := readAll(t, res); body != "too large" || res.StatusCode != http.StatusRequestEntityTooLarge {
			t.Fatalf("%d %q", res.StatusCode, body)
		}
	}
}

func TestNamesFromGatewaysAreMadeFitToStore(t *testing.T) {
	if got := storable("a\x00b\nc\xff"+strings.Repeat("x", 9), 10); got != "abcxxxx" {
		t.Errorf("got %q", got)
	}
}
