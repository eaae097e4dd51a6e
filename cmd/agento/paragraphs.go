package main

import (
	"slices"
	"strings"

	"agento.host/agento/internal/knowledge"
)

// paragraphs splits a text at blank lines, and paragraphs that are too long for one
// entry at a line or word. It returns batches that fit into one ingest request.
func paragraphs(text string) [][]string {
	var all []string
	for _, p := range strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n\n") {
		for p = strings.TrimSpace(p); p != ""; {
			head := prefixOf(p, knowledge.MaxText)
			all = append(all, strings.TrimSpace(head))
			p = strings.TrimSpace(p[len(head):])
		}
	}
	return slices.Collect(slices.Chunk(all, knowledge.MaxChunks))
}

// prefixOf returns at most limit characters of s, up to the last line or word that fits.
func prefixOf(s string, limit int) string {
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
