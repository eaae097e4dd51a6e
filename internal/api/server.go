// Package api is the public HTTP API: it authenticates and authorizes a caller,
// calls one service and encodes the result. The contract is the table in routes.go;
// package rest decodes, validates and describes.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agentarchive"
	"agento.host/agento/internal/agentlog"
	"agento.host/agento/internal/agentstatus"
	"agento.host/agento/internal/attention"
	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/chat"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/egress"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/idempotency"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/knowledge"
	"agento.host/agento/internal/mcp"
	"agento.host/agento/internal/modelproxy"
	"agento.host/agento/internal/openaiapi"
	"agento.host/agento/internal/rest"
	"agento.host/agento/internal/skill"
	"agento.host/agento/internal/swarm"
	"agento.host/agento/internal/trace"
	"agento.host/agento/internal/usage"
	"agento.host/agento/internal/user"
	"agento.host/agento/internal/widget"
	"agento.host/agento/internal/widget/door"
	"agento.host/agento/internal/workspace"
)

// Settings of a Server.
type Settings struct {
	DB        *database.DB
	Events    *event.Log // read by GET /v1/audit
	Access    *access.Service
	Limiter   *access.Limiter
	Agents    *agent.Service
	Archives  *agentarchive.Service
	Logs      *agentlog.Service
	Status    *agentstatus.Service
	Chat      *chat.Service
	Workspace *workspace.Service
	Swarms    *swarm.Service
	Knowledge *knowledge.Service
	Skills    *skill.Service
	Network   *egress.Manager
	Usage     *usage.Service
	Models    *modelproxy.Proxy // checks keys of model providers
	People    *user.Service     // nil: nobody signs in
	Widgets   *widget.Service
	Attention *attention.Service

	Idempotency *idempotency.Service

	// ReadFile reads files that callers send. Nil: in this process, which is for tests.
	ReadFile ReadFile

	Budgets *budget.Server // nil: callers have no limits but those of their keys and plans

	// TrustedProxies are the addresses whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix

	Ready     func(context.Context) error // nil error: /readyz answers 200; the message of a fault is shown
	Completed func(Completed)             // is called at the end of each request; nil: nobody is told
	Degraded  func() []Degradation        // what does not work although the server serves
	Version   string
	PublicURL string        // the address that clients use; empty: not known
	Lenient   bool          // ignore query parameters that a route does not know
	Heartbeat time.Duration // between the comments on a silent stream; 0 means 15 s
	Log       *slog.Logger
}

// Completed is a request that has ended.
type Completed struct {
	rest.Completed
	Account identity.AccountID // empty: the caller is not known
	Key     identity.KeyID
	User    identity.UserID // the person who has called, without a key
}

// Degradation is a part of the installation that does not work although the server serves.
// /readyz shows it, to everybody.
type Degradation struct {
	Name    string `json:"name"`
	Message string `json:"message"` // what that means, and what to do
}

// Server serves the contract. It is an http.Handler.
type Server struct {
	db        *database.DB
	events    *event.Log
	access    *access.Service
	limiter   *access.Limiter
	agents    *agent.Service
	archives  *agentarchive.Service
	agentLogs *agentlog.Service
	status    *agentstatus.Service
	chat      *chat.Service
	workspace *workspace.Service
	swarms    *swarm.Service
	knowledge *knowledge.Service
	skills    *skill.Service
	network   *egress.Manager
	usage     *usage.Service
	models    *modelproxy.Proxy
	people    *user.Service
	widgets   *widget.Service
	attention *attention.Service
	requests  *idempotency.Service
	budgets   *budget.Server
	readFile  ReadFile
	clients   clientAddresses
	isReady   func(context.Context) error
	degraded  func() []Degradation
	version   string

	draining context.Context // ends when the server shuts down
	drain    context.CancelFunc
	http     *rest.API
	tools    *mcp.Handler
}

