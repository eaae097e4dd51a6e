package workspace

import (
	"regexp"
	"strings"
)

func newIdentity(name string) string { return "# IDENTITY.md\n\n" + nameLine(name) }

func nameLine(name string) string { return "- **Name:** " + oneLine(name) }

// oneLine joins the lines of a name, so that it stays on one line of the document.
func oneLine(name string) string { return strings.Join(strings.Fields(name), " ") }

var (
	// nameValue matches a Name line in every form that OpenClaw reads: "- Name: x",
	// "- **Name:** x", "* __Name__: x". Group 1 is the part before the value.
	nameValue = regexp.MustCompile("(?im)^([ \\t]*[-*]?[ \\t]*[*_`]*name[*_`]*[ \\t]*:[*_`]*)[^\\r\\n]*")
	heading   = regexp.MustCompile(`(?m)^#[^\r\n]*\r?\n(?:[ \t]*\r?\n)*`)
)

// renamed returns an IDENTITY.md with another name. It replaces the value of the last
// Name line, which is the one that OpenClaw uses. If there is none, it inserts one below
// the first heading.
func renamed(identityMD, name string) string {
	if all := nameValue.FindAllStringSubmatchIndex(identityMD, -1); len(all) > 0 {
		last := all[len(all)-1]
		return identityMD[:last[3]] + " " + oneLine(name) + identityMD[last[1]:]
	}
	if first := heading.FindStringIndex(identityMD); first != nil {
		return identityMD[:first[1]] + nameLine(name) + "\n" + identityMD[first[1]:]
	}
	return nameLine(name) + "\n\n" + identityMD
}
