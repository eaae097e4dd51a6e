package devmodel

import (
	"regexp"
	"strings"
)

// What OpenClaw 2026.9.6 adds to a user's words: the time before them, a line
// about the run after them (for OpenAI's APIs), and messages of its own that the
// model must not repeat.
var (
	stampPattern   = regexp.MustCompile(`^\[[A-Z][a-z]{2} \d{4}-\d{2}-\d{2} \d{2}:\d{2}[^\]]*\] `)
	runtimePattern = regexp.MustCompile(`\s*\n\nRuntime: agent=[^\n]*$`)
)

const (
	internalOpen  = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>"
	internalClose = "<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"
)

// said returns a user message in the user's own words, "" if it has none.
func said(text string) string {
	for {
		before, rest, found := strings.Cut(text, internalOpen)
		if !found {
			break
		}
		_, after, _ := strings.Cut(rest, internalClose)
		text = before + after
	}
	text = runtimePattern.ReplaceAllString(text, "")
	return strings.TrimSpace(stampPattern.ReplaceAllString(text, ""))
}
