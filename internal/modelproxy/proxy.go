// Package modelproxy is what every gateway calls in place of its model provider.
// It knows a gateway by its token, puts the account's real key in, streams both
// ways untouched, and counts tokens as they pass. It also owns the guard that
// keeps endpoints named by customers off the machine's own network.
package modelproxy

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"agento.host/agento/internal/vault"
)

// Resolver knows the agents by their tokens.
type Resolver interface {
	// Resolve returns where the calls of the agent with that token go; provider is
	// one of Anthropic, OpenAI and Google. It is asked for every call, so a new key
	// holds from the next one on.
	//
	// A fault becomes an error in the provider's shape, with the fault's message.
	// OpenClaw reads such messages: words like "unauthorized", "API key" with
	// "invalid", "expired" or a bare 401 or 403 bar the provider for a minute.
	// Faults: Unauthorized for an unknown token; Invalid if the agent has no key
	// for that provider; RateLimited and PlanLimit for a spent budget.
	Resolve(ctx context.Context, token vault.Secret, provider string) (Upstream, error)
}

// Upstream is where an agent's calls go.
type Upstream struct {
	AccountID string
	AgentID   string
	BaseURL   string       // "": the provider's own
	Key       vault.Secret // empty: the endpoint needs none
}

// Settings are what a Proxy needs. All but Resolver may be left out.
type Settings struct {
	Resolver Resolver
	Guard    Guard
	Meter    *Meter
	// Split takes a session key apart; nil is SplitSession.
	Split func(sessionKey string) (peer, session string)
	// Observe is told of every call when it has ended, for metrics and for the
	// agent's errors. It must not block.
	Observe func(Exchange)
	Log     *slog.Logger
}

// Exchange is one call that has ended.
type Exchange struct {
	AccountID  string // empty if the token is unknown
	AgentID    string
	Provider   string
	Model      string // as the gateway asked for it
	SessionKey string // OpenClaw's; empty if the call belongs to no session
	Status     int    // of the provider's answer; 0 if there was none
	KeyRefused bool   // the provider did not accept the agent's key
	Failure    string // what the gateway was told if the proxy answered itself
	Counts     Counts // zero if the provider gave no answer to count
	Began      time.Time
	FirstByte  time.Duration // until the provider's answer began; 0 if it did not
	Took       time.Duration
}

// Proxy is the http.Handler of the internal listener.
type Proxy struct {
	Settings
	transport *http.Transport
	mux       *http.ServeMux
	buffers   buffers
}

// New makes a proxy. Close it when its server is down.
func New(s Settings) *Proxy {
	if s.Split == nil {
		s.Split = SplitSession
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	p := &Proxy{Settings: s, transport: s.Guard.transport(), mux: http.NewServeMux()}
	for i := range providers {
		p.offer(&providers[i])
	}
	return p
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.mux.ServeHTTP(w, r) }

// Close lets go of the connections to providers that are kept for reuse.
func (p *Proxy) Close() { p.transport.CloseIdleConnections() }

func (p *Proxy) offer(to *provider) {
	prefix := "/" + to.name
	for _, call := range to.offers {
		method, path, _ := strings.Cut(call, " ")
		method, metered := strings.CutSuffix(method, "!")
		p.mux.HandleFunc(method+" "+prefix+path, func(w http.ResponseWriter, r *http.Request) {
			p.exchange(to, metered).serve(w, r)
		})
	}
	p.mux.HandleFunc(prefix+"/", func(w http.ResponseWriter, r *http.Request) {
		p.exchange(to, false).answer(w, http.StatusNotFound, "agento offers no "+r.Method+" "+strings.TrimPrefix(r.URL.Path, prefix)+" to agents.")
	})
}

// buffers are reused between streams; 32 KiB holds any usual event.
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
