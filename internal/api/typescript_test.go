package api_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/api"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/identity"
)

// TestTypeScriptTypesAreCurrent: the types of the TypeScript client are those of the OpenAPI
// document of this version.
func TestTypeScriptTypesAreCurrent(t *testing.T) {
	out := httptest.NewRecorder()
	api.New(api.Settings{Version: "test"}).ServeHTTP(out, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/openapi.json", nil))
	if place := os.Getenv("AGENTO_OPENAPI"); place != "" { // for make clients
		if err := os.WriteFile(place, out.Body.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile("../../clients/typescript/src/openapi.ts")
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(out.Body.Bytes())
	if first, _, _ := strings.Cut(string(text), "\n"); !strings.Contains(first, hex.EncodeToString(digest[:])) {
		t.Error("clients/typescript/src/openapi.ts is not of this OpenAPI document: run make clients")
	}
}

// runNode runs a program with the Node of the runtime, which takes TypeScript.
func runNode(ctx context.Context, t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	dir, err := exec.CommandContext(ctx, "sh", "../../scripts/node.sh").Output()
	if err != nil {
		t.Fatal("no Node of agento: run agento install")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(strings.TrimSpace(string(dir)), "node"), args...)
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// nodeEnv returns the environment of programs with a client: the server, keys and a running
// agent that repeats what it is told.
func (env *testEnv) nodeEnv(who *caller, agent string) []string {
	guest := env.newKey(who.account, access.NewScopes(access.Chat), access.MaxRateLimit)
	slow := env.newKey(who.account, access.AllScopes(), 1)
	return []string{
		"AGENTO_URL=" + env.URL, "AGENTO_API_KEY=" + who.key, "AGENTO_AGENT=" + agent,
		"AGENTO_GUEST_KEY=" + guest.key, "AGENTO_SLOW_KEY=" + slow.key, "AGENTO_CUT_URL=" + env.cuttingProxy(1),
	}
}

// waitOrEcho never ends its answer to "wait".
func waitOrEcho(ctx context.Context, turn *apitest.Turn, send apitest.Send) {
	if turn.Message == "wait" {
		_ = send("Waiting")
		<-ctx.Done()
		return
	}
	apitest.Echo(ctx, turn, send)
}

// TestTypeScriptClient runs the tests of the TypeScript client against this server.
func TestTypeScriptClient(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	agent := who.newAgent("A")
	env.Driver.Print(identity.AgentID(agent), "a line")
	env.Gateways.SetScript(waitOrEcho)
	out, err := runNode(t.Context(), t, env.nodeEnv(who, agent), "--test", "../../clients/typescript/test/client.test.ts").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestTypeScriptREADME: the first program of the client's page works outside of this repository.
func TestTypeScriptREADME(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	agent := who.newAgent("A")
	text, err := os.ReadFile("../../clients/typescript/README.md")
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	_, program, found := strings.Cut(string(text), "```ts\n")
	if program, _, _ = strings.Cut(program, "```"); !found {
		t.Fatal("the page has no program")
	}
	file := filepath.Join(t.TempDir(), "main.mts")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(program, "/path/to/agento", root)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := runNode(t.Context(), t, env.nodeEnv(who, agent), file).CombinedOutput(); err != nil || !strings.Contains(string(out), "You said: What can you do?") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestTypeScriptRuntimes runs the tests of the TypeScript client with other runtimes.
func TestTypeScriptRuntimes(t *testing.T) {
	dir := os.Getenv("AGENTO_RUNTIMES") // a copy of the client with dist/ and node_modules; see make chaos-clients
	if dir == "" {
		t.Skip("run it with make chaos-clients")
	}
	for name, command := range map[string][]string{
		"Node 20": {filepath.Join(dir, "node_modules/node/bin/node"), "--test", "test/client.test.js"},
		"Deno":    {filepath.Join(dir, "node_modules/.bin/deno"), "test", "--allow-net", "--allow-env", "--no-check", "test/client.test.ts"},
	} {
		t.Run(name, func(t *testing.T) {
			env := newEnv(t, options{})
			who := env.newAccount("acme", "")
			agent := who.newAgent("A")
			env.Driver.Print(identity.AgentID(agent), "a line")
			env.Gateways.SetScript(waitOrEcho)
			cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
			cmd.Dir, cmd.Env = dir, append(os.Environ(), env.nodeEnv(who, agent)...)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}
