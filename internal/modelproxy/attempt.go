package modelproxy

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"agento.host/agento/internal/modelturn"
	"agento.host/agento/internal/netguard"
)

// When a call is given up. docs/chat.md names these numbers.
const (
	// connectTimeout is for the connection to the provider, with its name and TLS.
	connectTimeout = 10 * time.Second
	// statusTimeout is from the connection to the status line of the answer.
	statusTimeout = 120 * time.Second
	// idleTimeout is between two bytes of the answer, whatever they are.
	idleTimeout = 60 * time.Second
	// retryTime is how long a failed call may be repeated, counted from its first failure.
	retryTime = 20 * time.Second
	// unreachableTime is retryTime of a provider that cannot be reached.
	unreachableTime = 5 * time.Second
	// firstRetryPause is the pause before a call is repeated for the first time. Each
	// further one is twice as long.
	firstRetryPause = 500 * time.Millisecond
)

// Why the proxy ended a call to a provider.
var (
	errNotConnected = errors.New("no connection in time")
	errNoStatus     = errors.New("no status line in time")
	errIdle         = errors.New("nothing received in time")
)

// RoundTrip implements http.RoundTripper: it makes the call, repeats it for a while if the
// provider cannot be reached or asks for it, and returns the answer as the gateway gets it.
// The gateway repeats nothing that was given up.
func (x *exchange) RoundTrip(req *http.Request) (*http.Response, error) {
	defer func() { x.release() }()
	var firstFailure time.Time
	for n := 0; ; n++ {
		res, failure, err := x.attempt(req, firstFailure)
		if failure == nil {
			return res, err
		}
		if firstFailure.IsZero() {
			firstFailure = time.Now()
		}
		pause := max(failure.retryAfter, (firstRetryPause<<n)/2+rand.N(firstRetryPause<<n)) //nolint:gosec // spreads repetitions, keeps nothing secret
		if !failure.transient || !x.rewindable() || time.Since(firstFailure)+pause >= failure.retryTime() {
			return x.giveUp(req, res, failure), nil
		}
		x.proxy.log.DebugContext(req.Context(), "model call repeated", "account", x.upstream.AccountID, "agent", x.upstream.AgentID, "host", x.target.Host, "status", failure.Status, "cause", failure.Cause, "pause", pause)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-req.Context().Done():
			timer.Stop()
			return nil, req.Context().Err()
		}
		if req.Body != nil {
			req.Body = x.rewind()
		}
	}
}

// attempt makes the call once. If it failed, it returns why, and the header of the answer if
// there was one. err is the error of a gateway that has disconnected. The status line of a
// repeated call must come within retryTime of the first failure.
func (x *exchange) attempt(req *http.Request, firstFailure time.Time) (*http.Response, *Failure, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	limit := statusTimeout
	if !firstFailure.IsZero() {
		limit = max(retryTime-time.Since(firstFailure), time.Second)
	}
	timer := time.AfterFunc(min(connectTimeout, limit), func() { cancel(errNotConnected) })
	waiting := timer
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		if timer.Stop() {
			waiting = time.AfterFunc(limit, func() { cancel(errNoStatus) })
		}
	}}
	res, err := x.proxy.transport.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, trace)))
	timer.Stop()
	waiting.Stop()
	if err != nil {
		cause := context.Cause(ctx)
		cancel(nil)
		if req.Context().Err() != nil {
			return nil, nil, req.Context().Err()
		}
		return nil, x.unreachable(req.Context(), err, cause), nil
	}
	res.Body = newIdleBody(res.Body, cancel)
	x.result.Status = res.StatusCode
	if x.result.FirstByte == 0 {
		x.result.FirstByte = time.Since(x.result.Began)
	}
	if err := decodeBody(res); err != nil {
		_ = res.Body.Close()
		return res, x.failure(&Failure{Cause: NotAModel, Status: res.StatusCode, Message: sentence(x.at().provider()+" answers in an encoding that was not asked for", err.Error(), x.at().change("config.baseUrl"))}), nil
	}
	failure := x.findFailure(res)
	if failure == nil {
		x.pass(res)
		return res, nil, nil
	}
	_ = res.Body.Close()
	return res, failure, nil
}

