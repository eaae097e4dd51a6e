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
	"strings"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/chat"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/swarm"
	"agento.host/agento/internal/workspace"
)

// Settings are the rooms that the door leads to.
type Settings struct {
	DB      *database.DB
	Access  *access.Service
	Limiter *access.Limiter
	Agents  *agent.Service
	Chat    *chat.Service

	Documents *workspace.Service
	Swarms    *swarm.Service

	Ready   func(context.Context) error // what /readyz says; nil error: ready
	Version string
	Log     *slog.Logger
}

// Server serves the contract. It is an http.Handler.
type Server struct {
	Settings
	mux      *http.ServeMux
	api      huma.API
	draining atomic.Bool
	drain    context.Context
	stop     context.CancelFunc
}

// New makes the door to the rooms of s.
func New(s Settings) *Server {
	replaceErrors()
	srv := &Server{Settings: s, mux: http.NewServeMux()}
	srv.drain, srv.stop = context.WithCancel(context.Background())
	srv.mux.HandleFunc("GET /healthz", srv.health)
	srv.mux.HandleFunc("GET /readyz", srv.ready)
	srv.mux.HandleFunc("GET /docs", srv.reference)
	srv.mux.HandleFunc("/", srv.nothingHere)
	srv.api = humago.New(srv.mux, srv.describe())
	for _, r := range srv.routes() {
		r.register(srv, r)
	}
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
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler { //nolint:errorlint // a panic's value, not a wrapped error
			s.Log.ErrorContext(r.Context(), "a handler panicked", "request", id, "panic", p, "stack", string(debug.Stack()))
			s.fail(w, r, fmt.Errorf("panic: %v", p))
		}
	}()
	if strings.HasPrefix(r.URL.Path, "/v1/") {
		who, err := s.admit(w, r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		ctx := context.WithValue(r.Context(), principal{}, who)
		r = r.WithContext(context.WithValue(ctx, agentsRoom{}, s.Agents))
	}
	s.mux.ServeHTTP(w, r)
}

// admit identifies the caller, charges the key's window and says in headers what
// is left of it.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) (access.Principal, error) {
	who, err := s.Access.Authenticate(r.Context(), r.Header.Get("X-Api-Key"), peerAddress(r))
	if err != nil {
		return who, err
	}
	d := s.Limiter.Allow(who.KeyID, who.RateLimit, time.Now())
	h := w.Header()
	h.Set("X-RateLimit-Limit", fmt.Sprint(d.Limit))
	h.Set("X-RateLimit-Remaining", fmt.Sprint(d.Remaining))
	h.Set("X-RateLimit-Reset", fmt.Sprint(d.ResetUnix()))
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
	err := fault.New(fault.Invalid, "%s does not take %s, only %s.", r.URL.Path, r.Method, strings.Join(allowed, ", "))
	writeFault(w, http.StatusMethodNotAllowed, err, requestOf(r.Context()))
}

// methods are those that some route knows for the request's path.
func (s *Server) methods(r *http.Request) []string {
	var known []string
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		probe := r.Clone(r.Context())
		probe.Method = m
		if _, pattern := s.mux.Handler(probe); pattern != "/" {
			known = append(known, m)
		}
	}
	return known
}

func (s *Server) describe() huma.Config {
	c := huma.DefaultConfig("agento", s.Version)
	c.Info.Description = "Manage agents, send chat messages, stream logs, and install skills from any language. Authenticate with an X-Api-Key header."
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "/openapi", "", ""
	c.CreateHooks = nil // they would add a $schema field to every body of the contract
	c.RejectUnknownQueryParameters = true
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"key": {Type: "apiKey", In: "header", Name: "X-Api-Key"}}
	c.Security = []map[string][]string{{"key": {}}}
	registerOptionals(c.Components.Schemas)
	return c
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
