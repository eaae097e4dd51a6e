package modelproxy

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/modelturn"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/redact"
	"agento.host/agento/internal/trace"
	"agento.host/agento/internal/usage"
)

// exchange is one call of a gateway, from its request to the end of the answer.
type exchange struct {
	proxy    *Proxy
	api      *api
	metered  bool
	upstream Upstream
	key      string
	target   *url.URL
	secret   redact.Secret   // the key of the call
	request  *requestBody    // nil if the call has no body
	head     []byte          // of the request, as far as it was read before the call
	whole    bool            // head is all of it
	release  func()          // gives the memory of head back
	response *responseBody   // nil if there is no answer to count
	call     *modelturn.Call // nil if the call belongs to no turn
	answer   *modelAnswer    // nil if nothing is read of it
	stream   *eventStream    // nil if the answer is no stream
	counted  bool
	result   Exchange
}

func (p *Proxy) newExchange(a *api, metered bool) *exchange {
	return &exchange{proxy: p, api: a, metered: metered, release: func() {}, result: Exchange{Provider: a.Name, Began: time.Now()}}
}

// serve forwards the call. The call is counted however it ends, also by the panic that
// breaks the gateway's connection when the provider's connection breaks.
func (x *exchange) serve(w http.ResponseWriter, r *http.Request) {
	defer x.finish(r.Context())
	defer func() { x.release() }()
	if !x.prepare(w, r) || !x.claim(w, r) || !x.readRequest(w, r) || !x.checkSession(w, r) {
		return
	}
	forward := httputil.ReverseProxy{
		Transport:      x,
		Rewrite:        x.rewriteRequest,
		ModifyResponse: x.modifyResponse,
		ErrorHandler:   x.handleError,
		FlushInterval:  -1, // flush after every piece
		BufferPool:     &x.proxy.buffers,
		ErrorLog:       slog.NewLogLogger(x.proxy.log.Handler(), slog.LevelDebug),
	}
	forward.ServeHTTP(w, r)
}

// prepare determines the target of the call. If there is none, it answers with an
// error and returns false.
func (x *exchange) prepare(w http.ResponseWriter, r *http.Request) bool {
	if hasDotSegment(r.URL.Path) {
		x.write(w, http.StatusNotFound, "agento offers no "+r.URL.Path+" to agents.")
		return false
	}
	if call := r.PathValue("call"); call != "" {
		m := googleCall.FindStringSubmatch(call)
		if m == nil {
			x.write(w, http.StatusNotFound, "agento offers no "+r.URL.Path+" to agents.")
			return false
		}
		x.result.Model, x.metered = m[1], m[2] != "countTokens"
	}
	up, err := x.proxy.resolver.Resolve(r.Context(), readToken(r), x.api.Name)
	if err != nil {
		x.failUnresolved(w, r, err)
		return false
	}
	x.upstream, x.result.AccountID, x.result.AgentID = up, up.AccountID, up.AgentID
	x.target, err = x.api.target(up.BaseURL, strings.TrimPrefix(r.URL.EscapedPath(), "/"+string(x.api.Name)))
	if err != nil {
		x.fail(w, r, http.StatusBadRequest, "The agent's config.baseUrl is not a URL. "+x.changeConfig())
		return false
	}
	if !x.mayHaveKey() {
		x.proxy.log.ErrorContext(r.Context(), "key for another origin not sent", "account", up.AccountID, "agent", up.AgentID, "host", x.target.Host, "origin", up.Key.Origin())
		x.result.KeyRefused = true
		x.fail(w, r, http.StatusBadRequest, "The agent's "+string(x.api.Name)+" key is not for "+x.target.Hostname()+". "+x.setNewKey())
		return false
	}
	x.key, x.secret = strings.TrimSpace(up.Key.Reveal()), redact.New(up.Key)
	if strings.ContainsFunc(x.key, func(c rune) bool { return c <= ' ' || c > '~' }) {
		x.result.KeyRefused = true
		x.fail(w, r, http.StatusBadRequest, "The agent's "+string(x.api.Name)+" key has characters that no key has. "+x.setNewKey())
		return false
	}
	return true
}

