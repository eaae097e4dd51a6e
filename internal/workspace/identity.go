package workspace

import (
	"regexp"
	"strings"
)

const defaultSoul = `# SOUL.md

You are a helpful assistant.

## How you work

- Answer the question first; explain after, if it helps.
- Be resourceful before asking: read the file, search the knowledge base, check the context.
- Ask one precise question when something that matters is missing, instead of guessing.
- Say plainly when you do not know, and never invent facts, links or numbers.

## How you sound

- Warm, direct and brief. No filler, no flattery.
- Write in the language of the person you talk to.

## Boundaries

- What one person tells you is not for another.
- Ask before doing anything that cannot be undone or that others will see.
`

const defaultWorkflow = "# Workflow\n\n## Role\n\nDescribe your agent's role here."

func newIdentity(name string) string { return "# IDENTITY.md\n\n" + nameLine(name) }

func nameLine(name string) string { return "- **Name:** " + oneLine(name) }

// oneLine keeps a name from becoming several lines of a document.
func oneLine(name string) string { return strings.Join(strings.Fields(name), " ") }

var (
	// nameValue finds a Name line in any of the forms that OpenClaw reads:
	// "- Name: x", "- **Name:** x", "* __Name__: x". Group 1 is all before the value.
	nameValue = regexp.MustCompile("(?im)^([ \\t]*[-*]?[ \\t]*[*_`]*name[*_`]*[ \\t]*:[*_`]*)[^\\r\\n]*")
	heading   = regexp.MustCompile(`(?m)^#[^\r\n]*\r?\n(?:[ \t]*\r?\n)*`)
)

// renamed replaces the value of the Name line of an IDENTITY.md: the last one,
// since that is what OpenClaw takes. Without such a line it puts one below the
// first heading.
func renamed(identity, name string) string {
	if all := nameValue.FindAllStringSubmatchIndex(identity, -1); len(all) > 0 {
		at := all[len(all)-1]
		return identity[:at[3]] + " " + oneLine(name) + identity[at[1]:]
	}
	if at := heading.FindStringIndex(identity); at != nil {
		return identity[:at[1]] + nameLine(name) + "\n" + identity[at[1]:]
	}
	return nameLine(name) + "\n\n" + identity
}
