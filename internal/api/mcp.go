package api

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"

	"agento.host/agento/internal/chat"
	"agento.host/agento/internal/mcp"
)

// mcpPath is where the routes are served as tools of MCP.
const mcpPath = "/v1/mcp"

// newTools returns the tools. A tool without a route is a mistake in the program.
func (s *Server) newTools(publicURL string, log *slog.Logger) *mcp.Handler {
	public, err := url.Parse(publicURL)
	if err != nil {
		public = &url.URL{} // refused at the start of the program
	}
	routes := map[string]route{}
	for _, r := range s.routes() {
		routes[r.Method+" "+r.Path] = r
	}
	tools, err := mcp.New(mcp.Settings{
		API: s.http, Arguments: s.http.Arguments,
		Allows: func(ctx context.Context, pattern string) error {
			return s.checkScope(ctx, callerOf(ctx), routes[pattern])
		},
		Caller: func(ctx context.Context) string {
			who := callerOf(ctx)
			return string(who.AccountID) + " " + who.Name()
		},
		BehindProxy: func(r *http.Request) bool { return s.clients.trusts(parseAddress(r.RemoteAddr)) },
		PublicHost:  public.Host,
		Version:     s.version, Log: log,
	})
	if err != nil {
		panic(err)
	}
	return tools
}

// serveMCP serves the tools to the caller of a request.
func (s *Server) serveMCP(w http.ResponseWriter, r *http.Request) error {
	release, err := s.http.Hold(w, r, mcp.MaxBody)
	if err != nil {
		return err
	}
	defer release()
	return s.tools.Serve(w, r.WithContext(context.WithValue(r.Context(), sourceKey{}, chat.FromMCP)))
}