// claim counts the connection for the agent. If the agent has too many, it answers with an
// error and returns false.
func (x *exchange) claim(w http.ResponseWriter, r *http.Request) bool {
	err := budget.Claim(r.Context(), string(x.upstream.AgentID), string(x.upstream.AccountID))
	if err != nil {
		w.Header().Set("Connection", "close")
		x.failUnresolved(w, r, err)
	}
	return err == nil
}

// mayHaveKey reports whether the target of the call has the origin of the agent's key.
// The resolver has seen to it: this is the last place where a key can be kept from
// another origin, so it does not rely on that.
func (x *exchange) mayHaveKey() bool {
	if x.upstream.Key.Empty() {
		return true
	}
	origin, err := provider.OriginOfURL(x.target)
	return err == nil && origin == x.upstream.Key.Origin()
}

// maxRead is the longest request that is read before the provider is called. The providers
// accept none that is longer.
const maxRead = 32 << 20

// readRequest reads a request that costs tokens to its end, where the key of its session is.
// It can then be repeated. If there is no memory for it, readRequest answers with an error
// and returns false.
func (x *exchange) readRequest(w http.ResponseWriter, r *http.Request) bool {
	if !x.metered {
		return true
	}
	size := r.ContentLength
	if size < 0 {
		size = maxRead
	}
	release, err := x.proxy.memory.Acquire(r.Context(), string(x.upstream.AgentID), size)
	if err != nil {
		w.Header().Set("Connection", "close") // its body is not read
		x.failUnresolved(w, r, err)
		return false
	}
	x.release = release
	x.request = newRequestBody(r.Body, x.api.Name)
	if x.head, err = io.ReadAll(io.LimitReader(x.request, maxRead)); err != nil {
		panic(http.ErrAbortHandler) // the gateway has disconnected
	}
	x.whole = len(x.head) < maxRead
	r.Body = readBody{io.MultiReader(bytes.NewReader(x.head), x.request), r.Body}
	return true
}

// readBody is a body that has been read into memory.
type readBody struct {
	io.Reader
	io.Closer
}

// rewindable reports whether the request can be sent again.
func (x *exchange) rewindable() bool { return x.whole || !x.metered && x.request == nil }

// rewind returns the body of the request from its start.
func (x *exchange) rewind() io.ReadCloser { return io.NopCloser(bytes.NewReader(x.head)) }

// checkSession answers with an error and returns false if no call of the session is allowed.
func (x *exchange) checkSession(w http.ResponseWriter, r *http.Request) bool {
	if x.proxy.check == nil || !x.metered {
		return true
	}
	_, session := x.request.modelAndSession()
	refusal := x.proxy.check(cleanText(session, 512))
	if refusal == nil {
		return x.beginCall(w, r, cleanText(session, 512), x.head)
	}
	x.proxy.log.InfoContext(r.Context(), "model call refused", "account", x.upstream.AccountID, "agent", x.upstream.AgentID, "session", cleanText(session, 512), "err", refusal)
	x.write(w, http.StatusBadRequest, fault.From(refusal).Message) // the agent and its model are well
	return false
}

// failUnresolved answers with an error of the resolver or of a budget in the provider's
// format. The gateway may repeat the call for a while if a retry can help.
func (x *exchange) failUnresolved(w http.ResponseWriter, r *http.Request, err error) {
	abortIfDisconnected(r)
	f := fault.From(err)
	status, known := faultStatus[f.Code]
	if !known {
		status = http.StatusInternalServerError
		x.proxy.log.ErrorContext(r.Context(), "model call not resolved", "provider", x.api.Name, "err", err)
	}
	if status == http.StatusBadRequest || !x.proxy.retries.allow(x.retryKey()) {
		x.fail(w, r, http.StatusBadRequest, f.Message)
		return
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(f.RetryAfter.Seconds()))))
	}
	x.result.Failure = f.Message
	x.write(w, status, f.Message)
}

