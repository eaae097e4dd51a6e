package api_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/identity"
)

// pages returns the pages that docs/ must have.
func pages() []string {
	return []string{"README", "quickstart", "authentication", "streams", "paging", "widgets", "accounts", "agents", "changes", "chat", "errors", "idempotency", "knowledge", "limits", "logs", "mcp", "network", "openai", "secrets", "skills", "swarms", "workspace"}
}

// TestDocumentationCommandsSucceed runs every command of every page in docs/ as a
// reader does, in order, in one shell for each page. Every request must succeed.
func TestDocumentationCommandsSucceed(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".md")
		found[name] = true
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		commands := parseCommands(string(text))
		if len(commands) == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newEnv(t, options{Heartbeat: 10 * time.Millisecond})
			runCommands(t, env, commands)
		})
	}
	for _, name := range pages() {
		if !found[name] {
			t.Errorf("docs/%s.md is missing", name)
		}
	}
}

// TestProgramsOfGuidesSucceed runs the programs of the pages that teach how to read streams
// and lists.
func TestProgramsOfGuidesSucceed(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("reader", "")
	agent := who.newAgent("My Assistant")
	for _, name := range []string{"streams", "paging"} {
		text, err := os.ReadFile("../../docs/" + name + ".md")
		if err != nil {
			t.Fatal(err)
		}
		for _, language := range []struct{ fence, extension, command string }{{"javascript", ".mjs", "node"}, {"python", ".py", "python3"}} {
			_, block, found := strings.Cut(string(text), "```"+language.fence+"\n")
			block, _, whole := strings.Cut(block, "\n```")
			if !found || !whole {
				t.Errorf("docs/%s.md has no program in %s", name, language.fence)
				continue
			}
			file := filepath.Join(t.TempDir(), name+language.extension)
			if err := os.WriteFile(file, []byte(block), 0o600); err != nil {
				t.Fatal(err)
			}
			program := exec.CommandContext(t.Context(), language.command, file)
			program.Env = append(os.Environ(), "AGENTO_URL="+env.URL, "AGENTO_API_KEY="+who.key, "AGENT="+agent)
			out, err := program.CombinedOutput()
			if want := map[string]string{"streams": "done", "paging": "agent.created"}[name]; err != nil || !strings.Contains(string(out), want) {
				t.Errorf("the program in %s of docs/%s.md: %v, printed %s", language.fence, name, err, out)
			}
		}
	}
}

// TestWidgetTokensOfTheGuide runs the programs of the guide that sign a token, and presents it.
func TestWidgetTokensOfTheGuide(t *testing.T) {
	p, _ := newWidgetEnv(t)
	text, err := os.ReadFile("../../docs/widgets.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, language := range []struct{ fence, extension, command string }{{"javascript", ".mjs", "node"}, {"python", ".py", "python3"}} {
		_, block, _ := strings.Cut(string(text), "```"+language.fence+"\n")
		block, _, _ = strings.Cut(block, "\n```")
		file := filepath.Join(t.TempDir(), "token"+language.extension)
		if err := os.WriteFile(file, []byte(block), 0o600); err != nil {
			t.Fatal(err)
		}
		program := exec.CommandContext(t.Context(), language.command, file)
		program.Env = append(os.Environ(), "AGENTO_WIDGET="+p.id, "AGENTO_WIDGET_SECRET="+p.secret)
		out, err := program.CombinedOutput()
		if err != nil {
			t.Fatalf("the program in %s: %v, printed %s", language.fence, err, out)
		}
		p.token = strings.TrimSpace(string(out))
		if v := p.ask("POST", "visits", nil).expect(200); v.field("data.name") != "Alice" || v.field("data.visitor") != "" {
			t.Errorf("the token of the program in %s is that of %s", language.fence, v.body)
		}
	}
}

func runCommands(t *testing.T, env *testEnv, commands []string) {
	t.Helper()
	who := env.newAccount("reader", "")
	agent := who.newAgent("My Assistant")
	swarm := who.do("POST", "/v1/swarms", `{"name":"Readers"}`).expect(201).field("data.id")
	for i := range 20 {
		env.Driver.Print(identity.AgentID(agent), fmt.Sprintf(`{"time":"2026-02-10T14:00:%02dZ","level":"info","subsystem":"gateway","message":"Line %d"}`, i, i))
	}
	// curl fails on an error status, and the shell with it.
	script := "set -eu\ncurl() { command curl --fail-with-body --show-error --max-time 60 \"$@\"; }\n" + strings.Join(commands, "\n")
	sh := exec.CommandContext(t.Context(), "sh")
	sh.Stdin = strings.NewReader(script)
	sh.Env = append(os.Environ(), "AGENTO_URL="+env.URL, "AGENTO_API_KEY="+who.key, "AGENT="+agent, "SWARM="+swarm)
	var out bytes.Buffer
	sh.Stdout, sh.Stderr = &out, &out
	if err := sh.Run(); err != nil {
		t.Fatalf("%v\n%s\nscript:\n%s", err, out.String(), script)
	}
	if !strings.Contains(out.String(), `"data"`) && !strings.Contains(out.String(), "data: ") {
		t.Errorf("the commands printed no data:\n%s", out.String())
	}
}

// parseCommands returns the sh blocks of a page, and the indented blocks that begin
// with curl.
func parseCommands(page string) []string {
	var all []string
	var block []string
	var fence, indented bool
	end := func() {
		if len(block) > 0 && (fence || strings.HasPrefix(block[0], "curl ")) {
			all = append(all, strings.Join(block, "\n"))
		}
		block, fence, indented = nil, false, false
	}
	for line := range strings.Lines(page) {
		line = strings.TrimRight(line, "\n")
		text, isIndented := strings.CutPrefix(line, "    ")
		switch {
		case line == "```sh":
			end()
			fence = true
		case fence && line == "```":
			end()
		case fence:
			block = append(block, line)
		case isIndented:
			indented = true
			block = append(block, text)
		case indented:
			end()
		}
	}
	end()
	return all
}
