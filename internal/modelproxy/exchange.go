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

	"agento.host/agento/internal/fault"
)

// exchange is one call of a gateway, from its request to the end of the answer.
type exchange struct {
	*Proxy
	to       *provider
	metered  bool
	up       Upstream
	key      string
	target   *url.URL
	request  *requestBody  // nil if the call has no body
	response *responseBody // nil as long as there is no answer to count
	done     Exchange
}

func (p *Proxy) exchange(to *provider, metered bool) *exchange {
	return &exchange{Proxy: p, to: to, metered: metered, done: Exchange{Provider: to.name, Began: time.Now()}}
}

// serve forwards the call. Whatever way it ends, also by the panic that cuts the
// gateway's connection when the provider's breaks off, it is counted.
func (x *exchange) serve(w http.ResponseWriter, r *http.Request) {
	defer x.finish()
	if !x.prepare(w, r) {
		return
	}
	forward := httputil.ReverseProxy{
		Transport:      x.transport,
		Rewrite:        x.rewrite,
		ModifyResponse: x.answered,
		ErrorHandler:   x.failed,
		FlushInterval:  -1, // every piece at once
		BufferPool:     &x.buffers,
		ErrorLog:       slog.NewLogLogger(x.Log.Handler(), slog.LevelDebug),
	}
	forward.ServeHTTP(w, r)
}

// prepare finds out where the call goes, or answers it.
func (x *exchange) prepare(w http.ResponseWriter, r *http.Request) bool {
	if climbs(r.URL.Path) {
		x.answer(w, http.StatusNotFound, "agento offers no "+r.URL.Path+" to agents.")
		return false
	}
	if call := r.PathValue("call"); call != "" {
		m := googleCall.FindStringSubmatch(call)
		if m == nil {
			x.answer(w, http.StatusNotFound, "agento offers no "+r.URL.Path+" to agents.")
			return false
		}
		x.done.Model, x.metered = m[1], m[2] != "countTokens"
	}
	up, err := x.Resolver.Resolve(r.Context(), tokenOf(r), x.to.name)
	if err != nil {
		x.unresolved(w, r, err)
		return false
	}
	x.up, x.done.AccountID, x.done.AgentID = up, up.AccountID, up.AgentID
	x.target, err = x.to.target(up.BaseURL, strings.TrimPrefix(r.URL.EscapedPath(), "/"+x.to.name))
	if err != nil {
		x.answer(w, http.StatusBadRequest, "The agent's config.baseUrl is no URL. Change it with PATCH /v1/agents/"+up.AgentID+".")
		return false
	}
	x.key = strings.TrimSpace(up.Key.Reveal())
	if strings.ContainsFunc(x.key, func(c rune) bool { return c <= ' ' || c > '~' }) {
		x.done.KeyRefused = true
		x.answer(w, http.StatusBadRequest, "The agent's "+x.to.name+" key has characters that no key has. "+x.setKey())
		return false
	}
	return true
}

// unresolved says in the provider's words why the call goes nowhere.
func (x *exchange) unresolved(w http.ResponseWriter, r *http.Request, err error) {
	cutIfGone(r)
	f := fault.From(err)
	status, known := faultStatus[f.Code]
	if !known {
		status = http.StatusInternalServerError
		x.Log.ErrorContext(r.Context(), "model call not resolved", "provider", x.to.name, "err", err)
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(f.RetryAfter.Seconds()))))
	}
	x.answer(w, status, f.Message)
}

// faultStatus are the faults that a gateway is told about. Those that no retry
// mends are 400, which OpenClaw passes on at once.
var faultStatus = map[fault.Code]int{
	fault.Unauthorized: http.StatusUnauthorized,
	fault.Invalid:      http.StatusBadRequest, fault.Forbidden: http.StatusBadRequest, fault.PlanLimit: http.StatusBadRequest,
	fault.NotFound: http.StatusBadRequest, fault.NotRunning: http.StatusBadRequest, fault.Conflict: http.StatusBadRequest,
	fault.RateLimited: http.StatusTooManyRequests,
	fault.Unavailable: http.StatusServiceUnavailable, fault.Upstream: http.StatusBadGateway, fault.UpstreamTimeout: http.StatusGatewayTimeout,
}

// rewrite turns the gateway's request into the provider's.
func (x *exchange) rewrite(pr *httputil.ProxyRequest) {
	pr.Out.URL.Scheme, pr.Out.URL.Host = x.target.Scheme, x.target.Host
	pr.Out.URL.Path, pr.Out.URL.RawPath = x.target.Path, x.target.RawPath
	pr.Out.Host = ""
	stripToken(pr.Out)
	h := pr.Out.Header
	h.Del("Connection") // no upgrade to another protocol, which could not be counted
	h.Del("Upgrade")
	h.Set("Accept-Encoding", "identity")
	if x.key != "" {
		x.to.auth(h, x.key)
	}
	if pr.Out.Body != nil {
		x.request = watchRequest(pr.Out.Body, x.to.name)
		pr.Out.Body = x.request
	}
}