// idleBody ends a body from which nothing comes for too long.
type idleBody struct {
	io.ReadCloser
	timer  *time.Timer
	cancel context.CancelCauseFunc
	idle   atomic.Bool // the time is over
}

func newIdleBody(body io.ReadCloser, cancel context.CancelCauseFunc) *idleBody {
	b := &idleBody{ReadCloser: body, cancel: cancel}
	b.timer = time.AfterFunc(idleTimeout, func() {
		b.idle.Store(true)
		cancel(errIdle)
	})
	b.timer.Stop()
	return b
}

// Read implements io.Reader. The time in which the gateway reads nothing does not count.
func (b *idleBody) Read(p []byte) (int, error) {
	b.timer.Reset(idleTimeout)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) && b.idle.Load() {
		err = errIdle
	}
	return n, err
}

// Close implements io.Closer.
func (b *idleBody) Close() error {
	b.timer.Stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

// decodeBody removes an encoding that was not asked for.
func decodeBody(res *http.Response) error {
	encoding := strings.ToLower(strings.TrimSpace(res.Header.Get("Content-Encoding")))
	switch encoding {
	case "", "identity":
		return nil
	case "gzip", "x-gzip":
	default:
		return fmt.Errorf("Content-Encoding is %.40q", encoding)
	}
	res.Body = &gzipBody{ReadCloser: res.Body}
	res.Header.Del("Content-Encoding")
	res.Header.Del("Content-Length")
	res.ContentLength = -1
	return nil
}

// gzipBody decodes a body. It begins with the first Read, because the header of gzip may
// come late.
type gzipBody struct {
	io.ReadCloser
	decoder *gzip.Reader
}

// Read implements io.Reader.
func (b *gzipBody) Read(p []byte) (int, error) {
	if b.decoder == nil {
		decoder, err := gzip.NewReader(b.ReadCloser)
		if err != nil {
			return 0, err
		}
		b.decoder = decoder
	}
	return b.decoder.Read(p)
}

// maxErrorBody limits how much of an error is read, in bytes.
const maxErrorBody = 64 << 10

// findFailure returns why the answer is an error, or nil if it is none. It may have read the
// beginning of the body, which can still be read from the start.
func (x *exchange) findFailure(res *http.Response) *Failure {
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	switch {
	case res.StatusCode >= 400:
		// Before the rest of the request is discarded, which breaks the connection to a
		// provider that rejects a long request before its end.
		body, _ := io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
		f := classify(x.at(), res.StatusCode, res.Header, parseError(body))
		return x.failure(f)
	case res.StatusCode >= 300:
		// A gateway that follows it would send its token to another host.
		return x.failure(&Failure{Cause: NotAModel, Status: res.StatusCode, Message: "The model endpoint at " + x.target.Hostname() + " redirects, which is not followed. Set config.baseUrl to the final address with PATCH /v1/agents/" + string(x.upstream.AgentID) + "."})
	case !x.metered:
		return nil
	case kind == "text/html" || kind == "application/xhtml+xml":
		return x.failure(&Failure{Cause: NotAModel, Status: res.StatusCode, Message: sentence(x.at().provider()+" answers with a web page and not as a model", "", "Is config.baseUrl the address of its API? "+x.at().change("config.baseUrl"))})
	}
	head, err := peekAnswer(res, kind == "text/event-stream")
	if err != nil {
		if !errors.Is(err, io.EOF) {
			return x.failure(x.brokeOff(err, true))
		}
		if len(bytes.TrimSpace(head)) == 0 {
			return x.failure(&Failure{Cause: ProviderFailed, Status: res.StatusCode, transient: true, Message: sentence(x.at().provider()+" gave an empty answer", "", "Try again later.")})
		}
	}
	if e := errorIn(head, kind); e != nil {
		return x.failure(classify(x.at(), 0, res.Header, *e))
	}
	return nil
}

// errorIn returns the error that an answer begins with although its status is 200, or nil.
func errorIn(head []byte, kind string) *reportedError {
	data := head
	if kind == "text/event-stream" {
		data = eventData(head)
	}
	fields := decodeObject(data)
	if e := streamError(fields); e != nil {
		return e
	}
	return nil
}

// maxFirstEvent limits how much of an answer is read before it is passed on, in bytes.
const maxFirstEvent = 16 << 10

// peekAnswer returns the first event of an answer, or the beginning of one that has no
// events, as far as it comes. The body can still be read from the start. err is why there is
// no more: io.EOF at the end of the answer.
func peekAnswer(res *http.Response, events bool) (head []byte, err error) {
	body := res.Body
	piece := make([]byte, 4<<10)
	for len(head) < maxFirstEvent && err == nil {
		var n int
		n, err = body.Read(piece)
		head = append(head, piece[:n]...)
		if events && (bytes.Contains(head, []byte("\n\n")) || bytes.Contains(head, []byte("\r\n\r\n")) || bytes.Contains(head, []byte("\r\r")) || bytes.HasPrefix(head, []byte(":"))) {
			break
		}
		if !events && n > 0 && !mayBeError(head) {
			break
		}
	}
	rest := io.Reader(body)
	if err != nil {
		rest = errReader{err}
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), rest), body}
	return head, err
}

