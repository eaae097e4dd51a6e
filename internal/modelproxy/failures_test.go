package modelproxy

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/netguard"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/provider"
)

// fakeProvider is a provider behind connections in memory, for tests with a fake clock.
type fakeProvider struct {
	server  *http.Server
	conns   chan net.Conn
	closed  chan struct{}
	refuses func() error // of a connection; nil: it accepts

	mu    sync.Mutex
	calls int // guarded by mu
}

func newFakeProvider(t *testing.T, handle func(w http.ResponseWriter, r *http.Request, call int)) *fakeProvider {
	f := &fakeProvider{conns: make(chan net.Conn), closed: make(chan struct{})}
	f.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		f.mu.Lock()
		f.calls++
		n := f.calls
		f.mu.Unlock()
		handle(w, r, n)
	})}
	var served sync.WaitGroup
	served.Go(func() { _ = f.server.Serve(f) })
	t.Cleanup(func() {
		_ = f.server.Close()
		served.Wait()
	})
	return f
}

func (f *fakeProvider) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// Accept implements net.Listener.
func (f *fakeProvider) Accept() (net.Conn, error) {
	select {
	case c := <-f.conns:
		return c, nil
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (f *fakeProvider) Close() error {
	close(f.closed)
	return nil
}

// Addr implements net.Listener.
func (f *fakeProvider) Addr() net.Addr { return &net.TCPAddr{} }

func (f *fakeProvider) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if f.refuses != nil {
		if err := f.refuses(); err != nil {
			return nil, err
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	ours, theirs := net.Pipe()
	select {
	case f.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

const failureKey = "pk-of-the-agent-0123456789"

// failedCall is what a call came to.
type failedCall struct {
	Exchange
	status int
	body   string
	broken bool // the connection to the gateway broke
	took   time.Duration
}

// callFake makes a call through a proxy of its own.
func callFake(t *testing.T, f *fakeProvider, p *Proxy, c call) failedCall {
	t.Helper()
	var got failedCall
	p.observe = func(e Exchange) { got.Exchange = e }
	req := httptest.NewRequestWithContext(context.WithValue(t.Context(), http.ServerContextKey, f.server), http.MethodPost, c.path, strings.NewReader(c.body))
	c.setKey(req.Header, agentToken)
	out := httptest.NewRecorder()
	began := time.Now()
	func() {
		defer func() {
			switch err := recover().(type) {
			case nil:
			case error:
				if got.broken = errors.Is(err, http.ErrAbortHandler); !got.broken {
					panic(err)
				}
			default:
				panic(err)
			}
		}()
		p.ServeHTTP(out, req)
	}()
	got.took, got.status, got.body = time.Since(began), out.Code, out.Body.String()
	return got
}

func newFakeProxy(t *testing.T, f *fakeProvider) *Proxy {
	p := New(Settings{Resolver: testResolver{base: "http://provider.test", key: failureKey}, Guard: netguard.Guard{AllowPrivate: true}})
	p.DialWith(f.dial, nil)
	t.Cleanup(p.Close)
	return p
}

// barring are the words in an error for which OpenClaw 2026.9.6 does not use a provider for
// a while, or repeats a call: the patterns of its dist/message-patterns and classify-core.
var barring = regexp.MustCompile(`(?i)\b40[123]\b|\b429\b|\b5\d\d\b|unauthori[sz]ed|forbidden|authentication|api[_ ]?key|invalid token|expired|denied|permission|credential|scope|quota|billing|credit|payment|balance|budget|spend|plan\b|rate[_ ]?limit|too many|throttl|usage limit|tpm\b|resource|overload|capacity|unavailable|high (?:demand|load)|internal|server[_ ]error|bad gateway|upstream|timeout|timed out|deadline|network|connection|fetch|socket|stream|not found|unknown model|deprecated|session (?:not|does|expired|invalid)|conversation (?:not|does|expired|invalid)|deactivated|revoked|disabled|terminated|aborted|\{id\}`)

func TestWordsForTheGatewayBarNothing(t *testing.T) {
	for _, f := range []Failure{
		{}, {Recoverable: true, recovery: "prompt is too long"}, {Recoverable: true, recovery: "reasoning is required"},
		{Recoverable: true, recovery: "this reasoning level is not supported. Supported values are: 'low', 'medium'"},
	} {
		if words := barring.FindString(f.gatewayWords()); words != "" {
			t.Errorf("%q in %q", words, f.gatewayWords())
		}
	}
}

// answered is a provider's error as it is known from the provider.
type answered struct {
	status int
	body   string
	cause  Cause
	says   string // the message has it
}

const anthropicError = `{"type":"error","error":{"type":%q,"message":%q},"request_id":"req_011CSHoEeqs5C35K2UUqR7Fy"}`

// realErrors are the errors of the three providers, as their documentation and public issues
// quote them, and of proxies before them.
var realErrors = map[provider.Name][]answered{
	provider.Anthropic: {
		{400, fmt.Sprintf(anthropicError, "invalid_request_error", "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."), OutOfCredit, "PUT /v1/agents/agent-1/secrets"},
		{400, fmt.Sprintf(anthropicError, "invalid_request_error", "prompt is too long: 201043 tokens > 200000 maximum"), TooLong, "config.model"},
		{400, fmt.Sprintf(anthropicError, "invalid_request_error", "messages.3: `tool_use` ids were found without `tool_result` blocks"), BadRequest, "tool_use"},
		{400, fmt.Sprintf(anthropicError, "invalid_request_error", "upstream says: 401 unauthorized"), KeyRefused, "401 unauthorized"},
		{401, fmt.Sprintf(anthropicError, "authentication_error", "invalid x-api-key"), KeyRefused, "invalid x-api-key"},
		{402, fmt.Sprintf(anthropicError, "billing_error", "There is an issue with your billing."), OutOfCredit, "Add credit"},
		{403, fmt.Sprintf(anthropicError, "permission_error", "Your API key does not have permission to use the specified resource."), KeyRefused, "may lack access"},
		{404, fmt.Sprintf(anthropicError, "not_found_error", "model: claude-nope"), UnknownModel, "Change config.model with PATCH /v1/agents/agent-1"},
		{413, fmt.Sprintf(anthropicError, "request_too_large", "Request exceeds the maximum size"), TooLong, "Request exceeds the maximum size"},
		{429, fmt.Sprintf(anthropicError, "rate_limit_error", "This request would exceed your organization's rate limit of 50,000 input tokens per minute."), RateLimited, "50,000 input tokens"},
		{500, fmt.Sprintf(anthropicError, "api_error", "Internal server error"), ProviderFailed, "HTTP 500"},
		{504, fmt.Sprintf(anthropicError, "timeout_error", "The request timed out while processing."), ProviderFailed, "HTTP 504"},
		{529, fmt.Sprintf(anthropicError, "overloaded_error", "Overloaded"), Overloaded, "overloaded"},
	},
	provider.OpenAI: {
		{400, `{"error":{"message":"This model's maximum context length is 128000 tokens. However, your messages resulted in 130012 tokens. Please reduce the length of the messages.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}`, TooLong, "128000"},
		{400, `{"error":{"message":"Unsupported value: 'reasoning_effort' does not support 'minimal' with this model. Supported values are: 'low', 'medium', and 'high'.","type":"invalid_request_error","param":"reasoning_effort","code":"unsupported_value"}}`, BadRequest, "reasoning_effort"},
		{400, `{"error":{"message":"Invalid schema for function 'x': schema must be a JSON Schema of 'type: \"object\"'.","type":"invalid_request_error","param":"tools[0].function.parameters","code":"invalid_function_parameters"}}`, BadRequest, "Invalid schema"},
		{401, `{"error":{"message":"Incorrect API key provided: ` + failureKey + `. You can find your API key at https://platform.openai.com/account/api-keys.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}`, KeyRefused, "Incorrect API key provided: [secret]"},
		{402, `{"error":{"message":"This request requires more credits, or fewer max_tokens.","code":402}}`, OutOfCredit, "more credits"},
		{402, ``, OutOfCredit, "no credit left"},
		{403, `{"error":{"code":"unsupported_country_region_territory","message":"Country, region, or territory not supported","param":null,"type":"request_forbidden"}}`, KeyRefused, "territory"},
		{404, "{\"error\":{\"message\":\"The model `gpt-nope` does not exist or you do not have access to it.\",\"type\":\"invalid_request_error\",\"param\":null,\"code\":\"model_not_found\"}}", UnknownModel, "config.model"},
		{404, `404 page not found`, UnknownModel, "config.baseUrl"},
		{404, `{"error":"model 'llama9' not found"}`, UnknownModel, "llama9"},
		{422, `{"detail":[{"loc":["body","messages"],"msg":"field required","type":"value_error.missing"}]}`, BadRequest, "field required"},
		{429, `{"error":{"message":"Rate limit reached for gpt-5 in organization org-1 on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000. Please try again in 2s.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}`, RateLimited, "tokens per min"},
		{429, `{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}`, OutOfCredit, "exceeded your current quota"},
		{400, `{"error":{"message":"Budget has been exceeded! Current cost: 11.0, Max budget: 10.0","type":"budget_exceeded","param":null,"code":"400"}}`, OutOfCredit, "Budget"},
		{500, `{"error":{"message":"The server had an error while processing your request. Sorry about that!","type":"server_error","param":null,"code":null}}`, ProviderFailed, "Sorry about that"},
		{502, `<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>`, ProviderFailed, "failed (HTTP 502)."},
		{503, `{"error":{"message":"That model is currently overloaded with other requests.","type":"server_error","param":null,"code":null}}`, Overloaded, "currently overloaded"},
	},
	provider.Google: {
		{400, `{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}]}}`, KeyRefused, "API key not valid"},
		{400, `{"error":{"code":400,"message":"API key expired. Please renew the API key.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}`, KeyRefused, "expired"},
		{400, `{"error":{"code":400,"message":"User location is not supported for the API use.","status":"FAILED_PRECONDITION"}}`, BadRequest, "User location"},
		{400, `{"error":{"code":400,"message":"The input token count (1100000) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}`, TooLong, "1048576"},
		{403, `{"error":{"code":403,"message":"Generative Language API has not been used in project 1 before or it is disabled.","status":"PERMISSION_DENIED"}}`, KeyRefused, "Generative Language"},
		{404, `{"error":{"code":404,"message":"models/gemini-nope is not found for API version v1beta, or is not supported for generateContent.","status":"NOT_FOUND"}}`, UnknownModel, "config.model"},
		{429, `[{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details.","status":"RESOURCE_EXHAUSTED"}}]`, RateLimited, "current quota"},
		{429, `{"error":{"code":429,"message":"Your prepayment credits are depleted. Please go to AI Studio to manage your project and billing.","status":"RESOURCE_EXHAUSTED"}}`, OutOfCredit, "depleted"},
		{500, `{"error":{"code":500,"message":"An internal error has occurred. Please retry.","status":"INTERNAL"}}`, ProviderFailed, "HTTP 500"},
		{503, `{"error":{"code":503,"message":"The model is overloaded. Please try again later.","status":"UNAVAILABLE"}}`, Overloaded, "overloaded"},
	},
}

// TestErrorsOfProvidersAreRead and told in the words of the API, while the gateway gets none
// of theirs.
func TestErrorsOfProvidersAreRead(t *testing.T) {
	for _, c := range calls {
		for _, e := range realErrors[c.provider] {
			t.Run(fmt.Sprintf("%s %d %s", c.name, e.status, e.cause), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFakeProvider(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
						w.WriteHeader(e.status)
						_, _ = io.WriteString(w, e.body)
					})
					got := callFake(t, f, newFakeProxy(t, f), c)
					if got.status != 400 || got.Cause != e.cause || !strings.Contains(got.Failure, e.says) || got.Status != e.status {
						t.Errorf("%d, status %d, %s: %q", got.status, got.Status, got.Cause, got.Failure)
					}
					if words := barring.FindString(strings.NewReplacer("invalid_request_error", "", "INVALID_ARGUMENT", "").Replace(got.body)); words != "" {
						t.Errorf("%q in %s", words, got.body)
					}
					if got.KeyRefused != (e.cause == KeyRefused || e.cause == OutOfCredit) {
						t.Errorf("the key is refused: %t", got.KeyRefused)
					}
					transient := e.cause == RateLimited || e.cause == Overloaded || e.cause == ProviderFailed
					if transient != (f.count() > 1) || got.took > retryTime || !transient && got.took > 0 {
						t.Errorf("%d calls in %s", f.count(), got.took)
					}
					if strings.Contains(got.body+got.Failure, failureKey) {
						t.Errorf("the key is in %s %s", got.body, got.Failure)
					}
					for _, word := range []string{"inline API key", "auth profile", "cooldown", "upstream provider"} {
						if strings.Contains(got.Failure, word) {
							t.Errorf("%q in %q", word, got.Failure)
						}
					}
				})
			})
		}
	}
}

// streams are answers of the providers' APIs, up to what is missing in an incomplete one.
var streams = map[string]struct{ begun, end string }{
	"anthropic": {"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":1}}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"One\"}}\n\n", "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"},
	"chat":      {"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"One\"}}]}\n\n", "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"},
	"responses": {"event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"delta\":\"One\"}\n\n", "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\"}}\n\n"},
	"gemini":    {"data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"One\"}]}}]}\r\n\r\n", "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\".\"}]},\"finishReason\":\"STOP\"}]}\r\n\r\n"},
}

