// Package rest turns a table of routes into an HTTP API that keeps the contract's
// conventions: request ids, JSON envelopes, error bodies, server-sent events, an
// OpenAPI document and a reference page.
//
// It is the only package that imports huma, which decodes, validates and describes
// requests. It knows nothing of agents, keys and plans: package api passes those
// rules in as functions.
package rest

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"runtime/debug"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/trace"
)

// Settings of an API.
type Settings struct {
	Version   string
	PublicURL string        // the address that clients use, without a slash at its end; empty: not known
	Tags      []Tag         // the groups of routes, in the order of the reference
	Lenient   bool          // ignore query parameters that a route does not know
	Heartbeat time.Duration // between the comments on a silent stream; 0 means 15 s
	Log       *slog.Logger

	// Authenticate is called for each request whose path begins with /v1/ or with the prefix of
	// one of Foreign, before the route is chosen. The route runs with the context that it returns.
	// Authenticate may return one with an error too, whose request Completed then gets.
	Authenticate func(http.ResponseWriter, *http.Request) (context.Context, error)

	// Idempotent returns the response of an earlier, equal request, and true, or
	// that of execute.
	Idempotent func(r IdempotentRequest, execute func(context.Context) Response) (Response, bool, error)

	// Explain returns the fault of an error whose cause lies outside of the request, such
	// as a full disk, or the error as it is. Nil means the latter.
	Explain func(error) error

	// Draining ends when the server shuts down. Streams end with it. Nil means never.
	Draining context.Context

	// WhileAllowed returns a context that ends with ctx, or when the caller may not read on;
	// its cause is then a fault, which ends the stream. Nil means ctx.
	WhileAllowed func(ctx context.Context) (context.Context, context.CancelFunc)

	// HoldMemory and HoldStream take bytes and one stream from the caller's budget. The fault
	// of a refusal is the response. Nil means that there is no limit.
	HoldMemory func(ctx context.Context, bytes int64) (release func(), err error)
	HoldStream func(ctx context.Context) (release func(), err error)

	// AppendJSON appends the JSON form of a body that has an encoder of its own, and reports
	// whether it has one. It is for long lists: encoding/json takes some microseconds for a
	// row. Nil means that none has.
	AppendJSON func(b []byte, body any) ([]byte, bool)

	// Completed is called at the end of each request. Nil means that nobody is told.
	Completed func(Completed)

	// TrustsTrace reports whether a request belongs to the trace that its header traceparent
	// names. Nil means that none does.
	TrustsTrace func(*http.Request) bool

	Foreign []Foreign

	// Plain are the handlers outside the table, by pattern, such as health checks.
	// An error that they return is written as an error body.
	Plain map[string]func(http.ResponseWriter, *http.Request) error
}

// Completed is a request that has ended.
type Completed struct {
	Request  *http.Request // with the context of Authenticate
	ID       string
	Route    string // its pattern without the method, such as /v1/agents/{id}; empty if no route has the path
	Status   int    // 0, if the connection was broken before the response
	Duration time.Duration
}

// API serves a table of routes. It is an http.Handler.
type API struct {
	heartbeat    time.Duration
	log          *slog.Logger
	authenticate func(http.ResponseWriter, *http.Request) (context.Context, error)
	idempotent   func(IdempotentRequest, func(context.Context) Response) (Response, bool, error)
	explain      func(error) error
	draining     context.Context
	whileAllowed func(context.Context) (context.Context, context.CancelFunc)
	holdMemory   func(context.Context, int64) (func(), error)
	holdStream   func(context.Context) (func(), error)
	completed    func(Completed)
	trustsTrace  func(*http.Request) bool
	tags         []Tag
	lenient      bool
	version      string

	foreign []Foreign

	mux  *http.ServeMux
	huma huma.API

	operations []*operation
	rules      map[*huma.Schema]fieldRule // of the fields of bodies
}

// New returns an API that serves routes and their description.
func New(s Settings, routes []Route) *API {
	configureHuma()
	a := &API{heartbeat: s.Heartbeat, log: s.Log, authenticate: s.Authenticate, idempotent: s.Idempotent, explain: s.Explain, draining: s.Draining, whileAllowed: s.WhileAllowed, holdMemory: s.HoldMemory, holdStream: s.HoldStream, completed: s.Completed, trustsTrace: s.TrustsTrace, foreign: s.Foreign, mux: http.NewServeMux(), rules: map[*huma.Schema]fieldRule{}, tags: s.Tags, lenient: s.Lenient, version: s.Version}
	if a.heartbeat == 0 {
		a.heartbeat = defaultHeartbeat
	}
	if a.explain == nil {
		a.explain = func(err error) error { return err }
	}
	if a.draining == nil {
		a.draining = context.Background()
	}
	if a.whileAllowed == nil {
		a.whileAllowed = context.WithCancel
	}
	if a.holdMemory == nil {
		a.holdMemory = func(context.Context, int64) (func(), error) { return func() {}, nil }
	}
	if a.holdStream == nil {
		a.holdStream = func(context.Context) (func(), error) { return func() {}, nil }
	}
	if a.completed == nil {
		a.completed = func(Completed) {}
	}
	if a.trustsTrace == nil {
		a.trustsTrace = func(*http.Request) bool { return false }
	}
	for pattern, handle := range s.Plain {
		a.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := handle(w, r); err != nil {
				a.writeError(w, r, err)
			}
		})
	}
	for _, f := range a.foreign {
		for _, route := range f.Routes {
			a.mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) { a.serveForeign(w, r, route) })
		}
	}
	a.mux.HandleFunc("/", a.noRoute)
	a.huma = humago.New(a.mux, config(s))
	for _, r := range routes {
		r.register(a, r.operation(a))
		a.describeResponses(r)
	}
	schemas := a.huma.OpenAPI().Components.Schemas
	eachField(schemas, func(object *huma.Schema, name string, f reflect.StructField) {
		describeBounds(object.Properties[name], f.Tag)
	})
	describeNulls(schemas)
	a.openAnswers()
	readFieldRules(schemas, a.rules)
	for _, o := range a.operations {
		o.describeEmpty(a.operationOf(o.method, o.path))
	}
	a.serveDescription()
	a.serveReference(routes)
	return a
}