// mayBeError reports whether the beginning of a JSON text can be that of an error.
func mayBeError(head []byte) bool {
	text := bytes.TrimLeft(head, " \t\r\n[")
	return len(text) == 0 || bytes.HasPrefix(text, []byte("{")) && (len(text) < 64 || bytes.Contains(text[:min(len(text), 256)], []byte("error")))
}

type errReader struct{ err error }

// Read implements io.Reader.
func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// pass makes the body of an answer what the gateway gets: without the key, and with an error
// of ours in the place of the provider's.
func (x *exchange) pass(res *http.Response) {
	for name, values := range res.Header {
		for i, value := range values {
			res.Header[name][i] = x.secret.Text(value)
		}
	}
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if kind != "text/event-stream" {
		if !x.secret.Empty() {
			res.Header.Del("Content-Length") // it may be shorter
			res.ContentLength = -1
		}
		res.Body = x.secret.Body(res.Body)
		return
	}
	res.Header.Del("Content-Length")
	res.ContentLength = -1
	x.stream = &eventStream{ReadCloser: res.Body, secret: x.secret, failed: x.failedStream}
	res.Body = x.stream
}

// failedStream returns the event that ends a stream after the provider's error e, or after
// the connection ended with err. There is none if the gateway may repeat the call: it
// continues what it has got.
func (x *exchange) failedStream(e *reportedError, err error) ([]byte, bool) {
	var f *Failure
	switch {
	case e != nil:
		f = classify(x.at(), 0, nil, *e)
	default:
		f = x.brokeOff(err, errors.Is(err, io.EOF) || !errors.Is(err, errIdle) && !errors.Is(err, errEventTooLong))
	}
	if f.transient && e == nil && x.proxy.retries.allow(x.retryKey()) {
		x.result.BrokeOff = true
		return nil, false
	}
	x.given(x.failure(f))
	return []byte(x.api.failEvent(x.target.Path, x.api.errorBody(http.StatusBadRequest, f.gatewayWords()))), true
}

// at returns what messages about this call name.
func (x *exchange) at() endpoint {
	model := x.result.Model
	if model == "" && x.request != nil {
		model, _ = x.request.modelAndSession()
	}
	return endpoint{host: x.target.Hostname(), agent: string(x.upstream.AgentID), model: cleanText(model, 128)}
}

// failure completes a failure: the key is not in its message.
func (x *exchange) failure(f *Failure) *Failure {
	f.Message = x.secret.Text(f.Message)
	return f
}

// brokeOff is the failure of an answer that ended too early because of err.
func (x *exchange) brokeOff(err error, transient bool) *Failure {
	switch {
	case errors.Is(err, errIdle):
		return &Failure{Cause: TimedOut, Status: x.result.Status, Message: fmt.Sprintf("%s sent nothing for %d s in the middle of its answer. Try again later.", x.at().provider(), int(idleTimeout.Seconds()))}
	case errors.Is(err, errEventTooLong):
		return &Failure{Cause: NotAModel, Status: x.result.Status, Message: fmt.Sprintf("%s sent an event of more than %d MiB.", x.at().provider(), maxEvent>>20)}
	}
	return &Failure{Cause: BrokeOff, Status: x.result.Status, transient: transient, Message: x.at().provider() + " broke off its answer. Try again later."}
}