// New returns a Server.
func New(s Settings) *Server {
	srv := &Server{
		db: s.DB, events: s.Events, access: s.Access, limiter: s.Limiter, agents: s.Agents, archives: s.Archives, agentLogs: s.Logs, status: s.Status, chat: s.Chat, workspace: s.Workspace,
		swarms: s.Swarms, knowledge: s.Knowledge, skills: s.Skills, network: s.Network, usage: s.Usage, models: s.Models, people: s.People, widgets: s.Widgets, attention: s.Attention, requests: s.Idempotency, budgets: s.Budgets, clients: clientAddresses{proxies: s.TrustedProxies, log: s.Log}, isReady: s.Ready, degraded: s.Degraded, version: s.Version,
	}
	if srv.readFile = s.ReadFile; srv.readFile == nil {
		srv.readFile = readHere
	}
	if srv.budgets == nil {
		srv.budgets = &budget.Server{}
	}
	srv.draining, srv.drain = context.WithCancel(context.Background())
	var completed func(rest.Completed)
	if s.Completed != nil {
		completed = func(c rest.Completed) {
			who := callerOf(c.Request.Context())
			if v, ok := door.VisitorOf(c.Request.Context()); ok {
				who.AccountID = v.Widget.AccountID
			}
			s.Completed(Completed{Completed: c, Account: who.AccountID, Key: who.KeyID, User: who.UserID})
		}
	}
	srv.http = rest.New(rest.Settings{
		Completed: completed,
		Version:   s.Version, PublicURL: s.PublicURL, Lenient: s.Lenient, Tags: tags(), Heartbeat: s.Heartbeat, Log: s.Log, Explain: database.Explain, Authenticate: srv.authenticate, Idempotent: srv.idempotent, Draining: srv.draining,
		WhileAllowed: func(ctx context.Context) (context.Context, context.CancelFunc) {
			if who := callerOf(ctx); who.UserID != "" {
				return srv.people.WhileValid(ctx, who)
			}
			if v, ok := door.VisitorOf(ctx); ok {
				return srv.widgets.WhileValid(ctx, v)
			}
			return srv.access.WhileValid(ctx, callerOf(ctx))
		},
		TrustsTrace: func(r *http.Request) bool { return srv.clients.trusts(parseAddress(r.RemoteAddr)) },
		Foreign: []rest.Foreign{openaiapi.New(openaiapi.Settings{
			Agents: s.Agents, Chat: s.Chat, Draining: srv.draining, Authorize: srv.authorizeOpenAI,
			Caller: func(ctx context.Context) chat.Caller {
				c := chatCaller(callerOf(ctx))
				c.Source = chat.FromOpenAI
				return c
			},
		}), srv.widgetDoor()},
		HoldMemory: srv.holdMemory, HoldStream: srv.holdStream, AppendJSON: appendJSON,
		Plain: map[string]func(http.ResponseWriter, *http.Request) error{
			"GET /healthz": srv.health, "GET /readyz": srv.ready, mcpPath: srv.serveMCP,
			door.ScriptPattern: door.ServeScript, door.FramePattern: door.ServeFrame(s.Widgets),
		},
	}, srv.restRoutes())
	srv.tools = srv.newTools(s.PublicURL, s.Log)
	return srv
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.http.ServeHTTP(w, r) }

// AccountHeader names the account of a request of the operator.
const AccountHeader = "X-Agento-Account"

// operator is the context key of a request of the operator.
type operator struct{}

// Operator returns the API for the operator, who acts for the account in AccountHeader
// without a key. Whoever reaches it may do everything: it is for the socket of the data
// directory.
func (s *Server) Operator() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.http.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), operator{}, true)))
	})
}

// other is the context key of what authenticates the requests of For.
type other struct{}

// For returns the API for callers that are authenticated otherwise than by a key, such as people
// who are signed in: caller returns the caller of a request, or a fault, from its context. All
// rules and limits are those of the API.
func (s *Server) For(caller func(context.Context) (access.Principal, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.http.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), other{}, caller)))
	})
}

// ClientAddress returns the address of the client that a request comes from, which trusted
// proxies name. The zero Addr stands for all clients without an address.
func (s *Server) ClientAddress(r *http.Request) netip.Addr { return s.clients.of(r) }

// Drain ends every stream and makes /readyz answer 503, so that a graceful
// shutdown does not wait for clients that never disconnect.
func (s *Server) Drain() { s.drain() }

