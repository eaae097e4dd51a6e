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

// pages are what docs/ must have at least.
func pages() []string {
	return []string{"README", "accounts", "agents", "chat", "errors", "knowledge", "logs", "secrets", "skills", "swarms", "workspace"}
}

// TestTheDocumentationWorks runs every command of every page in docs/, as a reader
// would: one shell a page, in order, and every request must succeed.
func TestTheDocumentationWorks(t *testing.T) {
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
		commands := commandsIn(string(text))
		if len(commands) == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := open(t, plan{heartbeat: 10 * time.Millisecond})
			run(t, h, commands)
		})
	}
	for _, name := range pages() {
		if !found[name] {
			t.Errorf("docs/%s.md is missing", name)
		}
	}
}

func run(t *testing.T, h *house, commands []string) {
	t.Helper()
	who := h.account("reader", "")
	agent := who.newAgent("My Assistant")
	swarm := who.do("POST", "/v1/swarms", `{"name":"Readers"}`).wants(201).text("data.id")
	for i := range 20 {
		h.driver.Print(identity.AgentID(agent), fmt.Sprintf(`{"time":"2026-02-10T14:00:%02dZ","level":"info","message":"Line %d"}`, i, i))
	}
	// curl fails on a refusal, and the shell with it.
	script := "set -eu\ncurl() { command curl --fail-with-body --show-error --max-time 60 \"$@\"; }\n" + strings.Join(commands, "\n")
	sh := exec.CommandContext(t.Context(), "sh")
	sh.Stdin = strings.NewReader(script)
	sh.Env = append(os.Environ(), "AGENTO_URL="+h.url, "AGENTO_API_KEY="+who.key, "AGENT="+agent, "SWARM="+swarm)
	var out bytes.Buffer
	sh.Stdout, sh.Stderr = &out, &out
	if err := sh.Run(); err != nil {
		t.Fatalf("%v\n%s\nof this script:\n%s", err, out.String(), script)
	}
	if !strings.Contains(out.String(), `"data"`) && !strings.Contains(out.String(), "data: ") {
		t.Errorf("the commands came to nothing:\n%s", out.String())
	}
}

// commandsIn are the sh blocks of a page, and indented blocks that begin with curl.
func commandsIn(page string) []string {
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
