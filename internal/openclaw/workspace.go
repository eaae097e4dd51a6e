package openclaw

import (
	"fmt"
	"path"
	"strings"
	"unicode/utf8"
)

// SkillsDir is the folder of installed skills, relative to the home. It has one
// folder for each skill, and both entries read it. A new skill appears in the next
// new session.
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
	// maxInjected is the length to which OpenClaw cuts a file in the prompt, in
	// characters. Its default of 20,000 would cut our longest file.
	maxInjected = 40_000
	// maxWorkflow is the length of WORKFLOW.md in the prompt, in bytes. The model
	// reads the rest when it needs it. It costs about 4,000 tokens of every model call.
	maxWorkflow = 16_000
	// maxSummary is the length of a rule's first line beside its name, in bytes.
	maxSummary = 100
)

// Workspace returns the folder of the entry's workspace, relative to the home.
func (e Entry) Workspace() string {
	switch e {
	case Guest:
		return "guest"
	case Task:
		return "task"
	}
	return "workspace"
}

// Content is what the files of a workspace are rendered from.
type Content struct {
	Name       string
	SoulMD     string
	IdentityMD string // empty means a text made from Name
	WorkflowMD string
	Rules      []Rule
	Network    Network
}

// Network is what the agent may connect to. The zero value is the internet.
type Network struct {
	Restricted bool
	Hosts      []string // if Restricted
}

// Rule is a procedure that the agent reads when it needs it. Name is the file's name
// without .md.
type Rule struct {
	Name    string
	Content string
}

// WorkspaceFiles renders the files of the entries' workspaces, by path relative to
// the home. The caller deletes removed rules from RulesDir of Main's and Guest's.
func WorkspaceFiles(c Content) map[string][]byte {
	files := map[string][]byte{path.Join(Task.Workspace(), agentsFile): []byte(taskMD)}
	for _, entry := range []Entry{Main, Guest} {
		add := func(name, text string) { files[path.Join(entry.Workspace(), name)] = []byte(text) }
		add(agentsFile, agentsMD(entry))
		add(SoulFile, c.SoulMD)
		add(IdentityFile, c.identity())
		add(WorkflowFile, c.WorkflowMD)
		add(injectedFile, c.injected())
		for _, r := range c.Rules {
			add(path.Join(RulesDir, r.Name+".md"), r.Content)
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

// agentsMD returns AGENTS.md, which explains the workspace to the model.
func agentsMD(e Entry) string {
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

// taskMD is AGENTS.md of Task, which has no other file.
const taskMD = `# AGENTS.md

An application asks you for one small piece of text, such as a title or a list of tags. Answer with exactly what it asks for, in the form that it asks for.
`

// injected returns the file that OpenClaw adds to every prompt beside the files that
// it knows: the beginning of the workflow and the list of rules.
func (c Content) injected() string {
	var b strings.Builder
	b.WriteString("# How you work\n\n")
	if strings.TrimSpace(c.WorkflowMD) != "" {
		b.WriteString("Your operator wrote this in WORKFLOW.md. Follow it.\n\n")
		head, cut := truncate(c.WorkflowMD, maxWorkflow)
		b.WriteString(strings.TrimSpace(head) + "\n\n")
		if cut {
			fmt.Fprintf(&b, "(This is the beginning; all of it, %d characters, is in WORKFLOW.md. Read that file with `read` before you act.)\n\n",
				utf8.RuneCountInString(c.WorkflowMD))
		}
	}
	b.WriteString(c.Network.text())
	if len(c.Rules) == 0 {
		return b.String()
	}
	b.WriteString("## Rules\n\nEach rule is a procedure in a file of its own. When one fits the matter at hand, read its file with `read` first, then follow it.\n\n")
	for _, r := range c.Rules {
		fmt.Fprintf(&b, "- %s/%s.md%s\n", RulesDir, r.Name, summary(r.Content))
	}
	return b.String()
}

// maxShownHosts is how many hosts the prompt names.
const maxShownHosts = 50

// text says what the agent may connect to, so that the model understands why a request
// failed.
func (n Network) text() string {
	if !n.Restricted {
		return ""
	}
	may := "You cannot connect to any host on the internet."
	if len(n.Hosts) > 0 {
		may = "You can connect to these hosts only: " + strings.Join(n.Hosts[:min(len(n.Hosts), maxShownHosts)], ", ")
		if more := len(n.Hosts) - maxShownHosts; more > 0 {
			may += fmt.Sprintf(", and %d more", more)
		}
		may += "."
	}
	return "## Network\n\n" + may + " Other requests, also those of `web_fetch`, fail at once: the name is not found, or the connection is reset. " +
		"Do not try them again: say which host you need, and that your operator can allow it in config.egress.\n\n"
}

// summary returns a rule's first line, which shows the model when to read the rule.
func summary(content string) string {
	for line := range strings.Lines(content) {
		line = strings.TrimSpace(strings.TrimLeft(strings.TrimSpace(line), "#-*> "))
		if line == "" {
			continue
		}
		head, cut := truncate(line, maxSummary)
		if cut {
			head += "…"
		}
		return ": " + head
	}
	return ""
}

// truncate cuts text to at most limit bytes: at the end of a paragraph or a line if
// one ends in the second half, otherwise between two characters.
func truncate(text string, limit int) (head string, cut bool) {
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
