package modelproxy

import (
	"bytes"
	"errors"
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
	"agento.host/agento/internal/modelturn"
	"agento.host/agento/internal/netguard"
	"agento.host/agento/internal/provider"
)

// exchange is one call of a gateway, from its request to the end of the answer.
type exchange struct {
	proxy    *Proxy
	api      *api
	metered  bool
	upstream Upstream
	key      string
	target   *url.URL
	request  *requestBody    // nil if the call has no body
	response *responseBody   // nil if there is no answer to count
	call     *modelturn.Call // nil if the call belongs to no turn
	answer   *modelAnswer    // nil if nothing is read of it
	reason   string          // what the body of the provider's error says
	result   Exchange
}

func (p *Proxy) newExchange(a *api, metered bool) *exchange {
	return &exchange{proxy: p, api: a, metered: metered, result: Exchange{Provider: a.Name, Began: time.Now()}}
}

// serve forwards the call. The call is counted however it ends, also by the panic that
// breaks the gateway's connection when the provider's connection breaks.
func (x *exchange) serve(w http.ResponseWriter, r *http.Request) {
	defer x.finish()
	if !x.prepare(w, r) || !x.claim(w, r) || !x.checkSession(w, r) {
		return
	}
	forward := httputil.ReverseProxy{
		Transport:      x.proxy.transport,
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
		x.fail(w, http.StatusNotFound, "agento offers no "+r.URL.Path+" to agents.")
		return false
	}
	if call := r.PathValue("call"); call != "" {
		m := googleCall.FindStringSubmatch(call)
		if m == nil {
			x.fail(w, http.StatusNotFound, "agento offers no "+r.URL.Path+" to agents.")
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
		x.fail(w, http.StatusBadRequest, "The agent's config.baseUrl is not a URL. "+x.changeConfig())
		return false
	}
	if !x.mayHaveKey() {
		x.proxy.log.ErrorContext(r.Context(), "key for another origin not sent", "account", up.AccountID, "agent", up.AgentID, "host", x.target.Host, "origin", up.Key.Origin())
		x.result.KeyRefused = true
		x.fail(w, http.StatusBadRequest, "The agent's "+string(x.api.Name)+" key is not for "+x.target.Hostname()+". "+x.setNewKey())
		return false
	}
	x.key = strings.TrimSpace(up.Key.Reveal())
	if strings.ContainsFunc(x.key, func(c rune) bool { return c <= ' ' || c > '~' }) {
		x.result.KeyRefused = true
		x.fail(w, http.StatusBadRequest, "The agent's "+string(x.api.Name)+" key has characters that no key has. "+x.setNewKey())
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

// maxChecked is the longest request that is read before the provider is called. The
// providers accept none that is longer.
const maxChecked = 32 << 20

// checkSession reads the request to its end, where the key of its session is. If no call
// of the session is allowed, it answers with an error and returns false.
func (x *exchange) checkSession(w http.ResponseWriter, r *http.Request) bool {
	if x.proxy.check == nil || !x.metered {
		return true
	}
	size := r.ContentLength
	if size < 0 {
		size = maxChecked
	}
	release, err := x.proxy.memory.Acquire(r.Context(), string(x.upstream.AgentID), size)
	if err != nil {
		w.Header().Set("Connection", "close") // its body is not read
		x.failUnresolved(w, r, err)
		return false
	}
	request := newRequestBody(r.Body, x.api.Name)
	head, err := io.ReadAll(io.LimitReader(request, maxChecked))
	if err != nil {
		release()
		panic(http.ErrAbortHandler) // the gateway has disconnected
	}
	r.Body = &heldBody{io.MultiReader(bytes.NewReader(head), request), r.Body, release}
	_, session := request.modelAndSession()
	refusal := x.proxy.check(cleanText(session, 512))
	if refusal == nil {
		if !x.beginCall(w, r, cleanText(session, 512), head) {
			release()
			return false
		}
		return true
	}
	release()
	x.proxy.log.InfoContext(r.Context(), "model call refused", "account", x.upstream.AccountID, "agent", x.upstream.AgentID, "session", cleanText(session, 512), "err", refusal)
	x.fail(w, http.StatusBadRequest, fault.From(refusal).Message)
	x.result.Failure = "" // the agent and its model are well
	return false
}

// heldBody is a body that has been read into memory. It gives the memory back when it
// has been read from there, or closed.
type heldBody struct {
	io.Reader
	io.Closer
	release func()
}

// Read implements io.Reader.
func (b *heldBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil {
		b.release()
	}
	return n, err
}

// Close implements io.Closer.
func (b *heldBody) Close() error {
	b.release()
	return b.Closer.Close()
}

// failUnresolved answers with an error of the resolver or of a budget in the provider's format.
func (x *exchange) failUnresolved(w http.ResponseWriter, r *http.Request, err error) {
	abortIfDisconnected(r)
	f := fault.From(err)
	status, known := faultStatus[f.Code]
	if !known {
		status = http.StatusInternalServerError
		x.proxy.log.ErrorContext(r.Context(), "model call not resolved", "provider", x.api.Name, "err", err)
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(f.RetryAfter.Seconds()))))
	}
	x.fail(w, status, f.Message)
}

