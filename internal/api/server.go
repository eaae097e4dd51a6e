// Package api is the public HTTP door: it identifies the caller, checks what they
// may, decodes what they said, asks one room and encodes the answer. The contract
// is the table in routes.go.
package api

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agentlog"
	"agento.host/agento/internal/agentstatus"
	"agento.host/agento/internal/chat"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/knowledge"
	"agento.host/agento/internal/skill"
	"agento.host/agento/internal/swarm"
	"agento.host/agento/internal/workspace"
)

// Settings are the rooms that the door leads to.
type Settings struct {
	DB      *database.DB
	Access  *access.Service
	Limiter *access.Limiter
	Agents  *agent.Service
	Logs    *agentlog.Service
	Status  *agentstatus.Service
	Chat    *chat.Service

	Documents *workspace.Service
	Swarms    *swarm.Service
	Knowledge *knowledge.Service
	Skills    *skill.Service

	Ready     func(context.Context) error // what /readyz says; nil error: ready
	Version   string
	Heartbeat time.Duration // between the signs of life of a silent stream; 0: 15 s
	Log       *slog.Logger
}

// Server serves the contract. It is an http.Handler.
type Server struct {
	Settings
	events   *event.Log
	mux      *http.ServeMux
	api      huma.API
	page     []byte // the reference
	draining atomic.Bool
	drain    context.Context
	stop     context.CancelFunc
}

// New makes the door to the rooms of s.
func New(s Settings) *Server {
	replaceErrors()
	if s.Heartbeat == 0 {
		s.Heartbeat = heartbeat
	}
	srv := &Server{Settings: s, mux: http.NewServeMux(), events: event.NewLog(s.DB)} // which only reads
	srv.drain, srv.stop = context.WithCancel(context.Background())
	srv.mux.HandleFunc("GET /healthz", srv.health)
	srv.mux.HandleFunc("GET /readyz", srv.ready)
	srv.mux.HandleFunc("GET /docs", srv.reference)
	srv.mux.HandleFunc("/", srv.nothingHere)
	srv.api = humago.New(srv.mux, srv.describe())
	rows := srv.routes()
	for _, r := range rows {
		r.register(srv, r)
	}
	nullables(srv.api.OpenAPI().Components.Schemas)
	srv.descriptions()
	srv.page = srv.renderReference(rows)
	return srv
}

// Drain ends every stream and makes /readyz answer 503, so that a graceful
// shutdown need not wait for clients that listen for ever.
func (s *Server) Drain() {
	s.draining.Store(true)
	s.stop()
}

// untilDrain returns a context that ends with ctx or when the server shuts down.
func (s *Server) untilDrain(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.drain, cancel)
	return ctx, func() { stop(); cancel() }
}

// ServeHTTP takes every request through: name it, identify the caller, limit,
// hand over to the route.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := "req_" + rand.Text()
	w.Header().Set("X-Request-Id", id)
	r = r.WithContext(context.WithValue(r.Context(), requestID{}, id))
	out := &answer{ResponseWriter: w}
	defer s.recover(out, r)
	beginBodyTime(out, r)
	if strings.HasPrefix(r.URL.Path, "/v1/") {
		who, err := s.admit(out, r)
		if err != nil {
			s.fail(out, r, err)
			return
		}
		ctx := context.WithValue(r.Context(), principal{}, who)
		r = r.WithContext(context.WithValue(ctx, agentsRoom{}, s.Agents))
	}
	s.mux.ServeHTTP(out, r)
}

// recover turns a panic of a handler into a 500, or breaks the connection where
// the answer has begun: the client must not take half an answer for a whole one.
func (s *Server) recover(out *answer, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p != http.ErrAbortHandler { //nolint:errorlint // a panic's value, not a wrapped error
		s.Log.ErrorContext(r.Context(), "a handler panicked", "request", requestOf(r.Context()), "panic", p, "stack", string(debug.Stack()))
	}
	if out.begun || p == http.ErrAbortHandler { //nolint:errorlint // as above
		panic(http.ErrAbortHandler)
	}
	s.fail(out, r, fmt.Errorf("panic: %v", p))
}

// answer remembers whether anything was written.
type answer struct {
	http.ResponseWriter
	begun bool
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	a.begun = true
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *answer) Write(b []byte) (int, error) {
	a.begun = true
	return a.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController through.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// admit identifies the caller, charges the key's window and says in headers what
// is left of it.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) (access.Principal, error) {
	who, err := s.Access.Authenticate(r.Context(), r.Header.Get("X-Api-Key"), peerAddress(r))
	if err != nil {
		return who, err
	}
	d := s.Limiter.Allow(who.KeyID, who.RateLimit, time.Now())
	h := w.Header()
	h.Set("X-RateLimit-Limit", strconv.Itoa(d.Limit))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(d.Remaining))
	h.Set("X-RateLimit-Reset", strconv.FormatInt(d.ResetUnix(), 10))
	return who, d.Err()
}

// peerAddress is the address the request came from. A proxy's word about it is
// not trusted: anybody can write a header.
func peerAddress(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	addr, _ := netip.ParseAddr(host) // the zero Addr is limited as one address
	return addr.Unmap()
}

// What a request's context carries.
type (
	requestID  struct{}
	principal  struct{}
	agentsRoom struct{}
)

func callerOf(ctx context.Context) access.Principal {
	who, _ := ctx.Value(principal{}).(access.Principal) // none: no key, no scope, no account
	return who
}

func requestOf(ctx context.Context) string {
	id, _ := ctx.Value(requestID{}).(string)
	return id
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	respond(w, http.StatusOK, map[string]string{"status": "ok", "version": s.Version})
}

func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	err := s.Ready(ctx)
	if s.draining.Load() {
		err = fault.New(fault.Unavailable, "The server is shutting down.")
	}
	if err != nil {
		s.fail(w, r, fault.New(fault.Unavailable, "The server is not ready: try again in a moment.").Because(err))
		return
	}
	respond(w, http.StatusOK, map[string]string{"status": "ready"})
}

// nothingHere answers for every path that is no route, and for a route that does
// not know the method.
func (s *Server) nothingHere(w http.ResponseWriter, r *http.Request) {
	allowed := s.methods(r)
	if len(allowed) == 0 {
		s.fail(w, r, fault.New(fault.NotFound, "There is no %s. See /docs for what there is.", r.URL.Path))
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	err := fault.New(fault.Invalid, "%s does not take %s. Use one of %s.", r.URL.Path, r.Method, strings.Join(allowed, ", "))
	writeFault(w, http.StatusMethodNotAllowed, err, requestOf(r.Context()))
}

// methods are those that some route knows for the request's path.
func (s *Server) methods(r *http.Request) []string {
	var known []string
	for _, m := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		probe := r.Clone(r.Context())
		probe.Method = m
		if _, pattern := s.mux.Handler(probe); pattern != "/" {
			known = append(known, m)
		}
	}
	if len(known) > 0 {
		known = append(known, http.MethodOptions)
	}
	return known
}

// respond writes an answer outside huma.
func respond(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	encode(w, body)
}

// one wraps a thing into the contract's envelope.
func one[T any](v T) *reply[T] { return &reply[T]{Body: client.Data[T]{Data: v}} }

type reply[T any] struct{ Body client.Data[T] }

// many wraps a whole list, which is its own page.
func many[T any](all []T) *listReply[T] {
	return &listReply[T]{Body: client.List[T]{Data: all, Pagination: client.Pagination{Total: len(all), Limit: len(all)}}}
}

type listReply[T any] struct{ Body client.List[T] }
