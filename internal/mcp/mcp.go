// Package mcp is the door through which agents call back: the tools of the control
// plane, spoken as MCP over streamable HTTP on the internal listener. An agent is
// known by a token of its own, which reaches only what that agent may see and dies
// with it.
package mcp

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/knowledge"
	"agento.host/agento/internal/vault"
)

// Settings are the rooms that the tools lead to.
type Settings struct {
	Gateways  *gateway.Manager
	Knowledge *knowledge.Service
	Version   string
	Log       *slog.Logger
}

// Handler serves the tools. It is an http.Handler.
type Handler struct {
	Settings
	inner http.Handler
}

// New makes the door.
func New(s Settings) *Handler {
	h := &Handler{Settings: s}
	// Each request stands alone, so that any replica can answer it and nothing is
	// kept of an agent that is gone.
	h.inner = mcp.NewStreamableHTTPHandler(h.serverFor, &mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true})
	return h
}

type caller struct{}

// ServeHTTP answers 401 to everybody without an agent's token.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		http.Error(w, "an agent's token is needed", http.StatusUnauthorized)
		return
	}
	who, err := h.Gateways.CallerOf(r.Context(), vault.NewSecret(token))
	if err != nil {
		if !fault.Is(err, fault.Unauthorized) {
			h.Log.ErrorContext(r.Context(), "finding the agent of a tools token failed", "error", err)
		}
		http.Error(w, "this token belongs to no agent", http.StatusUnauthorized)
		return
	}
	h.inner.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), caller{}, who)))
}

// serverFor offers the tools of one agent; no tool takes an agent's id from the
// model.
func (h *Handler) serverFor(r *http.Request) *mcp.Server {
	who, ok := r.Context().Value(caller{}).(gateway.Caller)
	if !ok {
		return nil
	}
	server := mcp.NewServer(&mcp.Implementation{Name: "agento", Version: h.Version}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: knowledge.ToolName, Description: knowledge.ToolDescription}, h.searchFor(who))
	return server
}

type searchInput struct {
	Query string `json:"query" jsonschema:"what you want to know, in full words"`
	Limit int    `json:"limit,omitempty" jsonschema:"how many passages at most; 5 if not given, 20 at most"`
}

func (h *Handler) searchFor(who gateway.Caller) mcp.ToolHandlerFor[searchInput, any] {
	return func(ctx context.Context, _ *mcp.CallToolRequest, in searchInput) (*mcp.CallToolResult, any, error) {
		text, err := h.search(ctx, who, in)
		if err != nil {
			f := fault.From(err)
			if f.Code == fault.Internal {
				h.Log.ErrorContext(ctx, "an agent's knowledge search failed", "agent", who.AgentID, "error", err)
			}
			return &mcp.CallToolResult{IsError: true, Content: []mcp.Content{&mcp.TextContent{Text: f.Message}}}, nil, nil
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}, nil, nil
	}
}

// search turns a panic into an error: tools run on goroutines of the protocol's,
// where nobody else would stop it before it ends the whole server.
func (h *Handler) search(ctx context.Context, who gateway.Caller, in searchInput) (text string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return h.Knowledge.SearchTool(ctx, string(who.AccountID), string(who.AgentID), in.Query, in.Limit)
}