// faultStatus has the HTTP status of each fault that a gateway sees. A fault that a
// retry cannot fix is 400, which OpenClaw passes on at once.
var faultStatus = map[fault.Code]int{
	fault.Unauthorized: http.StatusUnauthorized,
	fault.Invalid:      http.StatusBadRequest, fault.Forbidden: http.StatusBadRequest, fault.PlanLimit: http.StatusBadRequest,
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
	if pr.Out.Body != nil {
		x.request = newRequestBody(pr.Out.Body, x.api.Name)
		pr.Out.Body = x.request
	}
}

// modifyResponse replaces answers that must not reach the gateway, and starts to count
// the others.
func (x *exchange) modifyResponse(res *http.Response) error {
	x.result.Status, x.result.FirstByte = res.StatusCode, time.Since(x.result.Began)
	// When our server starts to answer it discards the rest of the request. That breaks
	// the connection to a provider that rejects a long request before its end, so the
	// error is read before.
	var head []byte
	if res.StatusCode >= 400 {
		head = peek(res)
		x.reason = errorReason(res.Header.Get("Content-Type"), head)
	}
	switch {
	case res.StatusCode == http.StatusUnauthorized:
		x.refuseKey(res, "The model provider at "+x.target.Hostname()+" refused this agent's key. "+x.setNewKey())
	case res.StatusCode == http.StatusForbidden:
		x.refuseKey(res, "The model provider at "+x.target.Hostname()+" refused this agent's key for this request: it may lack access to the model or the region. "+x.setNewKey())
	case res.StatusCode == http.StatusBadRequest && x.api.Name == provider.Google && bytes.Contains(head, []byte("API_KEY_INVALID")):
		x.refuseKey(res, "The model provider at "+x.target.Hostname()+" refused this agent's key. "+x.setNewKey())
	case res.StatusCode >= 300 && res.StatusCode < 400:
		// A gateway that follows it would send its token to another host.
		x.replace(res, "The model endpoint at "+x.target.Hostname()+" redirects, which is not followed. Set config.baseUrl to the final address with PATCH /v1/agents/"+string(x.upstream.AgentID)+".")
	case res.StatusCode < 300 && x.metered && isPage(res):
		x.replace(res, "The model endpoint at "+x.target.Hostname()+" answered with a web page, not as a model does. Set config.baseUrl to the address of the API with PATCH /v1/agents/"+string(x.upstream.AgentID)+".")
	case res.StatusCode < 300 && x.metered:
		x.response = newResponseBody(res)
		res.Body = x.readAnswer(res, x.response)
	}
	return nil
}

// refuseKey replaces the answer to a rejected key by a 400. After a 401 or 403, or a
// message that says so, the gateway would not use the provider for a minute, even with
// a new key.
func (x *exchange) refuseKey(res *http.Response, message string) {
	x.result.KeyRefused = true
	x.proxy.log.WarnContext(res.Request.Context(), "provider refused the key", "account", x.upstream.AccountID, "agent", x.upstream.AgentID,
		"provider", x.api.Name, "host", x.target.Host, "status", res.StatusCode)
	x.replace(res, message)
}