// faultStatus has the HTTP status of each fault that a gateway sees. A fault that a
// retry cannot fix is 400, which OpenClaw passes on at once. After a 401 it would not use
// the provider for a while.
var faultStatus = map[fault.Code]int{
	fault.Unauthorized: http.StatusBadRequest, fault.Invalid: http.StatusBadRequest, fault.Forbidden: http.StatusBadRequest, fault.PlanLimit: http.StatusBadRequest,
	fault.NotFound: http.StatusBadRequest, fault.NotRunning: http.StatusBadRequest, fault.Conflict: http.StatusBadRequest,
	fault.RateLimited: http.StatusTooManyRequests,
	fault.Unavailable: http.StatusServiceUnavailable, fault.Upstream: http.StatusBadGateway, fault.UpstreamTimeout: http.StatusGatewayTimeout,
}

// rewriteRequest turns the gateway's request into the provider's.
func (x *exchange) rewriteRequest(pr *httputil.ProxyRequest) {
	pr.Out.URL.Scheme, pr.Out.URL.Host = x.target.Scheme, x.target.Host
	pr.Out.URL.Path, pr.Out.URL.RawPath = x.target.Path, x.target.RawPath
	pr.Out.Host = ""
	removeCredentials(pr.Out)
	h := pr.Out.Header
	h.Del("Connection") // no upgrade to another protocol, because its tokens could not be counted
	h.Del("Upgrade")
	h.Set("Accept-Encoding", "identity")
	if x.key != "" {
		x.api.setKey(h, x.key)
	}
	if pr.Out.Body != nil && x.request == nil {
		x.request = newRequestBody(pr.Out.Body, x.api.Name)
		pr.Out.Body = x.request
	}
}

// modifyResponse starts to count an answer.
func (x *exchange) modifyResponse(res *http.Response) error {
	if res.StatusCode < 300 && x.metered {
		x.response = newResponseBody(res)
		res.Body = &settledBody{ReadCloser: x.readAnswer(res, x.response), stream: x.stream, settle: func() {
			x.count(res.Request.Context(), x.result.Failure == "" && (x.stream == nil || x.stream.ended))
		}}
	}
	return nil
}

// setNewKey tells the agent's owner what to do about a key.
func (x *exchange) setNewKey() string {
	return "Set a new one with PUT /v1/agents/" + string(x.upstream.AgentID) + "/secrets."
}

// changeConfig tells the agent's owner what to do about a configuration.
func (x *exchange) changeConfig() string {
	return "Change it with PATCH /v1/agents/" + string(x.upstream.AgentID) + "."
}

// handleError breaks the gateway's connection: RoundTrip has an error only if the gateway
// has disconnected.
func (x *exchange) handleError(_ http.ResponseWriter, r *http.Request, err error) {
	x.proxy.log.DebugContext(r.Context(), "model call ended by the gateway", "account", x.upstream.AccountID, "agent", x.upstream.AgentID, "err", err)
	panic(http.ErrAbortHandler)
}

// abortIfDisconnected breaks the connection if the gateway has disconnected or the
// server stops: an answer would be incomplete, and no answer would look like an empty
// one.
func abortIfDisconnected(r *http.Request) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
}

// fail gives a call up before it was made. The gateway gets the same words as of every call
// that was given up.
func (x *exchange) fail(w http.ResponseWriter, r *http.Request, status int, message string) {
	if x.call == nil && x.metered {
		x.findCall(r)
	}
	cause := Refused
	if x.result.KeyRefused {
		cause = KeyRefused
	}
	f := x.failure(&Failure{Cause: cause, Message: message})
	x.given(f)
	x.write(w, status, f.gatewayWords())
}

