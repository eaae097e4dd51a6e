package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/identity"
)

// withKey is a transport that sends a key.
type withKey struct{ key string }

// RoundTrip implements http.RoundTripper.
func (t withKey) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Api-Key", t.key)
	return http.DefaultTransport.RoundTrip(r)
}

// tools returns a session of MCP with the key of the caller.
func (c *caller) tools(t *testing.T, o *mcp.ClientOptions) *mcp.ClientSession {
	t.Helper()
	transport := &mcp.StreamableClientTransport{Endpoint: c.env.URL + "/v1/mcp", HTTPClient: &http.Client{Transport: withKey{c.key}}, MaxRetries: -1}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, o).Connect(t.Context(), transport, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

func toolNames(t *testing.T, s *mcp.ClientSession) []string {
	t.Helper()
	list, err := s.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, tool := range list.Tools {
		names = append(names, tool.Name)
	}
	return names
}

// callTool calls a tool and returns the texts of its result.
func callTool(t *testing.T, s *mcp.ClientSession, name string, args map[string]any) (texts []string, failed bool) {
	t.Helper()
	result, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: name, Arguments: args})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for _, c := range result.Content {
		texts = append(texts, c.(*mcp.TextContent).Text)
	}
	return texts, result.IsError
}

// TestToolsManageAnAgent: a client of MCP creates, fills, uses and deletes an agent.
func TestToolsManageAnAgent(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	s := who.tools(t, nil)
	do := func(name string, args map[string]any) []string {
		t.Helper()
		texts, failed := callTool(t, s, name, args)
		if failed {
			t.Fatalf("%s: %v", name, texts)
		}
		return texts
	}
	var created struct{ Data struct{ ID, Status string } }
	if err := json.Unmarshal([]byte(do("create_agent", map[string]any{"name": "A", "secrets": map[string]any{"anthropicApiKey": "sk-ant-test"}})[0]), &created); err != nil {
		t.Fatal(err)
	}
	agent := created.Data.ID
	do("start_agent", map[string]any{"agentId": agent})
	if text := do("list_agents", map[string]any{"search": "a", "limit": 1})[0]; !strings.Contains(text, agent) || !strings.Contains(text, `"total":1`) {
		t.Errorf("the list is %s", text)
	}
	if text := do("add_knowledge", map[string]any{"agentId": agent, "chunks": []any{map[string]any{"text": "The office opens at nine.", "source": "faq.md"}}})[0]; !strings.Contains(text, `"stored":1`) {
		t.Errorf("knowledge: %s", text)
	}
	if text := do("search_knowledge", map[string]any{"agentId": agent, "q": "When does the office open?"})[0]; !strings.Contains(text, "at nine") {
		t.Errorf("found: %s", text)
	}
	answer := do("chat", map[string]any{"agentId": agent, "message": "Hello", "peerId": "p"})
	var about struct{ SessionID, TurnID string }
	if err := json.Unmarshal([]byte(answer[1]), &about); err != nil || answer[0] != "You said: Hello" {
		t.Fatalf("the answer is %q, %v", answer, err)
	}
	do("chat", map[string]any{"agentId": agent, "message": "Again", "sessionId": about.SessionID})
	if text := do("list_messages", map[string]any{"agentId": agent, "sessionId": about.SessionID})[0]; strings.Count(text, `"role":"user"`) != 2 {
		t.Errorf("the history is %s", text)
	}
	env.Driver.Print(identity.AgentID(agent), "a line")
	if text := do("read_logs", map[string]any{"agentId": agent, "tail": 1})[0]; !strings.Contains(text, "a line") {
		t.Errorf("the log is %s", text)
	}
	do("put_rule", map[string]any{"agentId": agent, "name": "refund-requests", "content": "# Refunds"})
	if text := do("get_workflow", map[string]any{"agentId": agent})[0]; !strings.Contains(text, "refund-requests.md") {
		t.Errorf("the workflow is %s", text)
	}
	do("stop_agent", map[string]any{"agentId": agent})
	if texts, failed := callTool(t, s, "chat", map[string]any{"agentId": agent, "message": "Hello"}); !failed || !strings.Contains(texts[0], "agent_not_running") || !strings.Contains(texts[0], "requestId: req_") {
		t.Errorf("chat with a stopped agent: %q", texts)
	}
	do("delete_agent", map[string]any{"agentId": agent})
}

