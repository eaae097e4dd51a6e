package openclaw

import (
	"fmt"
	"path"
	"strings"
	"unicode/utf8"
)

// SkillsDir holds installed skills, one folder each, for both entries: relative to
// the home. A new one shows in the next new session.
const SkillsDir = "skills"

// Files of a workspace that OpenClaw or the model reads, relative to it.
const (
	SoulFile     = "SOUL.md"
	IdentityFile = "IDENTITY.md"
	WorkflowFile = "WORKFLOW.md"
	RulesDir     = "rules"
	agentsFile   = "AGENTS.md"
	injectedFile = "injected/AGENTS.md"
)

const (
	// maxInjected is how much of one file OpenClaw puts into the prompt, in
	// characters; its own default of 20,000 would cut our longest file.
	maxInjected = 40_000
	// maxWorkflow is how much of WORKFLOW.md stands in the prompt, in bytes; the
	// rest is read when needed. About 4,000 tokens on every model call.
	maxWorkflow = 16_000
	// maxAbout is how much of a rule's first line stands beside its name, in bytes.
	maxAbout = 100
)

// Workspace is the entry's workspace, relative to the home.
func (e Entry) Workspace() string {
	if e == Guest {
		return "guest"
	}
	return "workspace"
}

// Content is what an agent is told about itself and its work.
type Content struct {
	Name       string
	SoulMD     string
	IdentityMD string // empty: made from Name
	WorkflowMD string
	Rules      []Rule
}

// Rule is one procedure that the agent reads when it needs it. Name has no .md.
type Rule struct {
	Name    string
	Content string
}

// WorkspaceFiles renders the workspaces of both entries: paths are relative to the
// home. A rule that is gone has to be deleted from RulesDir of both workspaces.
func WorkspaceFiles(c Content) map[string][]byte {
	files := make(map[string][]byte)
	for _, entry := range []Entry{Main, Guest} {
		put := func(name, text string) { files[path.Join(entry.Workspace(), name)] = []byte(text) }
		put(agentsFile, manual(entry))
		put(SoulFile, c.SoulMD)
		put(IdentityFile, c.identity())
		put(WorkflowFile, c.WorkflowMD)
		put(injectedFile, c.injected())
		for _, r := range c.Rules {
			put(path.Join(RulesDir, r.Name+".md"), r.Content)
		}
	}
	return files
}

func (c Content) identity() string {
	if c.IdentityMD != "" {
		return c.IdentityMD
	}
	return "# IDENTITY.md\n\n- **Name:** " + strings.Join(strings.Fields(c.Name), " ") + "\n"
}

// manual tells the model what it finds in its workspace.
func manual(e Entry) string {
	if e == Guest {
		return `# AGENTS.md

You speak with one person at a time, who is not your operator. SOUL.md and IDENTITY.md are who you are; WORKFLOW.md and
the files in rules/ are how you work. You can read files here and cannot change any.

- What other people told you is not here and must not be guessed at.
- "Conversation Context" holds what the application knows about this person. Use it; do not recite it.
`
	}
	return `# AGENTS.md

This folder is your home. SOUL.md and IDENTITY.md are who you are; WORKFLOW.md and the files in rules/ are how you work.

- Your operator writes WORKFLOW.md, rules/ and injected/: read them, leave them as they are.
- Keep what you must remember in MEMORY.md, short and dated. You see it in every conversation.
- Your other files are your own. Keep temporary ones in .openclaw/tmp/.
`
}

// injected is what OpenClaw puts into every prompt beside the files it knows: the
// workflow, as far as it is short, and which rules there are.
func (c Content) injected() string {
	var b strings.Builder
	b.WriteString("# How you work\n\n")
	if strings.TrimSpace(c.WorkflowMD) != "" {
		b.WriteString("Your operator wrote this in WORKFLOW.md. Follow it.\n\n")
		head, cut := headOf(c.WorkflowMD, maxWorkflow)
		b.WriteString(strings.TrimSpace(head) + "\n\n")
		if cut {
			fmt.Fprintf(&b, "(This is the beginning; all of it, %d characters, is in WORKFLOW.md. Read that file with `read` before you act.)\n\n",
				utf8.RuneCountInString(c.WorkflowMD))
		}
	}
	if len(c.Rules) == 0 {
		return b.String()
	}
	b.WriteString("## Rules\n\nEach rule is a procedure in a file of its own. When one fits the matter at hand, read its file with `read` first, then follow it.\n\n")
	for _, r := range c.Rules {
		fmt.Fprintf(&b, "- %s/%s.md%s\n", RulesDir, r.Name, about(r.Content))
	}
	return b.String()
}

// about is a rule's first line, as a hint of when to read it.
func about(content string) string {
	for line := range strings.Lines(content) {
		line = strings.TrimSpace(strings.TrimLeft(strings.TrimSpace(line), "#-*> "))
		if line == "" {
			continue
		}
		head, cut := headOf(line, maxAbout)
		if cut {
			head += "…"
		}
		return ": " + head
	}
	return ""
}

// headOf cuts text to at most limit bytes: after a paragraph or a line if one ends
// in the second half, else between two characters.
func headOf(text string, limit int) (head string, cut bool) {
	if len(text) <= limit {
		return text, false
	}
	head = text[:limit]
	for _, end := range []string{"\n\n", "\n"} {
		if at := strings.LastIndex(head, end); at > limit/2 {
			return head[:at], true
		}
	}
	for len(head) > 0 && !utf8.RuneStart(text[len(head)]) {
		head = head[:len(head)-1]
	}
	return head, true
}
