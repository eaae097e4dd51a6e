package openclaw

import (
	"strings"
	"unicode"
)

// notCommand is put behind the first character of a text that OpenClaw would take for a
// command: a word joiner, which nobody sees. Without it OpenClaw answers "/new", "/reset" and
// "/compact" with an error of its own, although no one may give commands.
const notCommand = "\u2060"

// AsText returns a text that a person wrote so that OpenClaw gives it to the model, whatever
// it begins with. at is where the mark was put, in UTF-16 code units, which is how Telegram
// counts; -1: nowhere. History and ParseSessionMessage remove the mark.
func AsText(text string) (marked string, at int) {
	rest := strings.TrimLeftFunc(text, isBlank)
	if !strings.HasPrefix(rest, "/") || strings.HasPrefix(rest[1:], notCommand) {
		return text, -1
	}
	before := len(text) - len(rest)
	return text[:before+1] + notCommand + rest[1:], len([]rune(text[:before])) + 1 // a blank is one unit
}

// withoutMark removes the mark of AsText.
func withoutMark(text string) string {
	rest := strings.TrimLeftFunc(text, isBlank)
	if after, ok := strings.CutPrefix(rest, "/"+notCommand); ok {
		return text[:len(text)-len(rest)+1] + after
	}
	return text
}

// isBlank reports what JavaScript trims.
func isBlank(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' }
