package main

import (
	"strings"
	"testing"
)

func TestTableReplacesControlCharacters(t *testing.T) {
	var out strings.Builder
	rows := []map[string]any{{"id": "evil", "name": "a\x1b]0;owned\x07\tb\nc\u009b2J"}, {"id": "good", "name": "Grüße 👩\u200d💻"}}
	if err := (&terminal{out: &out}).table(rows, "id", "name", "score"); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 3 || strings.ContainsAny(out.String(), "\x1b\x07\t\u009b") || !strings.Contains(lines[2], "Grüße 👩\u200d💻") {
		t.Errorf("%q", out.String())
	}
}
