// Package agenttools serves the tools that agents call: MCP over streamable HTTP on the
// internal listener. An agent authenticates with a token of its own. The token gives
// access only to what that agent may read, and becomes invalid when the agent is
// deleted.
package agenttools

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/knowledge"
	"agento.host/agento/internal/vault"
)

// Settings of a Handler.
type Settings struct {
	Gateways  *gateway.Manager
	Knowledge *knowledge.Service
	Memory    *budget.Budget // of agents; nil: no limit
	Version   string
	Log       *slog.Logger
}

// maxBody is the longest request, in bytes. The longest question is far shorter.
const maxBody = 256 << 10

// Handler serves the tools. It is an http.Handler.
type Handler struct {
	gateways  *gateway.Manager
	knowledge *knowledge.Service
	memory    *budget.Budget
	version   string
	log       *slog.Logger
	mcp       http.Handler
}

// New returns a handler.
func New(s Settings) *Handler {
	h := &Handler{gateways: s.Gateways, knowledge: s.Knowledge, memory: s.Memory, version: s.Version, log: s.Log}
	// Stateless: any replica can answer any request, and no state of a deleted agent
	// remains.
	h.mcp = mcp.NewStreamableHTTPHandler(h.newServer, &mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true})
	return h
}

// callerKey is the context key of the gateway.Caller of a request. The MCP library
// passes only the request to newServer.
type callerKey struct{}

// ServeHTTP authenticates the agent and serves the request. It answers 401 without the
// token of an agent, and 429 or 503 to an agent that has too much open.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		http.Error(w, "the bearer token of an agent is required", http.StatusUnauthorized)
		return
	}
	caller, err := h.gateways.CallerOf(r.Context(), vault.NewSecret(token))
	if err != nil {
		if !fault.Is(err, fault.Unauthorized) {
			h.log.ErrorContext(r.Context(), "finding the agent of a tools token failed", "error", err)
		}
		http.Error(w, "no agent has this token", http.StatusUnauthorized)
		return
	}
	release, err := h.hold(r, caller)
	if err != nil {
		refuse(w, fault.From(err))
		return
	}
	defer release()
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	h.mcp.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, caller)))
}

// hold counts the connection and the body of a request for its agent.
// Faults: RateLimited; Unavailable.
func (h *Handler) hold(r *http.Request, caller gateway.Caller) (release func(), err error) {
	if err := budget.Claim(r.Context(), string(caller.AgentID), string(caller.AccountID)); err != nil {
		return nil, err
	}
	size := int64(maxBody)
	if r.ContentLength >= 0 {
		size = min(size, r.ContentLength)
	}
	return h.memory.Acquire(r.Context(), string(caller.AgentID), size)
}

func refuse(w http.ResponseWriter, f *fault.Fault) {
	w.Header().Set("Connection", "close")
	w.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter.Seconds())))
	status := http.StatusServiceUnavailable
	if f.Code == fault.RateLimited {
		status = http.StatusTooManyRequests
	}
	http.Error(w, f.Message, status)
}

// newServer returns a server with the tools of the request's agent. Tools take the
// agent from the token, never from the model's input.
func (h *Handler) newServer(r *http.Request) *mcp.Server {
	caller, ok := r.Context().Value(callerKey{}).(gateway.Caller)
	if !ok {
		return nil
	}
	server := mcp.NewServer(&mcp.Implementation{Name: "agento", Version: h.version}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: knowledge.ToolName, Description: knowledge.ToolDescription}, h.searchTool(caller))
	return server
}

type searchInput struct {
	Query string `json:"query" jsonschema:"what you want to know, in full words"`
	Limit int    `json:"limit,omitempty" jsonschema:"how many passages at most; 5 if not given, 20 at most"`
}

func (h *Handler) searchTool(caller gateway.Caller) mcp.ToolHandlerFor[searchInput, any] {
	return func(ctx context.Context, _ *mcp.CallToolRequest, in searchInput) (*mcp.CallToolResult, any, error) {
		text, err := h.search(ctx, caller, in)
		if err != nil {
			f := fault.From(err)
			switch {
			case f.Code == fault.Internal:
				h.log.ErrorContext(ctx, "an agent's knowledge search failed", "agent", caller.AgentID, "error", err)
			case f.NeedsOperator() && ctx.Err() == nil:
				h.log.WarnContext(ctx, "an agent's knowledge search failed", "agent", caller.AgentID, "error", err)
			}
			return &mcp.CallToolResult{IsError: true, Content: []mcp.Content{&mcp.TextContent{Text: f.Message}}}, nil, nil
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}, nil, nil
	}
}

// search turns a panic into an error, because the MCP library runs tools on its own
// goroutines, where a panic would end the server.
func (h *Handler) search(ctx context.Context, caller gateway.Caller, in searchInput) (text string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return h.knowledge.SearchTool(ctx, caller.AccountID, caller.AgentID, in.Query, in.Limit)
}