// setNewKey tells the agent's owner what to do about a key.
func (x *exchange) setNewKey() string {
	return "Set a new one with PUT /v1/agents/" + string(x.upstream.AgentID) + "/secrets."
}

// changeConfig tells the agent's owner what to do about a configuration.
func (x *exchange) changeConfig() string {
	return "Change it with PATCH /v1/agents/" + string(x.upstream.AgentID) + "."
}

// replace replaces the provider's answer by an error with our message.
func (x *exchange) replace(res *http.Response, message string) {
	x.result.Failure = message
	_ = res.Body.Close()
	body := x.api.errorBody(http.StatusBadRequest, message)
	res.StatusCode, res.Status = http.StatusBadRequest, ""
	res.Body, res.ContentLength, res.Trailer = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	for _, h := range []string{"Content-Encoding", "Transfer-Encoding", "Www-Authenticate", "Location", "Trailer"} {
		res.Header.Del(h)
	}
	res.Header.Set("Content-Type", "application/json")
	res.Header.Set("Content-Length", strconv.Itoa(len(body)))
}

// maxErrorBody limits how much of an error is read before it is passed on, in bytes.
const maxErrorBody = 64 << 10

// peek returns the beginning of an answer. Its body can still be read from the start.
func peek(res *http.Response) []byte {
	head, err := io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
	rest := io.Reader(res.Body)
	if err != nil {
		rest = errReader{err}
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), rest), res.Body}
	return head
}

type errReader struct{ err error }

// Read implements io.Reader.
func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// handleError answers when the provider could not be reached.
func (x *exchange) handleError(w http.ResponseWriter, r *http.Request, err error) {
	abortIfDisconnected(r)
	var refused *netguard.Refused
	if errors.As(err, &refused) {
		x.proxy.log.WarnContext(r.Context(), "model endpoint not allowed", "account", x.upstream.AccountID, "agent", x.upstream.AgentID, "host", x.target.Host, "err", refused)
		x.fail(w, http.StatusBadRequest, "The model endpoint "+x.target.Hostname()+" is not allowed: "+refused.Error()+". Change config.baseUrl with PATCH /v1/agents/"+string(x.upstream.AgentID)+".")
		return
	}
	x.proxy.log.WarnContext(r.Context(), "model provider not reached", "account", x.upstream.AccountID, "agent", x.upstream.AgentID, "host", x.target.Host, "err", err)
	x.fail(w, http.StatusBadGateway, "The model provider at "+x.target.Hostname()+" could not be reached.")
}

// abortIfDisconnected breaks the connection if the gateway has disconnected or the
// server stops: an answer would be incomplete, and no answer would look like an empty
// one.
func abortIfDisconnected(r *http.Request) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
}

// fail answers with an error of our own in the provider's format.
func (x *exchange) fail(w http.ResponseWriter, status int, message string) {
	x.result.Failure = message
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(x.api.errorBody(status, message))
}

// finish counts the call and reports it.
func (x *exchange) finish() {
	e := &x.result
	e.Took = time.Since(e.Began)
	if x.request != nil {
		model, session := x.request.modelAndSession()
		e.SessionKey = cleanText(session, 512)
		if e.Model == "" {
			e.Model = cleanText(model, 128)
		}
	}
	if x.response != nil {
		e.Counts = x.response.tally.counts()
		x.count()
	}
	if x.call != nil {
		x.endCall()
	}
	x.proxy.observe(*e)
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

func (x *exchange) count() {
	if x.proxy.meter == nil {
		return
	}
	peer, session := x.proxy.attribute(x.result.SessionKey)
	x.proxy.meter.Add(CallUsage{
		AccountID: x.upstream.AccountID, AgentID: x.upstream.AgentID, PeerID: peer, SessionID: session,
		Provider: x.api.Name, Model: x.result.Model, At: x.result.Began, Counts: x.result.Counts,
	})
}