// findCall reads a request that is not made, to find the turn of its session.
func (x *exchange) findCall(r *http.Request) {
	if x.request == nil {
		x.request = newRequestBody(r.Body, x.api.Name)
		_, _ = io.Copy(io.Discard, io.LimitReader(x.request, maxRead))
	}
	if x.proxy.turn == nil || x.upstream.AgentID == "" || !x.proxy.fromGateway(r.Context()) {
		return
	}
	if turn := x.proxy.turn(r.Context(), x.upstream.AccountID, x.upstream.AgentID, x.retryKey().session, func() bool { return true }); turn != nil {
		x.call, _ = turn.Begin()
	}
}

// write answers with an error in the provider's format.
func (x *exchange) write(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(x.api.errorBody(status, message))
}

// finish reports the call, and counts it if its answer was cut.
func (x *exchange) finish(ctx context.Context) {
	e := &x.result
	e.Took = time.Since(e.Began)
	x.readNames()
	if x.response != nil {
		x.count(ctx, false)
	}
	if e.Failure == "" && !e.BrokeOff && e.Status > 0 {
		x.proxy.retries.forget(x.retryKey())
	}
	x.record()
	if x.call != nil {
		x.endCall()
	}
	x.proxy.observe(*e)
}

// record adds the call to the trace of its turn. A call without a turn is a trace of its own.
func (x *exchange) record() {
	e := &x.result
	var turn trace.Parent
	if x.call != nil {
		turn = x.call.Trace()
	}
	problem := ""
	switch {
	case e.Failure != "":
		problem = "the call failed"
	case e.BrokeOff:
		problem = "the answer broke off"
	}
	turn.Record("model call", e.Began, problem, trace.String("gen_ai.operation.name", "chat"), trace.String("gen_ai.provider.name", string(e.Provider)), trace.String("gen_ai.request.model", e.Model),
		trace.Int("http.response.status_code", int64(e.Status)), trace.Int("gen_ai.usage.input_tokens", e.Usage.Input), trace.Int("gen_ai.usage.output_tokens", e.Usage.Output),
		trace.Int("agento.first_byte_ms", e.FirstByte.Milliseconds()), trace.String("agento.account.id", string(e.AccountID)), trace.String("agento.agent.id", string(e.AgentID)))
}

// cleanText makes a text of a gateway valid for the database: at most limit bytes of
// UTF-8 without control characters.
func cleanText(text string, limit int) string {
	if len(text) > limit {
		text = text[:limit]
	}
	text = strings.ToValidUTF8(text, "")
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return -1
		}
		return c
	}, text)
}

// readNames sets the model and the session of the result, as far as the request has been read.
func (x *exchange) readNames() {
	if x.request == nil {
		return
	}
	model, session := x.request.modelAndSession()
	x.result.SessionKey = cleanText(session, 512)
	if x.result.Model == "" {
		x.result.Model = cleanText(model, 128)
	}
}

// count counts the call once, and returns when that is committed. whole reports that the answer
// has come to its end.
func (x *exchange) count(ctx context.Context, whole bool) {
	if x.counted {
		return
	}
	x.counted = true
	x.readNames()
	tokens, estimated := x.tokens(whole)
	c := usage.Call{
		AccountID: x.upstream.AccountID, AgentID: x.upstream.AgentID, SwarmID: x.upstream.SwarmID,
		Provider: x.api.Name, Model: x.result.Model, At: x.result.Began,
		Tokens: tokens, HourWrites: x.response.tally.hourWrites, Estimated: estimated,
	}
	if x.call != nil {
		c.KeyID = identity.KeyID(x.call.Key())
	}
	if x.proxy.meter == nil {
		x.result.Usage = usage.Sum{Tokens: tokens, Requests: 1}
		return
	}
	c.PeerID, c.SessionID = x.proxy.attribute(x.result.SessionKey)
	x.result.Usage = x.proxy.meter.Record(ctx, c)
}