// untilDrain returns a context that ends with ctx or when the server shuts down.
func (s *Server) untilDrain(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.draining, cancel)
	return ctx, func() { stop(); cancel() }
}

// principal is the context key of the authenticated caller.
type principal struct{}

// callerOf returns the authenticated caller of a request. Without one it returns
// the zero Principal, which has no key, scope or account.
func callerOf(ctx context.Context) access.Principal {
	who, _ := ctx.Value(principal{}).(access.Principal)
	return who
}

// authenticate identifies the caller, counts the request against the key's rate
// limit and sets the rate limit headers: those of the key, or of the client's address if
// the key is not known.
func (s *Server) authenticate(w http.ResponseWriter, r *http.Request) (context.Context, error) {
	if who := callerOf(r.Context()); who.AccountID != "" {
		return r.Context(), nil // the request of a tool, whose own request was counted
	}
	if r.Context().Value(operator{}) != nil {
		who, err := s.access.OperatorOf(r.Context(), r.Header.Get(AccountHeader))
		return context.WithValue(r.Context(), principal{}, who), err
	}
	if caller, ok := r.Context().Value(other{}).(func(context.Context) (access.Principal, error)); ok {
		who, err := caller(r.Context())
		if err != nil {
			return nil, err
		}
		return s.admit(w, r, who)
	}
	addr := s.clients.of(r)
	presented, err := presentedKey(r.Header)
	if err != nil {
		return nil, err
	}
	who, err := s.access.Authenticate(r.Context(), presented, addr)
	if fault.Is(err, fault.Unauthorized) || fault.Is(err, fault.RateLimited) {
		setRateLimit(w.Header(), s.access.UnknownKeys(addr))
	}
	if err != nil {
		return nil, err
	}
	return s.admit(w, r, who)
}

// admit counts a request of a caller against its limits.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, who access.Principal) (context.Context, error) {
	name := trace.String("agento.key.id", string(who.KeyID))
	if who.UserID != "" {
		name = trace.String("agento.user.id", string(who.UserID))
	}
	trace.Annotate(r.Context(), trace.String("agento.account.id", string(who.AccountID)), name)
	d := s.limiter.Allow(identity.KeyID(who.Name()), who.RateLimit, time.Now())
	setRateLimit(w.Header(), d)
	if err := budget.Claim(r.Context(), who.Name(), string(who.AccountID)); err != nil {
		w.Header().Set("Connection", "close")
		return nil, err
	}
	return context.WithValue(r.Context(), principal{}, who), d.Err()
}

// presentedKey returns the key of a request: that of X-Api-Key or, for clients of OpenAI's API,
// that of Authorization, whose other credentials are for somebody else, such as a proxy.
// Faults: Invalid, if there are two different ones.
func presentedKey(h http.Header) (string, error) {
	key := h.Get("X-Api-Key")
	scheme, bearer, _ := strings.Cut(h.Get("Authorization"), " ")
	bearer = strings.TrimSpace(bearer)
	switch {
	case !strings.EqualFold(scheme, "Bearer") || !strings.HasPrefix(bearer, access.SecretPrefix) && key != "":
		return key, nil
	case key != "" && key != bearer:
		return "", fault.New(fault.Invalid, "X-Api-Key and Authorization have different API keys. Send one of them.")
	}
	return bearer, nil
}

func setRateLimit(h http.Header, d access.Decision) {
	h.Set("X-RateLimit-Limit", strconv.Itoa(d.Limit))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(d.Remaining))
	h.Set("X-RateLimit-Reset", strconv.FormatInt(d.ResetUnix(), 10))
}

// holdMemory takes bytes from the budget of the caller's account.
// Faults: RateLimited; Unavailable.
func (s *Server) holdMemory(ctx context.Context, bytes int64) (release func(), err error) {
	account := callerOf(ctx).AccountID
	if v, ok := door.VisitorOf(ctx); ok {
		account = v.Widget.AccountID
	}
	return s.budgets.Memory.Acquire(ctx, string(account), bytes)
}

