// Package mcp serves the public API as tools of the Model Context Protocol, for agents and
// editors that manage agents: MCP over streamable HTTP on /v1/mcp.
//
// A tool is a route of the API (tools.go). Its call is a request to that route in this
// process, with the caller of the MCP request, so that scopes, plans, limits and checks are
// those of the route. What agents themselves call is package agenttools.
package mcp

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/rest"
)

// Settings of a Handler.
type Settings struct {
	// API serves the requests of tools. Their context is that of the MCP request, with its
	// caller.
	API http.Handler
	// Arguments returns the arguments of a route.
	Arguments func(method, path string) (rest.Arguments, error)
	// Allows returns nil if the caller of a request may use a route, by its pattern.
	Allows func(ctx context.Context, pattern string) error
	// Caller names the caller of a request: no two have the same name.
	Caller func(context.Context) string
	// PublicHost is the host at which clients reach the server, as the header Host has it. Empty
	// means that it is not known.
	PublicHost string
	// BehindProxy reports whether a request comes from a proxy that the operator trusts. Nil
	// means that none does.
	BehindProxy func(*http.Request) bool

	Version string
	Log     *slog.Logger
}

// Handler serves the tools to authenticated callers.
type Handler struct {
	settings Settings
	tools    map[string]*boundTool
	server   *mcp.Server
	http     http.Handler
	calls    calls
}

// New returns a handler. It fails if a tool names a route that does not exist.
func New(s Settings) (*Handler, error) {
	h := &Handler{settings: s, tools: map[string]*boundTool{}, calls: calls{running: map[callID]context.CancelCauseFunc{}}}
	h.server = mcp.NewServer(&mcp.Implementation{Name: "agento", Title: "agento", Version: s.Version}, &mcp.ServerOptions{
		Instructions: "Manages the agents of one agento account. Ids come from list_agents and list_swarms.",
		Capabilities: &mcp.ServerCapabilities{Tools: &mcp.ToolCapabilities{}},
	})
	for _, t := range tools() {
		bound, err := bind(t, s)
		if err != nil {
			return nil, fmt.Errorf("the tool %s: %w", t.name, err)
		}
		h.tools[t.name] = bound
		h.server.AddTool(bound.describe(), h.call(bound))
	}
	h.server.AddReceivingMiddleware(h.listAllowed)
	// Stateless: a server that is started again goes on with every client. Whose call is
	// cancelled is known by the session's name alone.
	h.http = mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return h.server }, &mcp.StreamableHTTPOptions{
		Stateless: true, DisableLocalhostProtection: true, MaxRequestBodyBytes: -1, // checkOrigin and MaxBody do it
	})
	return h, nil
}

// MaxBody is the longest message, in bytes. It has room for the arguments of every tool.
const MaxBody = 8 << 20

// The headers of MCP.
const (
	sessionHeader = "Mcp-Session-Id"
	versionHeader = "Mcp-Protocol-Version"
)

// connectionEndsCall is the first version of MCP in which a client cancels a call by closing
// its connection. Before, that meant nothing.
const connectionEndsCall = "2026-07-28"

// cancelDelay is how long after the end of its connection a call can still be cancelled in an
// older version of MCP: clients close the connection and say at the same time why.
const cancelDelay = 3 * time.Second

// message is what this package reads of a JSON-RPC message.
type message struct {
	Method string          `json:"method"`
	ID     json.RawMessage `json:"id"`
	Params struct {
		RequestID json.RawMessage `json:"requestId"`
	} `json:"params"`
}

// requestKey is the context key of the HTTP request of a message, a *request.
type requestKey struct{}

// request is the HTTP request of one message.
type request struct {
	ctx context.Context // ends with the connection or soon after it, and when the call is cancelled
	// endsTurn is true if a closed connection cancels the call.
	endsTurn bool
}

