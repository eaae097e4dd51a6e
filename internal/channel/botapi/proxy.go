// Package botapi stands between gateways and Telegram. A gateway calls it as if it were the
// Bot API, with a token that is worthless elsewhere; the proxy puts the bot's token into
// the call, and takes it out of what comes back. It sees every call for updates, so it
// knows whether the bot is connected, and lets a gateway have no updates but messages: the
// people who write to a bot reach the model and nothing else. While an agent sleeps the proxy
// asks for the updates itself, keeps them for the gateway, and has the agent woken.
package botapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/channel"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/netguard"
	"agento.host/agento/internal/vault"
)

// DefaultURL is Telegram's own Bot API server.
const DefaultURL = "https://api.telegram.org"

// Prefix is the path below which the proxy serves; see Path.
const Prefix = "/telegram/"

// Path returns the path of the Bot API of one agent's gateway.
func Path(id identity.AgentID) string { return Prefix + string(id) }

// Bot is the bot of an agent.
type Bot struct {
	Account     identity.AccountID
	Agent       identity.AgentID
	Gateway     int64        // agent.Agent.GatewayGeneration
	Token       vault.Secret // Telegram's
	Placeholder vault.Secret // what the gateway has in its place
	Wakes       int64        // how often the agent was woken
}

// number returns the bot's number, with which its tokens begin.
func (b Bot) number() string {
	number, _, _ := strings.Cut(b.Placeholder.Reveal(), ":")
	return number
}

// Resolver finds the bots of agents.
type Resolver interface {
	// ResolveBot returns the bot of an agent whose gateway calls with a token. The proxy
	// calls it for every call, so a new token of the bot is used from the next call on.
	// Faults: Unauthorized, if the token is not the gateway's; Conflict, if the bot cannot
	// be used until the agent's owner changes something. The Bot of a Conflict has the agent.
	ResolveBot(ctx context.Context, id identity.AgentID, token vault.Secret) (Bot, error)
}

// Reporter takes note of the states of channels.
type Reporter interface{ Report(channel.Report) }

// Settings are what New needs.
type Settings struct {
	Resolver Resolver
	Reporter Reporter
	Guard    netguard.Guard
	URL      string         // of another Bot API server, which may be in a private network; empty: DefaultURL
	Memory   *budget.Budget // of the messages that agents get; nil: no limit
	Log      *slog.Logger

	// Deliver returns when an agent's gateway may get messages, and keeps the agent awake until it
	// has taken them; nil: always.
	Deliver func(ctx context.Context, id identity.AgentID) error
	// Replied is told of an agent that writes a message; nil: nobody is told.
	Replied func(id identity.AgentID)

	// Sleepers, DB and Vault are needed for agents that sleep.
	Sleepers Sleepers // nil: none does
	DB       *database.DB
	Vault    *vault.Vault
}

// Proxy is the http.Handler for the Bot API calls of gateways, below Prefix.
type Proxy struct {
	resolver  Resolver
	base      string
	transport *http.Transport
	memory    *budget.Budget
	log       *slog.Logger
	deliver   func(ctx context.Context, id identity.AgentID) error
	replied   func(id identity.AgentID)
	mux       *http.ServeMux
	watches   *watches
	polls     *polls
	sleepers  Sleepers // nil: no agent sleeps
	keeper    *keeper  // nil if sleepers is
	listeners *listeners
}

// New returns a proxy. The caller closes it after its server.
func New(s Settings) (*Proxy, error) {
	if s.URL == "" {
		s.URL = DefaultURL
	} else {
		s.Guard.AllowPrivate = true
	}
	u, err := url.Parse(s.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" {
		return nil, fmt.Errorf("%q is not the address of a Bot API server, such as http://127.0.0.1:8081", s.URL)
	}
	p := &Proxy{
		resolver: s.Resolver, base: strings.TrimRight(s.URL, "/"), transport: s.Guard.Transport(), memory: s.Memory, log: s.Log,
		deliver: s.Deliver, replied: s.Replied, mux: http.NewServeMux(), watches: newWatches(s.Reporter), polls: newPolls(),
		sleepers: s.Sleepers, listeners: newListeners(),
	}
	if p.sleepers != nil {
		p.keeper = &keeper{s.DB, s.Vault, s.Log}
	}
	if p.deliver == nil {
		p.deliver = func(context.Context, identity.AgentID) error { return nil }
	}
	if p.replied == nil {
		p.replied = func(identity.AgentID) {}
	}
	p.mux.HandleFunc(Prefix+"{agent}/{bot}/{method}", p.serveMethod)
	p.mux.HandleFunc("GET "+Prefix+"{agent}/file/{bot}/{path...}", p.serveFile)
	return p, nil
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.mux.ServeHTTP(w, r) }