// TestToolsAreThoseOfTheKey: a tool that the key's scopes do not allow is not listed, and
// refused.
func TestToolsAreThoseOfTheKey(t *testing.T) {
	env := newEnv(t, options{})
	all := env.newAccount("acme", "")
	every := toolNames(t, all.tools(t, nil))
	agent := all.newAgent("A")
	seen := map[string]bool{}
	text, err := os.ReadFile("../../docs/mcp.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	for _, scope := range access.AllScopes().Names() {
		s := env.newKey(all.account, access.NewScopes(access.Scope(scope)), access.MaxRateLimit).tools(t, nil)
		listed := toolNames(t, s)
		if row := fmt.Sprintf("| `%s` | `%s` |", scope, strings.Join(slices.DeleteFunc(slices.Clone(listed), func(name string) bool { return name == "get_account" }), "` `")); !strings.Contains(page, row) {
			t.Errorf("docs/mcp.md lacks the row %s", row)
		}
		for _, name := range every {
			if slices.Contains(listed, name) {
				seen[name] = true
				continue
			}
			texts, failed := callTool(t, s, name, minimalArguments(name, agent))
			if !failed || !strings.Contains(texts[0], "lacks the scope") {
				t.Errorf("%s with the scope %s: %q", name, scope, texts)
			}
		}
	}
	if len(seen) != len(every) {
		t.Errorf("%d of %d tools are listed for some scope", len(seen), len(every))
	}
	other := env.newAccount("other", "")
	for _, name := range []string{"chat", "delete_agent"} {
		texts, failed := callTool(t, other.tools(t, nil), name, minimalArguments(name, agent))
		if !failed || !strings.Contains(texts[0], "not_found") {
			t.Errorf("%s of another account's agent: %q", name, texts)
		}
	}
}

// minimalArguments has what the path of a tool needs.
func minimalArguments(tool, agent string) map[string]any {
	args := map[string]any{}
	for _, name := range map[string][]string{
		"get_swarm": {"swarmId"}, "update_swarm": {"swarmId"}, "delete_swarm": {"swarmId"}, "get_skill": {"skillId"}, "uninstall_skill": {"agentId", "skillId"},
		"get_rule": {"agentId", "name"}, "put_rule": {"agentId", "name"}, "delete_rule": {"agentId", "name"}, "get_turn": {"agentId", "turnId"}, "cancel_turn": {"agentId", "turnId"},
		"list_agents": {}, "create_agent": {}, "get_account": {}, "browse_skills": {}, "list_swarms": {}, "create_swarm": {}, "list_knowledge": {}, "search_knowledge": {}, "delete_knowledge": {}, "add_knowledge": {},
	}[tool] {
		args[name] = agent
	}
	if !strings.Contains(tool, "swarm") && tool != "get_skill" && !slices.Contains([]string{"list_agents", "create_agent", "get_account", "browse_skills", "list_knowledge", "search_knowledge", "delete_knowledge", "add_knowledge"}, tool) {
		args["agentId"] = agent
	}
	return args
}

// TestChatToolReportsProgressAndIsCancelled: a long answer is reported while it comes, and
// the end of the call ends the turn.
func TestChatToolReportsProgressAndIsCancelled(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	agent := who.newAgent("A")
	env.Gateways.SetScript(func(ctx context.Context, _ *apitest.Turn, send apitest.Send) {
		_ = send("The beginning")
		<-ctx.Done()
	})
	for _, version := range []string{"2025-06-18", ""} { // of the client; the newest cancels by closing its connection
		t.Run("version "+version, func(t *testing.T) {
			progress := make(chan string, 100)
			o := &mcp.ClientOptions{ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) { progress <- r.Params.Message }}
			s := who.tools(t, o)
			if version != "" {
				transport := &mcp.StreamableClientTransport{Endpoint: env.URL + "/v1/mcp", HTTPClient: &http.Client{Transport: withKey{who.key}}, MaxRetries: -1}
				old, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, o).Connect(t.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: version})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = old.Close() })
				s = old
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var call sync.WaitGroup
			defer call.Wait()
			call.Go(func() {
				params := &mcp.CallToolParams{Name: "chat", Arguments: map[string]any{"agentId": agent, "message": "Hello"}}
				params.SetProgressToken("p1")
				if _, err := s.CallTool(ctx, params); err == nil {
					t.Error("the cancelled call succeeded")
				}
			})
			if text := <-progress; text != "The beginning" {
				t.Errorf("the progress is %q", text)
			}
			cancel()
			apitest.WaitUntil(t, "the end of the turn", func() bool {
				return who.do("GET", "/v1/agents/"+agent+"/chat/turns?limit=1", nil).expect(200).field("data.0.state") == "cancelled"
			})
		})
	}
}

// TestChatToolGoesOnWithoutItsClient: in older versions of MCP a broken connection is no
// cancellation.
func TestChatToolGoesOnWithoutItsClient(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	agent := who.newAgent("A")
	begun, release := make(chan struct{}), make(chan struct{})
	env.Gateways.SetScript(func(_ context.Context, _ *apitest.Turn, send apitest.Send) {
		close(begun)
		<-release
		_ = send("The end")
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req := who.mcpRequest(ctx, "chat", map[string]any{"agentId": agent, "message": "Hello"})
	req.Header.Set("Mcp-Protocol-Version", "2025-06-18")
	var call sync.WaitGroup
	call.Go(func() {
		if res, err := http.DefaultClient.Do(req); err == nil {
			_ = res.Body.Close()
		}
	})
	<-begun
	cancel()
	call.Wait()
	close(release)
	apitest.WaitUntil(t, "the end of the turn", func() bool {
		return who.do("GET", "/v1/agents/"+agent+"/chat/turns?limit=1", nil).expect(200).field("data.0.state") == "done"
	})
}

// mcpRequest returns the request of a call of a tool, without a session.
func (c *caller) mcpRequest(ctx context.Context, tool string, args map[string]any, headers ...string) *http.Request {
	body := map[string]any{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": map[string]any{"name": tool, "arguments": args}}
	return c.request(ctx, "POST", "/v1/mcp", body, append(headers, "Accept", "application/json, text/event-stream")...)
}

// TestAnotherKeyCancelsNothing: the name of a session is worth nothing without its key.
func TestAnotherKeyCancelsNothing(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	agent := who.newAgent("A")
	begun, release := make(chan struct{}), make(chan struct{})
	env.Gateways.SetScript(func(_ context.Context, _ *apitest.Turn, send apitest.Send) {
		close(begun)
		<-release
		_ = send("The end")
	})
	result := make(chan string, 1)
	go func() {
		res, err := http.DefaultClient.Do(who.mcpRequest(context.Background(), "chat", map[string]any{"agentId": agent, "message": "Hello"}, "Mcp-Session-Id", "s1"))
		if err != nil {
			result <- err.Error()
			return
		}
		defer func() { _ = res.Body.Close() }()
		text := make([]byte, 1<<16)
		n, _ := res.Body.Read(text)
		result <- string(text[:n])
	}()
	<-begun
	other := env.newKey(who.account, access.AllScopes(), access.MaxRateLimit)
	cancelled := map[string]any{"jsonrpc": "2.0", "method": "notifications/cancelled", "params": map[string]any{"requestId": 1}}
	headers := []string{"Mcp-Session-Id", "s1", "Accept", "application/json, text/event-stream"}
	other.do("POST", "/v1/mcp", cancelled, headers...).expect(202)
	other.do("DELETE", "/v1/mcp", nil, headers...).expect(204)
	close(release)
	if text := <-result; !strings.Contains(text, "The end") {
		t.Errorf("the result is %q", text)
	}
}

// TestMCPIsNotForWebPages: neither for those of other sites, nor for those whose name
// resolves to this machine.
func TestMCPIsNotForWebPages(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	for _, c := range []struct {
		host, origin string
		status       int
	}{
		{"", "", 200},
		{"localhost:1", "http://localhost:5173", 200},
		{"", "https://evil.example.com", 403},
		{"evil.example.com", "http://evil.example.com", 403},
		{"evil.example.com", "", 403},
		{"", "null", 403},
	} {
		req := who.mcpRequest(t.Context(), "get_account", nil)
		if req.Host = c.host; c.origin != "" {
			req.Header.Set("Origin", c.origin)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != c.status {
			t.Errorf("host %q, origin %q: status %d, want %d", c.host, c.origin, res.StatusCode, c.status)
		}
	}
}

// TestMCPBehindAProxyOfThisMachine: a proxy passes the name of the server on.
func TestMCPBehindAProxyOfThisMachine(t *testing.T) {
	for name, o := range map[string]options{
		"trusted": {Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
		"public":  {PublicURL: "https://agents.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			req := newEnv(t, o).newAccount("acme", "").mcpRequest(t.Context(), "get_account", nil)
			req.Host = "agents.example.com"
			req.Header.Set("Authorization", "Bearer "+req.Header.Get("X-Api-Key"))
			req.Header.Del("X-Api-Key")
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if res.StatusCode != http.StatusOK {
				t.Errorf("status %d", res.StatusCode)
			}
		})
	}
}

// TestMCPKeepsTheRulesOfTheAPI: keys, rate limits, and what is wrong with a call.
func TestMCPKeepsTheRulesOfTheAPI(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	accept := []string{"Accept", "application/json, text/event-stream"}
	list := map[string]any{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
	(&caller{env: env}).do("POST", "/v1/mcp", list, accept...).expectError(401, "unauthorized")
	slow := env.newKey(who.account, access.AllScopes(), 2)
	for range 2 {
		slow.do("POST", "/v1/mcp", list, accept...).expect(200)
	}
	slow.do("POST", "/v1/mcp", list, accept...).expectError(429, "rate_limited")
	who.do("POST", "/v1/mcp", []any{list}, accept...).expectError(400, "invalid_request")
	who.do("GET", "/v1/mcp", nil, "Accept", "text/event-stream").expect(405)

	s := who.tools(t, nil)
	agent := who.newAgent("A")
	for name, c := range map[string]struct {
		args map[string]any
		want string
	}{
		"get_agent":    {map[string]any{"agentId": ".."}, "agentId"},
		"update_agent": {map[string]any{"agentId": agent, "name": ""}, "name"},
		"stop_agent":   {nil, "agentId"},
		"list_agents":  {map[string]any{"limit": 0}, "limit"},
		"chat":         {map[string]any{"agentId": agent, "message": "x", "onDisconnect": "cancel"}, "has no argument"},
		"read_logs":    {map[string]any{"agentId": agent, "lines": 5}, "tail"},
	} {
		if texts, failed := callTool(t, s, name, c.args); !failed || !strings.Contains(texts[0], c.want) {
			t.Errorf("%s %v: %q", name, c.args, texts)
		}
	}
}

// TestMCPConformance runs the scenarios of the official conformance suite that apply to a
// server of tools.
func TestMCPConformance(t *testing.T) {
	dir := os.Getenv("AGENTO_MCP_CONFORMANCE") // with node_modules; see make chaos-mcp
	if dir == "" {
		t.Skip("run it with make chaos-mcp")
	}
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("X-Api-Key", who.key) // the suite has no way to send it
		env.Server.ServeHTTP(w, r)
	}))
	defer front.Close()
	for _, scenario := range []string{"server-initialize", "ping", "tools-list", "server-sse-multiple-streams", "dns-rebinding-protection"} {
		t.Run(scenario, func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), "node", filepath.Join(dir, "node_modules/@modelcontextprotocol/conformance/dist/index.js"),
				"server", "--url", front.URL+"/v1/mcp", "--scenario", scenario, "--output-dir", t.TempDir()).CombinedOutput()
			if err != nil || strings.Contains(string(out), "FAILURE") || strings.Contains(string(out), "WARNING") {
				t.Errorf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}