// Serve serves a request whose caller is authenticated and whose body is bounded.
// Faults: Forbidden, of a web page; Invalid; TooLarge.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request) error {
	if err := h.checkOrigin(r); err != nil {
		return err
	}
	session := h.settings.Caller(r.Context()) + " " + r.Header.Get(sessionHeader)
	named := r.Header.Get(sessionHeader) != ""
	if r.Method == http.MethodDelete && named {
		h.calls.cancelAll(session)
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if r.Method != http.MethodPost {
		h.http.ServeHTTP(w, r) // says which methods there are
		return nil
	}
	body, err := io.ReadAll(r.Body)
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		return fault.New(fault.TooLarge, "The message is too long. Send at most %d bytes.", tooLong.Limit)
	}
	if err != nil {
		return fault.New(fault.Invalid, "The body could not be read to its end. Send the message again.").Because(err)
	}
	if bytes.HasPrefix(bytes.TrimSpace(body), []byte("[")) {
		return fault.New(fault.Invalid, "Send one JSON-RPC message at a time: batches are not part of MCP any more.")
	}
	var m message
	_ = json.Unmarshal(body, &m) // the library says what is wrong with it
	connection := r.Context()
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(connection))
	defer cancel(nil)
	endsTurn := r.Header.Get(versionHeader) >= connectionEndsCall
	defer context.AfterFunc(connection, func() {
		if endsTurn || !named {
			cancel(connection.Err())
			return
		}
		time.AfterFunc(cancelDelay, func() { cancel(connection.Err()) })
	})()
	switch {
	case m.Method == "initialize":
		w.Header().Set(sessionHeader, rand.Text())
	case m.Method == "notifications/cancelled" && named:
		h.calls.cancel(callID{session, string(m.Params.RequestID)})
	case m.Method == "subscriptions/listen":
		return fault.New(fault.NotFound, "There is nothing to listen to: the tools of a key do not change by themselves.")
	case len(m.ID) > 0 && named:
		defer h.calls.add(callID{session, string(m.ID)}, cancel)()
	}
	in := &request{ctx: ctx, endsTurn: endsTurn}
	r = r.WithContext(context.WithValue(connection, requestKey{}, in))
	r.Body = io.NopCloser(bytes.NewReader(body))
	h.http.ServeHTTP(w, r)
	return nil
}

// listAllowed leaves the tools out of a list that the caller may not use.
func (h *Handler) listAllowed(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
		result, err := next(ctx, method, req)
		list, ok := result.(*mcp.ListToolsResult)
		if err != nil || !ok {
			return result, err
		}
		out := *list // the tools are those of every caller
		out.Tools = []*mcp.Tool{}
		for _, t := range tools() {
			i := slices.IndexFunc(list.Tools, func(listed *mcp.Tool) bool { return listed.Name == t.name })
			if i < 0 {
				continue
			}
			err := h.settings.Allows(ctx, t.pattern)
			switch {
			case err == nil:
				out.Tools = append(out.Tools, list.Tools[i])
			case !fault.Is(err, fault.Forbidden) && !fault.Is(err, fault.PlanLimit):
				return nil, err
			}
		}
		return &out, nil
	}
}

// checkOrigin refuses requests of web pages that could reach this server in the name of its
// user: those of other sites, and those whose site resolves to this machine (DNS rebinding).
// Faults: Forbidden.
func (h *Handler) checkOrigin(r *http.Request) error {
	origin := r.Header.Get("Origin")
	if origin != "" && (!isLoopbackOrigin(origin) || !isLoopbackHost(r.Host)) {
		return fault.New(fault.Forbidden, "Web pages cannot use MCP here. Use a client that runs outside of a page, or one whose page and server are both on this machine.")
	}
	if arrivesAtLoopback(r) && !isLoopbackHost(r.Host) && !h.isPublic(r) {
		return fault.New(fault.Forbidden, "The header Host does not name this machine. Call the server as localhost. If the name is that of a proxy in front of it, start the server with --public-url or --trusted-proxies.")
	}
	return nil
}

// isPublic reports whether a request comes through a proxy: it names the public address of the
// server, or comes from a proxy that the operator trusts.
func (h *Handler) isPublic(r *http.Request) bool {
	if h.settings.PublicHost != "" && strings.EqualFold(r.Host, h.settings.PublicHost) {
		return true
	}
	return h.settings.BehindProxy != nil && h.settings.BehindProxy(r)
}

// errCancelled is why a call ends that its client has cancelled.
var errCancelled = errors.New("the client cancelled the call") //nolint:gochecknoglobals // a value to compare with

// pathOf splits the pattern of a route.
func pathOf(pattern string) (method, path string) {
	method, path, _ = strings.Cut(pattern, " ")
	return method, path
}