// Drain ends the calls for updates, which otherwise last as long as nobody writes. A
// gateway repeats its call.
func (p *Proxy) Drain() { p.polls.close() }

// Close closes the idle connections to Telegram.
func (p *Proxy) Close() { p.transport.CloseIdleConnections() }

// refusedMethods would take the bot's messages away from the agent, or the bot from this
// server.
var refusedMethods = map[string]string{
	"setwebhook": "agento asks for the bot's messages itself: a webhook would take them away.",
	"logout":     "The bot stays at the Bot API server that agento uses.",
	"close":      "The bot stays at the Bot API server that agento uses.",
}

func (p *Proxy) serveMethod(w http.ResponseWriter, r *http.Request) {
	method := strings.ToLower(r.PathValue("method"))
	bot, err := p.resolve(r)
	switch {
	case err != nil && method == methodGetUpdates && fault.Is(err, fault.Conflict):
		p.holdUnusable(w, r, bot, err)
	case err != nil:
		p.refuse(w, r, bot, err)
	case refusedMethods[method] != "":
		fail(w, http.StatusBadRequest, "Bad Request: "+refusedMethods[method])
	case method == methodGetUpdates:
		p.poll(w, r, bot)
	default:
		p.forward(w, r, bot, method)
	}
}

// resolve returns the bot of a call. Faults: as of Resolver.
func (p *Proxy) resolve(r *http.Request) (Bot, error) {
	token, ok := strings.CutPrefix(r.PathValue("bot"), "bot")
	if !ok {
		return Bot{}, fault.New(fault.Unauthorized, "The path has no token.")
	}
	return p.resolver.ResolveBot(r.Context(), identity.AgentID(r.PathValue("agent")), vault.NewSecret(token))
}

// refuse answers a call that cannot be made.
func (p *Proxy) refuse(w http.ResponseWriter, r *http.Request, bot Bot, err error) {
	switch f := fault.From(err); f.Code {
	case fault.Unauthorized:
		fail(w, http.StatusUnauthorized, "Unauthorized")
	case fault.Conflict:
		p.watches.of(bot).unusable(f.Message)
		fail(w, http.StatusConflict, f.Message)
	default:
		if r.Context().Err() == nil {
			p.log.ErrorContext(r.Context(), "a call to Telegram could not be prepared", "agent", r.PathValue("agent"), "error", err)
		}
		fail(w, http.StatusInternalServerError, "Internal Server Error")
	}
}

// fail answers as the Bot API does.
func fail(w http.ResponseWriter, status int, description string) {
	writeJSON(w, status, answer{ErrorCode: status, Description: description})
}

// answer is the answer to a call of the Bot API.
type answer struct {
	OK          bool            `json:"ok"`
	Result      json.RawMessage `json:"result,omitempty"`
	ErrorCode   int             `json:"error_code,omitempty"`
	Description string          `json:"description,omitempty"`
	Parameters  *parameters     `json:"parameters,omitempty"`
}

type parameters struct {
	RetryAfter int64 `json:"retry_after,omitempty"` // seconds
}

// retryAfter returns how long Telegram asks to wait; 0: it does not.
func (a answer) retryAfter() time.Duration {
	if a.Parameters == nil {
		return 0
	}
	return time.Duration(max(0, min(a.Parameters.RetryAfter, int64(maxRetryAfter/time.Second)))) * time.Second
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // of types that can be encoded
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text) // the gateway may have gone
}

// maxError is how much is read of an answer that says why a call failed.
const maxError = 64 << 10

