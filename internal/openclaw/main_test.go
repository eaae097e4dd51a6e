package openclaw_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"agento.host/agento/internal/devmodel"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/openclaw/openclawtest"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

const (
	gatewayToken = "gateway-token-of-the-test"
	modelToken   = "model-token-of-the-test"
	toolsToken   = "tools-token-of-the-test"
)

// realGateway is a running OpenClaw with a scripted model and a Telegram server. All
// tests of this package share one, because a boot costs 15 s and 1 GB.
type realGateway struct {
	*openclawtest.Process
	agent openclaw.Agent
	model *devmodel.Server
	bot   *openclawtest.Telegram
	tools *toolServer
}

// toolServer is an MCP server that keeps the headers of its calls.
type toolServer struct {
	*httptest.Server
	mu      sync.Mutex
	headers []http.Header // of each request; guarded by mu
}

func newToolServer() *toolServer {
	s := &toolServer{}
	server := mcp.NewServer(&mcp.Implementation{Name: "tools", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "ping", Description: "answers"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "pong-of-the-tool"}}}, nil, nil
	})
	h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true})
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.headers = append(s.headers, r.Header.Clone())
		s.mu.Unlock()
		h.ServeHTTP(w, r)
	}))
	return s
}

// take returns the headers of the requests since the last call.
func (s *toolServer) take() []http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.headers
	s.headers = nil
	return all
}

var shared struct {
	sync.Mutex
	gateway *realGateway
	err     error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if g := shared.gateway; g != nil {
		g.Stop()
		_ = g.model.Close()
		g.bot.Close()
		g.tools.Close()
	}
	os.Exit(code)
}

// sharedGateway returns the shared gateway. The first call boots it.
func sharedGateway(t *testing.T) *realGateway {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.gateway == nil && shared.err == nil {
		shared.gateway, shared.err = bootGateway()
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log := shared.gateway.Log()
			t.Logf("the end of the gateway's output:\n%s", log[max(0, len(log)-3000):])
		}
	})
	return shared.gateway
}

func bootGateway() (*realGateway, error) {
	model, err := devmodel.Start(devmodel.Settings{})
	if err != nil {
		return nil, err
	}
	r := &realGateway{model: model, bot: openclawtest.NewTelegram(), tools: newToolServer()}
	r.agent = openclaw.Agent{
		ID:       "test",
		Token:    vault.NewSecret(gatewayToken),
		Model:    openclaw.Model{Provider: findProvider(provider.Anthropic), URL: model.URL(), Token: vault.NewSecret(modelToken)},
		MCP:      &openclaw.MCP{URL: r.tools.URL + "/tools", Token: vault.NewSecret(toolsToken)},
		Telegram: &openclaw.Telegram{Token: vault.NewSecret("1:bot"), URL: r.bot.URL},
		Env:      map[string]vault.Secret{"GREETING": vault.NewSecret("hello from the environment")},
	}
	spec, err := openclaw.Spec(r.agent)
	if err != nil {
		return nil, err
	}
	files := openclaw.WorkspaceFiles(openclaw.Content{
		Name: "Ada", SoulMD: "SOUL-TEXT", WorkflowMD: "WORKFLOW-TEXT",
		Rules: []openclaw.Rule{{Name: "refunds", Content: "# How refunds work\n\nRULE-TEXT"}},
	})
	files["workspace/MEMORY.md"] = []byte("MEMORY-TEXT")
	files["skills/greet/SKILL.md"] = []byte("---\nname: greet\ndescription: SKILL-ABOUT\n---\nSKILL-TEXT\n")
	r.Process, err = openclawtest.Start(context.Background(), spec, r.agent.Token, files)
	return r, err
}

// dialTo returns a Dial to a test server.
func dialTo(addr string) openclaw.Dial {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
}

func findProvider(name provider.Name) provider.Provider {
	p, _ := provider.Find(name)
	return p
}
