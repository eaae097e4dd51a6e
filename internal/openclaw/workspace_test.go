package openclaw_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"agento.host/agento/internal/openclaw"
)

func TestWorkspaceFilesRendersEveryEntry(t *testing.T) {
	files := openclaw.WorkspaceFiles(openclaw.Content{
		Name: "My\nAssistant", SoulMD: "be kind", WorkflowMD: "# Workflow\n\nAnswer tickets.",
		Rules: []openclaw.Rule{{Name: "refunds", Content: "\n# How refunds work\n\nsteps"}, {Name: "empty", Content: "\n \n"}},
	})
	names := []string{"task/AGENTS.md"}
	for _, dir := range []string{"guest", "workspace"} {
		for _, name := range []string{"AGENTS.md", "IDENTITY.md", "SOUL.md", "WORKFLOW.md", "injected/AGENTS.md", "rules/empty.md", "rules/refunds.md"} {
			names = append(names, dir+"/"+name)
		}
	}
	slices.Sort(names)
	if got := slices.Sorted(maps.Keys(files)); !slices.Equal(got, names) {
		t.Errorf("files = %v, want %v", got, names)
	}
	injected := string(files["guest/injected/AGENTS.md"])
	for _, want := range []string{"Answer tickets.", "- rules/refunds.md: How refunds work\n", "- rules/empty.md\n"} {
		if !strings.Contains(injected, want) {
			t.Errorf("injected lacks %q:\n%s", want, injected)
		}
	}
	if got := string(files["workspace/IDENTITY.md"]); !strings.Contains(got, "- **Name:** My Assistant\n") {
		t.Errorf("IDENTITY.md = %q", got)
	}
}

// The largest content that the API accepts: 128 KiB of workflow and 100 rules.
func TestALongWorkflowIsCutInThePrompt(t *testing.T) {
	c := openclaw.Content{WorkflowMD: strings.Repeat("Für jede Anfrage gilt: antworte höflich und kurz.\n\n", 2600)}
	for i := range 100 {
		c.Rules = append(c.Rules, openclaw.Rule{Name: fmt.Sprintf("%064d", i), Content: strings.Repeat("ä", 64<<10)})
	}
	files := openclaw.WorkspaceFiles(c)
	injected := string(files["workspace/injected/AGENTS.md"])
	if n := utf8.RuneCountInString(injected); n > 40_000 {
		t.Errorf("injected has %d characters, more than OpenClaw puts into the prompt", n)
	}
	if !utf8.ValidString(injected) {
		t.Error("a character was cut in two")
	}
	if !strings.Contains(injected, "is in WORKFLOW.md. Read that file") || !strings.Contains(injected, fmt.Sprintf("rules/%064d.md", 99)) {
		t.Error("the pointers to WORKFLOW.md and the last rule are missing")
	}
	if string(files["guest/WORKFLOW.md"]) != c.WorkflowMD {
		t.Error("WORKFLOW.md is not complete")
	}
}

func FuzzWorkspaceFiles(f *testing.F) {
	f.Add("workflow", "rule")
	f.Add(strings.Repeat("é", 9000), "# \n#")
	f.Fuzz(func(t *testing.T, workflow, rule string) {
		files := openclaw.WorkspaceFiles(openclaw.Content{WorkflowMD: workflow, Rules: []openclaw.Rule{{Name: "r", Content: rule}}})
		if n := len(files["guest/injected/AGENTS.md"]); n > 40_000 {
			t.Errorf("injected has %d bytes", n)
		}
	})
}

// The model learns what it can connect to, so that it understands why a request failed.
func TestPromptSaysWhatTheNetworkAllows(t *testing.T) {
	many := make([]string, 60)
	for i := range many {
		many[i] = fmt.Sprintf("h%d.example.com", i)
	}
	for name, c := range map[string]struct {
		network openclaw.Network
		want    string // empty: nothing
	}{
		"open": {openclaw.Network{}, ""},
		"list": {openclaw.Network{Restricted: true, Hosts: []string{"a.example.com", "*.example.org"}}, "these hosts only: a.example.com, *.example.org. Other requests, also those of `web_fetch`, fail at once"},
		"none": {openclaw.Network{Restricted: true}, "You cannot connect to any host on the internet."},
		"many": {openclaw.Network{Restricted: true, Hosts: many}, "h49.example.com, and 10 more."},
	} {
		files := openclaw.WorkspaceFiles(openclaw.Content{Name: "A", Network: c.network})
		for _, file := range []string{"workspace/injected/AGENTS.md", "guest/injected/AGENTS.md"} {
			text := string(files[file])
			if strings.Contains(text, "## Network") != (c.want != "") || !strings.Contains(text, c.want) {
				t.Errorf("%s, %s: %s", name, file, text)
			}
		}
	}
}