// streamErrors are errors in the middle of a stream.
var streamErrors = map[string]string{
	"anthropic": "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
	"chat":      "data: {\"error\":{\"message\":\"Overloaded\",\"type\":\"server_error\"}}\n\n",
	"responses": "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"server_error\",\"message\":\"Overloaded\"}}}\n\n",
	"gemini":    "data: {\"error\":{\"code\":503,\"message\":\"Overloaded\",\"status\":\"UNAVAILABLE\"}}\r\n\r\n",
}

func sendEvents(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, text)
	_ = http.NewResponseController(w).Flush()
}

// TestCallsThatFailOnTheWay covers what can happen to a connection. after is how long the
// caller waits at most.
func TestCallsThatFailOnTheWay(t *testing.T) {
	type failure struct {
		name    string
		refuses func() error
		handle  func(c call, w http.ResponseWriter, r *http.Request, n int)
		cause   Cause
		says    string
		calls   int // 0: any number
		least   time.Duration
		most    time.Duration
		begun   bool // the gateway has the beginning of the answer
	}
	for _, tt := range []failure{
		{name: "connection refused", refuses: func() error { return &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED} }, cause: Unreachable, says: "it refuses connections", most: unreachableTime},
		{name: "black hole", refuses: func() error { return nil }, cause: Unreachable, says: "no connection within 10 s", least: connectTimeout, most: connectTimeout},
		{name: "unknown name", refuses: func() error { return &net.DNSError{Err: "no such host", Name: "provider.test", IsNotFound: true} }, cause: Unreachable, says: "its name cannot be found"},
		{name: "another protocol", handle: func(_ call, w http.ResponseWriter, _ *http.Request, _ int) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, "220 mail.test ESMTP\r\n")
				_ = conn.Close()
			}
		}, cause: Unreachable, says: "it does not answer as HTTP does", calls: 1},
		{name: "no status line", handle: func(_ call, _ http.ResponseWriter, r *http.Request, _ int) { <-r.Context().Done() }, cause: TimedOut, says: "did not answer within 120 s", calls: 1, least: statusTimeout, most: statusTimeout},
		{name: "closed without an answer", handle: func(call, http.ResponseWriter, *http.Request, int) { panic(http.ErrAbortHandler) }, cause: BrokeOff, says: "closed the connection without an answer", most: retryTime},
		{name: "silence in the answer", handle: func(c call, w http.ResponseWriter, r *http.Request, _ int) {
			sendEvents(w, streams[c.name].begun)
			<-r.Context().Done()
		}, cause: TimedOut, says: "sent nothing for 60 s", calls: 1, least: idleTimeout, most: idleTimeout, begun: true},
		{name: "silence before the first event", handle: func(_ call, w http.ResponseWriter, r *http.Request, _ int) {
			sendEvents(w, "")
			<-r.Context().Done()
		}, cause: TimedOut, says: "sent nothing for 60 s", calls: 1, least: idleTimeout, most: idleTimeout},
		{name: "error in the answer", handle: func(c call, w http.ResponseWriter, _ *http.Request, _ int) {
			sendEvents(w, streams[c.name].begun+streamErrors[c.name]+"data: {}\n\n")
		}, cause: Overloaded, says: "Overloaded", calls: 1, begun: true},
		{name: "an endless event", handle: func(c call, w http.ResponseWriter, _ *http.Request, _ int) {
			sendEvents(w, streams[c.name].begun+"data: ")
			for range maxEvent>>16 + 1 {
				sendEvents(w, strings.Repeat("x", 1<<16))
			}
		}, cause: NotAModel, says: "an event of more than 8 MiB", calls: 1, begun: true},
		{name: "error as the first event", handle: func(c call, w http.ResponseWriter, _ *http.Request, _ int) { sendEvents(w, streamErrors[c.name]) }, cause: Overloaded, says: "Overloaded", most: retryTime},
		{name: "error with status 200", handle: func(_ call, w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"error":{"message":"Insufficient balance","type":"invalid_request_error"}}`)
		}, cause: OutOfCredit, says: "Insufficient balance", calls: 1},
		{name: "error as an event", handle: func(_ call, w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("Content-Type", "text/event-stream")
			w.WriteHeader(400)
			_, _ = io.WriteString(w, "event: error\ndata: {\"error\":{\"message\":\"Tool schema field foo is not supported\"}}\n\n")
		}, cause: BadRequest, says: "Tool schema field foo is not supported", calls: 1},
		{name: "a compressed error", handle: func(_ call, w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("Content-Encoding", "gzip")
			w.WriteHeader(402)
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, `{"error":{"message":"Top up your account."}}`)
			_ = z.Close()
		}, cause: OutOfCredit, says: "Top up your account", calls: 1},
		{name: "another encoding", handle: func(_ call, w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("Content-Encoding", "br")
			_, _ = io.WriteString(w, "x")
		}, cause: NotAModel, says: "br", calls: 1},
		{name: "captive portal", handle: func(_ call, w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, "<html>Sign in to the network</html>")
		}, cause: NotAModel, says: "config.baseUrl", calls: 1},
		{name: "redirect", handle: func(_ call, w http.ResponseWriter, r *http.Request, _ int) {
			http.Redirect(w, r, "http://elsewhere.test/", http.StatusFound)
		}, cause: NotAModel, says: "redirects", calls: 1},
		{name: "empty answer", handle: func(_ call, w http.ResponseWriter, _ *http.Request, _ int) { sendEvents(w, "") }, cause: ProviderFailed, says: "empty answer", most: retryTime},
		{name: "Retry-After within the time", handle: func(_ call, w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("Retry-After", "15")
			w.WriteHeader(503)
		}, cause: ProviderFailed, says: "Try again in 15 s", calls: 2, least: 15 * time.Second, most: retryTime},
		{name: "Retry-After beyond the time", handle: func(_ call, w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("Retry-After", "600")
			w.WriteHeader(429)
		}, cause: RateLimited, says: "Try again in 600 s", calls: 1},
		{name: "a repeated call that hangs", handle: func(_ call, w http.ResponseWriter, r *http.Request, n int) {
			if n == 1 {
				w.WriteHeader(503)
				return
			}
			<-r.Context().Done()
		}, cause: TimedOut, says: "did not answer", calls: 2, least: retryTime, most: retryTime + time.Second},
	} {
		for _, c := range calls {
			t.Run(tt.name+" "+c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFakeProvider(t, func(w http.ResponseWriter, r *http.Request, n int) { tt.handle(c, w, r, n) })
					f.refuses = tt.refuses
					got := callFake(t, f, newFakeProxy(t, f), c)
					if got.broken || got.Cause != tt.cause || !strings.Contains(got.Failure, tt.says) || strings.Contains(got.Failure, failureKey) {
						t.Errorf("broken %t, %s: %q", got.broken, got.Cause, got.Failure)
					}
					if got.took < tt.least || got.took > tt.most {
						t.Errorf("it took %s, want %s to %s", got.took, tt.least, tt.most)
					}
					if tt.calls > 0 && f.count() != tt.calls {
						t.Errorf("%d calls", f.count())
					}
					if !strings.Contains(got.body, openclaw.CallFailed) || strings.Contains(got.body, "One") != tt.begun || tt.begun == (got.status == 400) {
						t.Errorf("the gateway gets %d %s", got.status, got.body)
					}
				})
			})
		}
	}
}

// TestCallsThatRecover: what passes within the time is no failure.
func TestCallsThatRecover(t *testing.T) {
	for name, handle := range map[string]func(c call, w http.ResponseWriter, r *http.Request, n int){
		"an overloaded provider": func(c call, w http.ResponseWriter, _ *http.Request, n int) {
			if n < 3 {
				w.WriteHeader(529)
				return
			}
			sendEvents(w, streams[c.name].begun+streams[c.name].end)
		},
		"a connection that was closed": func(c call, w http.ResponseWriter, _ *http.Request, n int) {
			if n == 1 {
				panic(http.ErrAbortHandler)
			}
			sendEvents(w, streams[c.name].begun+streams[c.name].end)
		},
		"slow drip": func(c call, w http.ResponseWriter, _ *http.Request, _ int) {
			for b := range strings.SplitSeq(streams[c.name].begun[:30], "") {
				sendEvents(w, b)
				time.Sleep(idleTimeout - time.Second)
			}
			sendEvents(w, streams[c.name].begun[30:]+streams[c.name].end)
		},
		"pings": func(c call, w http.ResponseWriter, _ *http.Request, _ int) {
			for range 10 {
				sendEvents(w, ": still working\n\n")
				time.Sleep(idleTimeout - time.Second)
			}
			sendEvents(w, streams[c.name].begun+streams[c.name].end)
		},
		"a status line that takes its time": func(c call, w http.ResponseWriter, _ *http.Request, _ int) {
			time.Sleep(statusTimeout - time.Second)
			sendEvents(w, streams[c.name].begun+streams[c.name].end)
		},
	} {
		for _, c := range calls {
			t.Run(name+" "+c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFakeProvider(t, func(w http.ResponseWriter, r *http.Request, n int) { handle(c, w, r, n) })
					got := callFake(t, f, newFakeProxy(t, f), c)
					if got.broken || got.Failure != "" || !strings.HasSuffix(got.body, streams[c.name].begun+streams[c.name].end) || got.Status != 200 {
						t.Errorf("broken %t, %d %q: %s", got.broken, got.Status, got.Failure, got.body)
					}
				})
			})
		}
	}
}

// TestAnswersThatBreakOffAreRepeatedForAWhile: the gateway continues what it has got. It is
// given 20 seconds for that.
func TestAnswersThatBreakOffAreRepeatedForAWhile(t *testing.T) {
	for name, breakOff := range map[string]func(){"cut": func() { panic(http.ErrAbortHandler) }, "ended": func() {}} {
		for _, c := range calls {
			t.Run(name+" "+c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFakeProvider(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
						sendEvents(w, streams[c.name].begun)
						breakOff()
					})
					p := newFakeProxy(t, f)
					began := time.Now()
					for {
						got := callFake(t, f, p, c)
						if !strings.Contains(got.body, "One") {
							t.Fatalf("the gateway gets %s", got.body)
						}
						if !got.broken {
							if !strings.Contains(got.Failure, "broke off its answer") || !strings.Contains(got.body, openclaw.CallFailed) {
								t.Errorf("%q: %s", got.Failure, got.body)
							}
							break
						}
						if !got.BrokeOff || got.Failure != "" {
							t.Errorf("%+v", got.Exchange)
						}
						time.Sleep(5 * time.Second) // until the gateway makes the call again
					}
					if took := time.Since(began); took < 15*time.Second || took > 25*time.Second {
						t.Errorf("it took %s", took)
					}
					if got := callFake(t, f, p, c); !got.broken {
						t.Error("a later call is not repeated")
					}
				})
			})
		}
	}
}

// TestOwnRefusalsAreRepeatedForAWhile: a gateway that is refused for want of memory tries
// again, but not for minutes.
func TestOwnRefusalsAreRepeatedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Settings{Resolver: testResolver{err: &fault.Fault{Code: fault.RateLimited, Message: "Slowly.", RetryAfter: time.Second}}})
		f := newFakeProvider(t, nil)
		if got := callFake(t, f, p, calls[0]); got.status != 429 || got.Failure != "Slowly." {
			t.Errorf("%d %q", got.status, got.Failure)
		}
		time.Sleep(retryTime)
		if got := callFake(t, f, p, calls[0]); got.status != 400 || !strings.Contains(got.body, openclaw.CallFailed) {
			t.Errorf("%d %s", got.status, got.body)
		}
		if got := callFake(t, f, p, calls[0]); got.status != 429 {
			t.Errorf("later: %d", got.status)
		}
	})
}

// TestKeyIsMaskedInEverythingThatComesBack, in one piece or in many.
func TestKeyIsMaskedInEverythingThatComesBack(t *testing.T) {
	delta := map[string]string{
		"anthropic": `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":%q}}`,
		"chat":      `{"choices":[{"index":0,"delta":{"content":%q}}],"big":9007199254740993}`,
		"responses": `{"type":"response.output_text.delta","output_index":0,"delta":%q}`,
		"gemini":    `{"candidates":[{"content":{"parts":[{"text":%q}]}}]}`,
	}
	for _, c := range calls {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answer := func(http.ResponseWriter) {}
				f := newFakeProvider(t, func(w http.ResponseWriter, _ *http.Request, _ int) { answer(w) })
				p := newFakeProxy(t, f)
				check := func(name, want string) {
					t.Helper()
					got := callFake(t, f, p, c)
					if strings.Contains(got.body+got.Failure, "pk-of-the-agent") || strings.Contains(got.body, "0123456789") || !strings.Contains(got.body, want) {
						t.Errorf("%s: %s %s", name, got.body, got.Failure)
					}
				}
				answer = func(w http.ResponseWriter) {
					w.Header().Set("X-Request-Id", failureKey)
					w.WriteHeader(404)
					_, _ = fmt.Fprintf(w, `{"error":{"message":"no model for %s"}}`, failureKey)
				}
				check("error", openclaw.CallFailed)
				answer = func(w http.ResponseWriter) {
					w.Header().Set("Content-Type", "application/json")
					for b := range strings.SplitSeq(`{"id":"`+failureKey+`"}`, "") {
						_, _ = io.WriteString(w, b)
						_ = http.NewResponseController(w).Flush()
					}
				}
				check("body in pieces", `{"id":"[secret]"}`)
				for size := 1; size <= len(failureKey)+1; size++ {
					answer = func(w http.ResponseWriter) {
						text := "It is " + failureKey + ", yes"
						for len(text) > 0 {
							n := min(size, len(text))
							sendEvents(w, "data: "+fmt.Sprintf(delta[c.name], text[:n])+"\n\n")
							text = text[n:]
						}
						sendEvents(w, streams[c.name].end)
					}
					got := callFake(t, f, p, c)
					var said strings.Builder
					for _, m := range regexp.MustCompile(`"(?:text|content|delta)":"([^"]*)"`).FindAllStringSubmatch(got.body, -1) {
						said.WriteString(m[1])
					}
					said.WriteString("|")
					text := strings.TrimSuffix(strings.TrimSuffix(said.String(), "|"), ".")
					if strings.Contains(text, "of-the-agent") || !strings.HasPrefix(text, "It is ") || !strings.HasSuffix(text, "[secret], yes") {
						t.Errorf("in pieces of %d: %q", size, text)
					}
					if c.name == "chat" && !strings.Contains(got.body, "9007199254740993") {
						t.Errorf("a number was changed: %s", got.body)
					}
				}
				answer = func(w http.ResponseWriter) {
					for b := range strings.SplitSeq("data: {\"x\":\""+failureKey+"\"}\n\n"+streams[c.name].end, "") {
						sendEvents(w, b)
					}
				}
				check("event in pieces", `{"x":"[secret]"}`)
				answer = func(w http.ResponseWriter) {
					sendEvents(w, streams[c.name].begun+strings.ReplaceAll(streamErrors[c.name], "Overloaded", "Overloaded "+failureKey))
				}
				check("error event", openclaw.CallFailed)
			})
		})
	}
}