// ServeHTTP sets the request id, bounds the time of the client, authenticates and calls
// the route.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := "req_" + rand.Text()
	w.Header().Set("X-Request-Id", id)
	r = r.WithContext(context.WithValue(r.Context(), requestID{}, id))
	w, r = budget.Timed(w, r)
	out := &responseWriter{ResponseWriter: w}
	began := time.Now()
	r, span := trace.BeginRequest(r, a.trustsTrace(r))
	span.Set(trace.String("agento.request.id", id))
	defer func() {
		c := Completed{Request: r, ID: id, Route: a.routeOf(r), Status: out.status, Duration: time.Since(began)}
		span.EndRequest(r, c.Route, c.Status)
		a.completed(c)
	}()
	defer a.recoverPanic(out, r)
	if authenticate := a.authenticationOf(r); authenticate != nil {
		ctx, err := authenticate(out, r)
		if ctx != nil {
			r = r.WithContext(ctx)
		}
		if err != nil {
			a.writeError(out, r, err)
			return
		}
	}
	a.mux.ServeHTTP(out, r)
}

// authenticationOf returns what authenticates a request; nil, if nobody needs to know the caller.
func (a *API) authenticationOf(r *http.Request) func(http.ResponseWriter, *http.Request) (context.Context, error) {
	foreign := a.foreignOf(r)
	switch {
	case foreign != nil && foreign.Authenticate != nil:
		return foreign.Authenticate
	case foreign != nil, strings.HasPrefix(r.URL.Path, "/v1/"):
		return a.authenticate
	}
	return nil
}

// routeOf returns the pattern of a request's route, without its method. A request that was
// refused before may have one too.
func (a *API) routeOf(r *http.Request) string {
	pattern := r.Pattern
	if pattern == "" {
		_, pattern = a.mux.Handler(r)
	}
	if _, path, ok := strings.Cut(pattern, " "); ok {
		return path
	}
	return strings.TrimSuffix(pattern, "/") // of any method; or that of no route
}

// recoverPanic turns a panic of a handler into a 500. If the response has begun it
// breaks the connection instead, so that the client does not take half a response
// for a complete one.
func (a *API) recoverPanic(out *responseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p != http.ErrAbortHandler && !out.gone { //nolint:errorlint // a panic's value, not a wrapped error
		a.log.ErrorContext(r.Context(), "a handler panicked", "request", RequestID(r.Context()), "panic", p, "stack", string(debug.Stack()))
	}
	if out.begun || p == http.ErrAbortHandler { //nolint:errorlint // as above
		panic(http.ErrAbortHandler)
	}
	a.writeError(out, r, fmt.Errorf("panic: %v", p))
}

// responseWriter records whether the response has begun, and its status.
type responseWriter struct {
	http.ResponseWriter
	begun  bool
	gone   bool // a write has failed, because the client does not read any more; huma panics then
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *responseWriter) WriteHeader(status int) {
	if w.begun = true; w.status < http.StatusOK { // responses of 1xx come before it
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *responseWriter) Write(b []byte) (int, error) {
	if w.begun = true; w.status < http.StatusOK {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.gone = w.gone || err != nil
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// requestID is the context key of the request's id.
type requestID struct{}

// RequestID returns the id of the request that a context belongs to, or nothing.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestID{}).(string)
	return id
}

// noRoute answers requests for a path that no route has, or with a method that the
// path's routes do not take.
func (a *API) noRoute(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/" && r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html") {
		w.Header().Set("Vary", "Accept")
		http.Redirect(w, r, "/docs", http.StatusFound) // a person with a browser
		return
	}
	allowed := a.allowedMethods(r)
	if len(allowed) == 0 {
		a.writeError(w, r, fault.New(fault.NotFound, "There is no %s. /docs lists every route.", r.URL.Path))
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	err := fault.New(fault.Invalid, "%s does not take %s. Use one of %s.", r.URL.Path, r.Method, strings.Join(allowed, ", "))
	a.writeFault(w, r, http.StatusMethodNotAllowed, err)
}

// allowedMethods returns the methods that some route takes for the request's path.
func (a *API) allowedMethods(r *http.Request) []string {
	var allowed []string
	for _, m := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		probe := r.Clone(r.Context())
		probe.Method = m
		if _, pattern := a.mux.Handler(probe); pattern != "/" {
			allowed = append(allowed, m)
		}
	}
	if len(allowed) > 0 {
		allowed = append(allowed, http.MethodOptions)
	}
	return allowed
}

// WriteJSON writes a response of a plain handler.
func WriteJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	encode(w, body)
}
