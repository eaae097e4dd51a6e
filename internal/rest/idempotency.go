package rest

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"maps"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"agento.host/agento/internal/fault"
)

// The headers of requests that are safe to repeat, and of their replayed responses.
const (
	idempotencyKey      = "Idempotency-Key"
	idempotencyReplayed = "Idempotency-Replayed"
)

// IdempotentRequest is a request with an Idempotency-Key. It has been authorized.
type IdempotentRequest struct {
	*http.Request        // its body has been read
	Key           string // as the client sent it
	Body          []byte
}

// Response is a complete response: what a handler wrote, without the headers that every
// response has.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// takesIdempotencyKey reports whether requests of the route may have an
// Idempotency-Key.
func (r Route) takesIdempotencyKey() bool { return r.Method == http.MethodPost }

// startedStream is the context key of where a request with an Idempotency-Key leaves its
// stream, a *Stream. Only the stream's headers are kept, by which Route.Reopen finds it;
// its events are sent when they are.
type startedStream struct{}

// describeIdempotencyKey adds the header to the description of a route.
func describeIdempotencyKey(op *huma.Operation) {
	op.Parameters = append(op.Parameters, &huma.Param{
		Name: idempotencyKey, In: "header",
		Description: "Makes the request safe to repeat: for 24 hours, equal requests with the same key are executed once and get the same response, with Idempotency-Replayed: true.",
		Schema:      &huma.Schema{Type: huma.TypeString, MinLength: new(1), MaxLength: new(255)},
	})
}

// serveOnce executes a request with an Idempotency-Key, or replays its response.
func (a *API) serveOnce(r Route, hc huma.Context, next func(huma.Context)) {
	req, w := humago.Unwrap(hc)
	keys := req.Header.Values(idempotencyKey)
	if len(keys) > 1 {
		a.writeError(w, req, fault.Fields{idempotencyKey: "must be sent once"}.Err())
		return
	}
	body, complete := readBody(req, hc.Operation().MaxBodyBytes)
	switch {
	case complete:
	case hc.Operation().RequestBody == nil: // the route would not look at the body
		a.writeError(w, req, fault.New(fault.Invalid, "The body is incomplete or too long. Send none: %s takes no body.", req.URL.Path))
		return
	default:
		next(hc) // answers what is wrong with the body
		return
	}
	var stream *Stream
	res, replayed, err := a.idempotent(IdempotentRequest{req, keys[0], body}, func(ctx context.Context) Response {
		again := req.WithContext(context.WithValue(ctx, startedStream{}, &stream))
		again.Body = io.NopCloser(bytes.NewReader(body))
		return a.record(hc.Operation(), again, next)
	})
	if err != nil {
		a.writeError(w, req, err)
		return
	}
	isStream := r.IsStream() && res.Status == r.successStatus()
	switch {
	case !replayed:
	case isStream:
		stream, err = r.Reopen(req, res.Header)
	case r.CheckReplay != nil:
		err = r.CheckReplay(req, res)
	}
	if err != nil {
		a.writeError(w, req, err)
		return
	}
	maps.Copy(w.Header(), res.Header)
	if replayed {
		w.Header().Set(idempotencyReplayed, "true")
	}
	if isStream {
		a.serveStream(w, req, stream)
		return
	}
	w.WriteHeader(res.Status)
	_, _ = w.Write(res.Body) // fails if the client has disconnected
}

// readBody reads a body of at most limit bytes. If the body is longer or broken, it is
// left as it was.
func readBody(req *http.Request, limit int64) (body []byte, complete bool) {
	body, err := io.ReadAll(io.LimitReader(req.Body, limit+1))
	if err == nil && int64(len(body)) <= limit {
		return body, true
	}
	rest := req.Body
	req.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(body), rest), rest}
	return nil, false
}

// record executes a request and returns the response, also of a handler that panics.
func (a *API) record(op *huma.Operation, req *http.Request, next func(huma.Context)) Response {
	rec := &recorder{header: http.Header{}}
	func() {
		out := &responseWriter{ResponseWriter: rec}
		defer a.recoverPanic(out, req)
		next(humago.NewContext(op, req, out))
	}()
	return Response{cmp.Or(rec.status, http.StatusOK), rec.header, rec.body.Bytes()}
}

// recorder is an http.ResponseWriter that keeps the response.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (r *recorder) Header() http.Header { return r.header }

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) { r.status = status }

// Write implements http.ResponseWriter.
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }
