package api_test

import (
	"bufio"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// serveExample starts a program of examples/ that listens, and returns its address. It ends
// with the test.
func serveExample(t *testing.T, cmd *exec.Cmd, env ...string) string {
	t.Helper()
	cmd.Env = append(append(os.Environ(), cmd.Env...), append(env, "PORT=0")...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	first, err := bufio.NewReader(out).ReadString('\n')
	port := regexp.MustCompile(`(?:port: |:)(\d+)`).FindStringSubmatch(first)
	if err != nil || port == nil {
		t.Fatalf("the program printed %q, %v", first, err)
	}
	return "http://127.0.0.1:" + port[1]
}

// buildExample returns a program of examples/ in Go.
func buildExample(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "agento.host/agento/examples/"+name).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return exec.CommandContext(t.Context(), program)
}

// send sends a request and returns the status and the body.
func send(t *testing.T, method, address, contentType, body string, headers ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// TestExampleChatBackends: the peer is the one who is signed in, whatever the page says.
func TestExampleChatBackends(t *testing.T) {
	for name, program := range map[string]func(*testing.T) *exec.Cmd{
		"Node": func(t *testing.T) *exec.Cmd {
			t.Helper()
			return runNode(t.Context(), t, nil, "../../examples/chat-backend.ts")
		},
		"Go": func(t *testing.T) *exec.Cmd {
			t.Helper()
			return buildExample(t, "chat-backend-go")
		},
	} {
		t.Run(name, func(t *testing.T) {
			env := newEnv(t, options{})
			who := env.newAccount("acme", "")
			agent := who.newAgent("A")
			variables := env.nodeEnv(who, agent)
			guest := strings.TrimPrefix(variables[3], "AGENTO_GUEST_KEY=")
			at := serveExample(t, program(t), append(variables, "SESSION=s1", "AGENTO_API_KEY="+guest)...)
			if status, _ := send(t, "POST", at+"/chat", "application/json", `{"message":"Hello"}`); status != http.StatusUnauthorized {
				t.Errorf("without a session: %d", status)
			}
			if status, _ := send(t, "POST", at+"/chat", "text/plain", `{"message":"Hello"}`, "Cookie", "session=s1"); status != http.StatusBadRequest {
				t.Errorf("as a form of another site: %d", status)
			}
			if status, text := send(t, "POST", at+"/chat", "application/json", `{"message":"Hello","peerId":"somebody else"}`, "Cookie", "a=b; session=s1"); status != http.StatusOK || text != "You said: Hello" {
				t.Errorf("%d %q", status, text)
			}
			if peer := who.do("GET", "/v1/agents/"+agent+"/chat/sessions", nil).expect(200).field("data.0.peerId"); peer != "customer-42" {
				t.Errorf("the peer is %q", peer)
			}
		})
	}
}

func TestExampleKnowledgeLoader(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	agent := who.newAgent("A")
	dir := t.TempDir()
	load := func(text string) string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "faq.md"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := runNode(t.Context(), t, env.nodeEnv(who, agent), "../../examples/knowledge-loader.ts", dir).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	if out := load("# Hours\n\nThe office opens at nine.\n\n" + strings.Repeat("Refunds take five days. ", 300)); !strings.HasPrefix(out, "faq.md: 4 stored") {
		t.Errorf("the program printed %q", out)
	}
	load("# Hours\n\nThe office opens at ten.\n")
	rows := who.do("GET", "/v1/knowledge?agentId="+agent, nil).expect(200)
	if rows.field("data.*") != "1" || !strings.Contains(rows.field("data.0.text"), "at ten") {
		t.Errorf("the knowledge is %s", rows.body)
	}
}

func TestExampleBot(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	agent := who.newAgent("A")
	at := serveExample(t, buildExample(t, "bot"), append(env.nodeEnv(who, agent), "WEBHOOK_TOKEN=w1")...)
	form := func(token, user, text string) string {
		return url.Values{"token": {token}, "user_id": {user}, "text": {text}}.Encode()
	}
	const forms = "application/x-www-form-urlencoded"
	if status, _ := send(t, "POST", at+"/webhook", forms, form("other", "u1", "Hello")); status != http.StatusForbidden {
		t.Errorf("with another token: %d", status)
	}
	if status, text := send(t, "POST", at+"/webhook", forms, form("w1", "u1", "Hello")); status != http.StatusOK || !strings.Contains(text, `"You said: Hello"`) {
		t.Errorf("%d %q", status, text)
	}
	if _, text := send(t, "POST", at+"/webhook", forms, form("w1", "", "Hello")); !strings.Contains(text, "cannot answer") {
		t.Errorf("without a user: %q", text)
	}
	if peer := who.do("GET", "/v1/agents/"+agent+"/chat/sessions", nil).expect(200).field("data.0.peerId"); peer != "u1" {
		t.Errorf("the peer is %q", peer)
	}
}