// unreachable is the failure of a call that ended with err before its status line. cause is
// why the proxy ended it, if it did.
func (x *exchange) unreachable(ctx context.Context, err, cause error) *Failure {
	at := x.at()
	var refused *netguard.Refused
	if errors.As(err, &refused) {
		x.proxy.log.WarnContext(ctx, "model endpoint not allowed", "account", x.upstream.AccountID, "agent", x.upstream.AgentID, "host", x.target.Host, "err", refused)
		return x.failure(&Failure{Cause: Refused, Message: "The model endpoint " + at.host + " is not allowed: " + refused.Error() + ". " + at.change("config.baseUrl")})
	}
	x.proxy.log.WarnContext(ctx, "model provider not reached", "account", x.upstream.AccountID, "agent", x.upstream.AgentID, "host", x.target.Host, "err", err)
	f := &Failure{Cause: Unreachable, transient: true}
	reason, action := "", "Try again later, or change config.baseUrl with PATCH /v1/agents/"+at.agent+"."
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(cause, errNoStatus):
		f.Cause, f.transient = TimedOut, false
		f.Message = fmt.Sprintf("%s did not answer within %d s. Try again later.", at.provider(), int(statusTimeout.Seconds()))
		return x.failure(f)
	case errors.Is(cause, errNotConnected), errors.As(err, &timeout) && timeout.Timeout() && !errors.As(err, &dns):
		f.transient, reason = false, fmt.Sprintf("no connection within %d s", int(connectTimeout.Seconds()))
	case errors.As(err, &dns) && dns.IsNotFound:
		f.transient, reason = false, "its name cannot be found"
	case errors.As(err, &dns):
		reason = "its name could not be looked up"
	case errors.As(err, &certificate), errors.As(err, &record):
		f.transient, reason = false, "the TLS connection failed, as its certificate is not valid for this name or it does not speak TLS"
	case strings.Contains(err.Error(), "malformed HTTP"), strings.Contains(err.Error(), "HTTP response to HTTPS client"): // net/http has no types for them
		f.transient, reason = false, "it does not answer as "+strings.ToUpper(x.target.Scheme)+" does"
	case errors.Is(err, syscall.ECONNREFUSED):
		reason = "it refuses connections"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		reason = "there is no route to it"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		f.Message = at.provider() + " closed the connection without an answer. Try again later."
		f.Cause = BrokeOff
		return x.failure(f)
	}
	f.Message = sentence(at.provider()+" could not be reached", reason, action)
	return x.failure(f)
}

// giveUp returns the answer that the gateway gets of a call that failed. Its status is 400
// and its words are ours: after other ones the gateway repeats the call for minutes, or does
// not use the provider for minutes, even with a new key.
func (x *exchange) giveUp(req *http.Request, res *http.Response, f *Failure) *http.Response {
	x.given(f)
	if f.Credentials() {
		x.proxy.log.WarnContext(req.Context(), "provider refused the key", "account", x.upstream.AccountID, "agent", x.upstream.AgentID,
			"provider", x.api.Name, "host", x.target.Host, "status", f.Status, "cause", f.Cause)
	}
	body := x.api.errorBody(http.StatusBadRequest, f.gatewayWords())
	header := http.Header{"Content-Type": {"application/json"}, "Content-Length": {strconv.Itoa(len(body))}, "X-Should-Retry": {"false"}}
	if res != nil {
		for _, name := range []string{"Request-Id", "X-Request-Id"} {
			for _, value := range res.Header.Values(name) {
				header.Add(name, x.secret.Text(value))
			}
		}
	}
	return &http.Response{
		StatusCode: http.StatusBadRequest, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: header, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// given records that the call was given up, before the gateway learns it.
func (x *exchange) given(f *Failure) {
	x.result.Failure, x.result.Cause, x.result.KeyRefused = f.Message, f.Cause, f.Credentials()
	x.proxy.retries.forget(x.retryKey())
	if x.call != nil {
		x.call.GiveUp(modelturn.Result{Failure: f.Message, Timeout: f.TimedOut()}, f.Recoverable)
	}
}