// holdStream takes a stream of the caller's key and account, or of a visitor and the widget, which
// leave those of the account alone. Faults: RateLimited.
func (s *Server) holdStream(ctx context.Context) (release func(), err error) {
	who := callerOf(ctx)
	holder, group := who.Name(), string(who.AccountID)
	if v, ok := door.VisitorOf(ctx); ok {
		holder, group = "visitor "+string(v.Widget.ID)+" "+v.PeerID, string(v.Widget.ID)
	}
	key, err := s.budgets.KeyStreams.Acquire(ctx, holder, 1)
	if err != nil {
		return nil, err
	}
	account, err := s.budgets.AccountStreams.Acquire(ctx, group, 1)
	if err != nil {
		key()
		return nil, err
	}
	return func() { account(); key() }, nil
}

// idempotent executes a request with an Idempotency-Key as its caller, or returns the
// response of an earlier, equal one.
func (s *Server) idempotent(r rest.IdempotentRequest, execute func(context.Context) rest.Response) (rest.Response, bool, error) {
	ctx, cancel := s.untilDrain(r.Context())
	defer cancel()
	who := callerOf(ctx)
	request := idempotency.Request{Actor: who.Actor(), Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Key: r.Key, Body: r.Body}
	res, replayed, err := s.requests.Do(ctx, request, func(ctx context.Context, id identity.RequestID) idempotency.Response {
		who.Request = id
		return idempotency.Response(execute(context.WithValue(ctx, principal{}, who)))
	})
	if _, ok := database.Diagnose(err); ok && r.Pattern == stopPattern {
		return execute(ctx), false, nil // a stop needs no record: it may be repeated without a key
	}
	return rest.Response(res), replayed, err
}

// authorize returns nil if the caller's key has the route's scope and the plan has
// its feature. Every route with a scope also needs the feature api_access. Nobody changes
// anything while the installation is quiet, but to revoke a key.
// Faults: Forbidden, PlanLimit; Unavailable.
func (s *Server) authorize(ctx context.Context, who access.Principal, r route) error {
	if err := s.checkScope(ctx, who, r); err != nil {
		return err
	}
	if s.db.IsQuiet() && r.Method != http.MethodGet && r.Method+" "+r.Path != revokePattern {
		return fault.New(fault.Unavailable, "This installation was restored from a backup and changes nothing until its operator activates it. Until then it can be read.").Expected()
	}
	return nil
}

// authorizeOpenAI is authorize for the routes of package openaiapi.
func (s *Server) authorizeOpenAI(ctx context.Context, method string) error {
	return s.authorize(ctx, callerOf(ctx), route{Route: rest.Route{Method: method}, scope: access.Chat, feature: needsAPI})
}

// checkScope is authorize without the state of the installation.
func (s *Server) checkScope(ctx context.Context, who access.Principal, r route) error {
	if r.scope == anyKey {
		return nil
	}
	if err := who.Require(r.scope); err != nil {
		return err
	}
	if err := s.access.Allows(ctx, who, access.FeatureAPIAccess); err != nil || r.feature == access.FeatureAPIAccess {
		return err
	}
	return s.access.Allows(ctx, who, r.feature)
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) error {
	rest.WriteJSON(w, http.StatusOK, map[string]string{"status": "ok", "version": s.version})
	return nil
}

// readyBody is the body of /readyz of a server that serves.
type readyBody struct {
	Status   string        `json:"status"`            // ready or degraded
	Message  string        `json:"message,omitempty"` // the first of Degraded
	Degraded []Degradation `json:"degraded"`
}

// ready answers 503 only if this server cannot serve.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	err := s.isReady(ctx)
	if s.draining.Err() != nil {
		err = fault.New(fault.Unavailable, "The server is shutting down.")
	}
	if err != nil && !fault.Is(err, fault.Unavailable) {
		err = fault.New(fault.Unavailable, "The server is not ready: try again in a moment.").Because(err)
	}
	if err != nil {
		return err
	}
	body := readyBody{Status: "ready", Degraded: []Degradation{}}
	if found := s.degraded(); len(found) > 0 {
		body = readyBody{Status: "degraded", Message: found[0].Message, Degraded: found}
	}
	rest.WriteJSON(w, http.StatusOK, body)
	return nil
}
