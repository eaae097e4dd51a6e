// Package modelproxy serves the calls that gateways make to model providers. It
// identifies the agent by its token, replaces the token by the account's key, streams
// requests and answers unchanged, and has each call counted before its answer ends.
package modelproxy

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/modelturn"
	"agento.host/agento/internal/netguard"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/usage"
	"agento.host/agento/internal/vault"
)

// Resolver finds agents by their tokens.
type Resolver interface {
	// Resolve returns the endpoint and the key for calls of the agent with that token
	// to a provider. The proxy calls it for every call, so a new key is used from the
	// next call on.
	//
	// A fault becomes an error in the provider's format with the fault's message.
	// OpenClaw reads such messages: words like "unauthorized", "API key" with
	// "invalid" or "expired", or a 401 or 403, make it stop using the provider for a
	// minute.
	// Faults: Unauthorized for an unknown token; Invalid if the agent has no key for
	// that provider; RateLimited and PlanLimit if a budget is used up.
	Resolve(ctx context.Context, token vault.Secret, name provider.Name) (Upstream, error)
}

// Upstream is the endpoint that an agent's calls go to.
type Upstream struct {
	AccountID identity.AccountID
	AgentID   identity.AgentID
	SwarmID   identity.SwarmID // empty: none
	BaseURL   string           // empty: the provider's own
	Key       vault.Secret     // sent only to its own origin; empty: the endpoint needs none
}

// Settings are what New needs. All but Resolver are optional.
type Settings struct {
	Resolver Resolver
	Guard    netguard.Guard
	Meter    *usage.Meter // nil: calls are not counted
	// Attribute returns the peer and the session of a gateway's session key. Nil means
	// that there is no peer and the key names the session.
	Attribute func(sessionKey string) (peer string, session identity.SessionID)
	// Check returns a fault for a session key whose call must not be made. Nil allows all.
	// The request is read before the provider is called, because the key is at its end.
	Check func(sessionKey string) error
	// Turn finds the turn of each call, if Check is set. Nil means that no call belongs to a turn.
	Turn TurnFunc
	// FromGateway reports whether a call comes from the gateway itself. A call of another program
	// of the agent, which can write what it likes, belongs to no turn. Nil: all calls do.
	FromGateway func(context.Context) bool
	// Observe is called at the end of every call. It must not block.
	Observe func(Exchange)
	// Memory is what the requests of agents may take that are read before the provider is
	// called. Nil means that there is no limit.
	Memory *budget.Budget
	Log    *slog.Logger
	// DemoKey is a key that Check sends to DemoURL: that of the scripted model.
	DemoKey vault.Secret
	DemoURL string
}

// TurnFunc returns the turn of an agent that a call belongs to by the session key of the
// gateway, or nil. continues reports whether the request goes on with a run, with the results
// of tools.
type TurnFunc func(ctx context.Context, account identity.AccountID, agent identity.AgentID, sessionKey string, continues func() bool) *modelturn.Turn

// Exchange is a call that has ended.
type Exchange struct {
	AccountID  identity.AccountID // empty if the token is unknown
	AgentID    identity.AgentID   // empty if the token is unknown
	Provider   provider.Name
	Model      string    // as the gateway requested it
	SessionKey string    // OpenClaw's; empty if the call belongs to no session
	Status     int       // of the provider's answer; 0 if there was none
	KeyRefused bool      // the provider rejected the agent's key, or its account cannot pay
	Failure    string    // the message of a call that was given up
	Cause      Cause     // of that
	BrokeOff   bool      // the answer broke off, and the gateway may make the call again
	Usage      usage.Sum // zero if there is no answer to count
	Began      time.Time
	FirstByte  time.Duration // until the provider's answer began; 0 if it did not
	Took       time.Duration
}

// Proxy is the http.Handler for the calls of gateways.
type Proxy struct {
	resolver  Resolver
	meter     *usage.Meter
	attribute func(sessionKey string) (peer string, session identity.SessionID)
	check     func(sessionKey string) error
	turn      TurnFunc
	// fromGateway is not nil.
	fromGateway func(context.Context) bool
	observe     func(Exchange)
	retries     retries
	memory      *budget.Budget
	log         *slog.Logger
	transport   *http.Transport
	mux         *http.ServeMux
	buffers     buffers
	guard       netguard.Guard // of Check
	demoKey     vault.Secret
	demoURL     string
}

// New returns a proxy. The caller closes it after its server.
func New(s Settings) *Proxy {
	p := &Proxy{
		resolver: s.Resolver, meter: s.Meter, attribute: s.Attribute, check: s.Check, turn: s.Turn, fromGateway: s.FromGateway, observe: s.Observe, memory: s.Memory, log: s.Log,
		transport: s.Guard.Transport(), mux: http.NewServeMux(),
		guard: s.Guard, demoKey: s.DemoKey, demoURL: s.DemoURL,
	}
	if p.attribute == nil {
		p.attribute = func(key string) (string, identity.SessionID) { return "", identity.SessionID(key) }
	}
	if p.observe == nil {
		p.observe = func(Exchange) {}
	}
	if p.fromGateway == nil {
		p.fromGateway = func(context.Context) bool { return true }
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	for _, a := range apis() {
		p.addRoutes(a)
	}
	return p
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.mux.ServeHTTP(w, r) }

// Close closes the idle connections to providers.
func (p *Proxy) Close() { p.transport.CloseIdleConnections() }

func (p *Proxy) addRoutes(a *api) {
	prefix := "/" + string(a.Name)
	for _, route := range a.routes {
		method, path, _ := strings.Cut(route, " ")
		method, metered := strings.CutSuffix(method, "!")
		p.mux.HandleFunc(method+" "+prefix+path, func(w http.ResponseWriter, r *http.Request) {
			p.newExchange(a, metered).serve(w, r)
		})
	}
	p.mux.HandleFunc(prefix+"/", func(w http.ResponseWriter, r *http.Request) {
		p.newExchange(a, false).write(w, http.StatusNotFound, "agento offers no "+r.Method+" "+strings.TrimPrefix(r.URL.Path, prefix)+" to agents.")
	})
}

// buffers are reused between streams. 32 KiB holds any usual event.
type buffers struct{ pool sync.Pool }

// Get implements httputil.BufferPool.
func (b *buffers) Get() []byte {
	if buf, ok := b.pool.Get().(*[]byte); ok {
		return *buf
	}
	return make([]byte, 32<<10)
}

// Put implements httputil.BufferPool.
func (b *buffers) Put(buf []byte) { b.pool.Put(&buf) }