// TestStreamsPassUnchanged byte by byte, whatever line ends they have.
func TestStreamsPassUnchanged(t *testing.T) {
	for name, text := range map[string]string{
		"comments": ": one\n: two\n\n\n\ndata: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n", "returns": "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\r\rdata: [DONE]\r\r",
		"no JSON": "data: x\nid: 1\n\ndata: [DONE]\n\n", "fields": "retry: 5\nevent: a\ndata: {\"a\":1,\ndata: \"b\":2}\n\ndata: [DONE]\n\n",
		"the beginning of the key": "data: {\"choices\":[{\"delta\":{\"content\":\"pk-of-the\"},\"index\":0}]}\n\n: ping\n\ndata: {\"choices\":[{\"delta\":{\"content\":\" rest\"},\"index\":0}]}\n\ndata: [DONE]\n\n",
		"no last line end":         "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeProvider(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
					for b := range strings.SplitSeq(text, "") {
						sendEvents(w, b)
					}
				})
				if got := callFake(t, f, newFakeProxy(t, f), calls[1]); strings.TrimSpace(got.body) != strings.TrimSpace(text) || got.Failure != "" || got.broken {
					t.Errorf("got %q, want %q; %s", got.body, text, got.Failure)
				}
			})
		})
	}
}

// TestGatewayMayChangeACall that is too long or asks for a reasoning level that the model does
// not have. It reads what to change in words of ours.
func TestGatewayMayChangeACall(t *testing.T) {
	for message, want := range map[string]string{
		"Unsupported value: 'reasoning_effort' does not support 'minimal' with this model. Supported values are: 'low', 'medium', and 'high'.": "this reasoning level is not supported. Supported values are: 'low', 'medium', 'high'",
		"thinking.type: adaptive is not supported by this model":                                                                               "this reasoning level is not supported",
		"Reasoning is mandatory for this endpoint":                                                                                             "reasoning is required",
		"Budget 0 is invalid. This model only works in thinking mode.":                                                                         "reasoning is required",
		"input length and `max_tokens` exceed context limit":                                                                                   "prompt is too long",
		"tools.0: a thinking cap is no reason":                                                                                                 openclaw.CallFailed,
	} {
		f := classify(endpoint{host: "h", agent: "a"}, 400, nil, reportedError{message: message})
		if got := f.gatewayWords(); got != want || f.Recoverable != (want != openclaw.CallFailed) {
			t.Errorf("%s: %q", message, got)
		}
	}
}
