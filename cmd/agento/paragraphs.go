package main

import (
	"slices"
	"strings"

	"agento.host/agento/internal/knowledge"
)

// paragraphs cuts a text at its blank lines, and what is still too long for one
// entry at a line or a word, into batches that one call takes.
func paragraphs(text string) [][]string {
	var all []string
	for _, p := range strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n\n") {
		for p = strings.TrimSpace(p); p != ""; {
			head := headOf(p, knowledge.MaxText)
			all = append(all, strings.TrimSpace(head))
			p = strings.TrimSpace(p[len(head):])
		}
	}
	return slices.Collect(slices.Chunk(all, knowledge.MaxChunks))
}

// headOf is at most limit characters of s, up to the last line or word that fits.
func headOf(s string, limit int) string {
	n := 0
	for i := range s {
		if n == limit {
			for _, end := range []string{"\n", " "} {
				if at := strings.LastIndex(s[:i], end); at > i/2 {
					return s[:at+1]
				}
			}
			return s[:i]
		}
		n++
	}
	return s
}