// forward makes a call of a gateway with the bot's token, and passes the answer on.
func (p *Proxy) forward(w http.ResponseWriter, r *http.Request, bot Bot, method string) {
	// The answer may come while the transport looks for the end of a long request. Without this the
	// answer's first byte would close the request's body, which breaks the answer off.
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		p.log.DebugContext(r.Context(), "a long file may have to be sent to Telegram again", "agent", bot.Agent, "error", err)
	}
	res, err := p.call(bot, r)
	if err != nil {
		p.disconnect(r, bot, err)
	}
	defer func() { _ = res.Body.Close() }()
	watch := p.watches.of(bot)
	if res.StatusCode < http.StatusMultipleChoices {
		watch.succeeded(method)
		if delivers(method) {
			p.replied(bot.Agent)
		}
		p.copy(w, res, bot)
		return
	}
	failed := readFailure(res)
	watch.failed(method, failed)
	failed.Description = bot.mask(failed.Description)
	writeJSON(w, failed.ErrorCode, failed)
}

// serveFile downloads a file that somebody has sent to the bot.
func (p *Proxy) serveFile(w http.ResponseWriter, r *http.Request) {
	bot, err := p.resolve(r)
	if err != nil {
		p.refuse(w, r, bot, err)
		return
	}
	res, err := p.send(r.Context(), bot, http.MethodGet, p.base+"/file/bot"+bot.Token.Reveal()+"/"+escapePath(r.PathValue("path")), "", nil, 0)
	if err != nil {
		p.disconnect(r, bot, err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		failed := readFailure(res)
		failed.Description = bot.mask(failed.Description)
		writeJSON(w, failed.ErrorCode, failed)
		return
	}
	p.copy(w, res, bot)
}

func escapePath(path string) string { return (&url.URL{Path: path}).EscapedPath() }

// disconnect ends a call that did not reach Telegram as the network would: a gateway knows
// which calls may be repeated then.
func (p *Proxy) disconnect(r *http.Request, bot Bot, err error) {
	if r.Context().Err() == nil {
		p.watches.of(bot).unreachable(err)
	}
	panic(http.ErrAbortHandler)
}

// copy passes a successful answer on, without the bot's token.
func (p *Proxy) copy(w http.ResponseWriter, res *http.Response, bot Bot) {
	if kind := res.Header.Get("Content-Type"); kind != "" {
		w.Header().Set("Content-Type", kind)
	}
	w.WriteHeader(res.StatusCode)
	if _, err := io.Copy(w, bot.maskReader(res.Body)); err != nil {
		panic(http.ErrAbortHandler) // the gateway must not take a part for the whole
	}
}

// errBadToken is the error for a token that cannot be sent.
var errBadToken = errors.New("the bot's token cannot be part of an address")

// maxBuffered is the longest request that is read before it is sent, so that it can be
// repeated if Telegram has closed the connection meanwhile. Messages are shorter, files are
// longer.
const maxBuffered = 64 << 10

// call makes a gateway's call of a method with the bot's token.
func (p *Proxy) call(bot Bot, r *http.Request) (*http.Response, error) {
	target := p.base + "/bot" + bot.Token.Reveal() + "/" + url.PathEscape(r.PathValue("method"))
	if r.URL.RawQuery != "" {
		target += "?" + r.URL.RawQuery
	}
	var body io.Reader = r.Body
	if r.ContentLength >= 0 && r.ContentLength <= maxBuffered {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, errors.New("the gateway's request ended early")
		}
		body = bytes.NewReader(text)
	}
	return p.send(r.Context(), bot, r.Method, target, r.Header.Get("Content-Type"), body, r.ContentLength)
}

// send makes a request. Errors do not contain the token.
func (p *Proxy) send(ctx context.Context, bot Bot, method, target, contentType string, body io.Reader, length int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, errBadToken
	}
	req.ContentLength = length
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	// RoundTrip follows no redirect, which would carry the token to another host.
	res, err := p.transport.RoundTrip(req)
	if err != nil {
		return nil, errors.New(bot.mask(err.Error()))
	}
	return res, nil
}

// readFailure reads an answer that is not a success. What is no answer of the Bot API, such
// as a proxy's page, is described by its status.
func readFailure(res *http.Response) answer {
	text, err := io.ReadAll(io.LimitReader(res.Body, maxError))
	var a answer
	if err != nil || json.Unmarshal(text, &a) != nil || a.OK || a.Description == "" {
		a = answer{Description: fmt.Sprintf("the server answered with HTTP status %d", res.StatusCode)}
	}
	a.Result = nil
	if a.ErrorCode = res.StatusCode; a.ErrorCode < http.StatusBadRequest { // a redirect
		a.ErrorCode = http.StatusBadGateway
	}
	return a
}