// answered looks at the head of the provider's answer.
func (x *exchange) answered(res *http.Response) error {
	x.done.Status, x.done.FirstByte = res.StatusCode, time.Since(x.done.Began)
	// Our server drops the rest of the request once it answers, which breaks the
	// connection to a provider that refuses a long request before its end; so the
	// reason is read before that.
	var head []byte
	if res.StatusCode >= 400 {
		head = peek(res)
	}
	switch {
	case res.StatusCode == http.StatusUnauthorized:
		x.refuse(res, "The model provider at "+x.target.Hostname()+" refused this agent's key. "+x.setKey())
	case res.StatusCode == http.StatusForbidden:
		x.refuse(res, "The model provider at "+x.target.Hostname()+" refused this agent's key for this request: it may lack access to the model or the region. "+x.setKey())
	case res.StatusCode == http.StatusBadRequest && x.to.name == Google && bytes.Contains(head, []byte("API_KEY_INVALID")):
		x.refuse(res, "The model provider at "+x.target.Hostname()+" refused this agent's key. "+x.setKey())
	case res.StatusCode >= 300 && res.StatusCode < 400:
		// A gateway that followed would take its token elsewhere.
		x.replace(res, "The model endpoint at "+x.target.Hostname()+" redirects, which is not followed. Set config.baseUrl to the final address with PATCH /v1/agents/"+x.up.AgentID+".")
	case res.StatusCode < 300 && x.metered:
		x.response = watchResponse(res)
		res.Body = x.response
	}
	return nil
}

// refuse turns a refused key into a 400 in words: a 401 or 403, or those words
// in a message, would bar the provider in the gateway for a minute that a new
// key does not end.
func (x *exchange) refuse(res *http.Response, message string) {
	x.done.KeyRefused = true
	x.Log.WarnContext(res.Request.Context(), "provider refused the key", "account", x.up.AccountID, "agent", x.up.AgentID,
		"provider", x.to.name, "host", x.target.Host, "status", res.StatusCode)
	x.replace(res, message)
}

func (x *exchange) setKey() string {
	return "Set a new one with PUT /v1/agents/" + x.up.AgentID + "/secrets."
}

// replace puts our words in place of the provider's answer.
func (x *exchange) replace(res *http.Response, message string) {
	x.done.Failure = message
	_ = res.Body.Close()
	body := x.to.errorBody(http.StatusBadRequest, message)
	res.StatusCode, res.Status = http.StatusBadRequest, ""
	res.Body, res.ContentLength, res.Trailer = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	for _, h := range []string{"Content-Encoding", "Transfer-Encoding", "Www-Authenticate", "Location", "Trailer"} {
		res.Header.Del(h)
	}
	res.Header.Set("Content-Type", "application/json")
	res.Header.Set("Content-Length", strconv.Itoa(len(body)))
}

// maxErrorBody bounds how much of an error is looked at before it is passed on.
const maxErrorBody = 64 << 10

// peek returns the beginning of an answer, and leaves its body as it was.
func peek(res *http.Response) []byte {
	head, err := io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
	rest := io.Reader(res.Body)
	if err != nil {
		rest = failing{err}
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), rest), res.Body}
	return head
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// failed answers when the provider does not.
func (x *exchange) failed(w http.ResponseWriter, r *http.Request, err error) {
	cutIfGone(r)
	var refused *Refused
	if errors.As(err, &refused) {
		x.Log.WarnContext(r.Context(), "model endpoint not allowed", "account", x.up.AccountID, "agent", x.up.AgentID, "host", x.target.Host, "err", refused)
		x.answer(w, http.StatusBadRequest, "The model endpoint "+x.target.Hostname()+" is not allowed: "+refused.Error()+". Change config.baseUrl with PATCH /v1/agents/"+x.up.AgentID+".")
		return
	}
	x.Log.WarnContext(r.Context(), "model provider not reached", "account", x.up.AccountID, "agent", x.up.AgentID, "host", x.target.Host, "err", err)
	x.answer(w, http.StatusBadGateway, "The model provider at "+x.target.Hostname()+" could not be reached.")
}

// cutIfGone ends a call whose gateway has left, or whose server stops: an answer
// would be cut short, and none at all would look like an empty one.
func cutIfGone(r *http.Request) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
}

// answer writes an error of our own in the provider's shape.
func (x *exchange) answer(w http.ResponseWriter, status int, message string) {
	x.done.Failure = message
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(x.to.errorBody(status, message))
}

// finish tells those who want to know.
func (x *exchange) finish() {
	d := &x.done
	d.Took = time.Since(d.Began)
	if x.request != nil {
		model, session := x.request.told()
		d.SessionKey = storable(session, 512)
		if d.Model == "" {
			d.Model = storable(model, 128)
		}
	}
	if x.response != nil {
		d.Counts = x.response.tally.counts()
		x.meter()
	}
	if x.Observe != nil {
		x.Observe(*d)
	}
}

// storable makes a text that a gateway chose fit for a database.
func storable(text string, limit int) string {
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

func (x *exchange) meter() {
	if x.Meter == nil {
		return
	}
	peer, session := x.Split(x.done.SessionKey)
	x.Meter.Add(Use{
		AccountID: x.up.AccountID, AgentID: x.up.AgentID, PeerID: peer, SessionID: session,
		Provider: x.to.name, Model: x.done.Model, At: x.done.Began, Counts: x.done.Counts,
	})
}
