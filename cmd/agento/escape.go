package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// controls reports whether a terminal may obey r instead of showing it: control
// characters, and the marks that reverse the direction of a text so that it shows what it
// does not say. Joiners, which emoji and several scripts need, are not among them.
func controls(r rune) bool {
	switch {
	case unicode.IsControl(r), r == '\u2028', r == '\u2029', r == '\u061c', r == '\u200e', r == '\u200f':
		return true
	}
	return r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
}

// escapeText replaces what would control a terminal by visible escapes. Lines and tabs
// stay.
func escapeText(s string) string {
	return escape(strings.ReplaceAll(s, "\r\n", "\n"), func(r rune) bool { return r == '\n' || r == '\t' })
}

// escapeLine is escapeText for a text that must be one line.
func escapeLine(s string) string {
	return escape(strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' || r == '\t' {
			return ' '
		}
		return r
	}, s), func(rune) bool { return false })
}

func escape(s string, allowed func(rune) bool) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return controls(r) && !allowed(r) }) && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i]) // a byte of 0x80 to 0x9f alone is a control character for some terminals
		case !controls(r) || allowed(r):
			b.WriteRune(r)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// escapeJSON escapes in a JSON text what controls a terminal and may only be in its
// strings.
func escapeJSON(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return controls(r) && r != '\n' }) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if controls(r) && r != '\n' {
			fmt.Fprintf(&b, `\u%04x`, r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// escapingWriter escapes a text that arrives in pieces, such as an answer.
type escapingWriter struct {
	w    io.Writer
	rest string // a carriage return or the beginning of a character, which the next piece may complete
}

// WriteString escapes a piece and writes it.
func (e *escapingWriter) WriteString(s string) error {
	s = e.rest + s
	cut := len(s)
	for n := 1; n < utf8.UTFMax && n <= len(s); n++ { // an incomplete character begins in the last three bytes
		if b := s[len(s)-n:]; utf8.RuneStart(b[0]) {
			if !utf8.FullRuneInString(b) || b == "\r" {
				cut = len(s) - n
			}
			break
		}
	}
	e.rest = s[cut:]
	_, err := io.WriteString(e.w, escapeText(s[:cut]))
	return err
}

// Flush writes what is left.
func (e *escapingWriter) Flush() error {
	_, err := io.WriteString(e.w, escapeText(e.rest))
	e.rest = ""
	return err
}
