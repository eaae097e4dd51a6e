package main

import (
	"strings"
	"testing"
	"unicode/utf8"

	"agento.host/agento/internal/knowledge"
)

func TestParagraphsFitIngestRequests(t *testing.T) {
	long := strings.Repeat("wörter ", 2000)
	text := "first\n\n\n\nsecond line\nstill second\r\n\r\n" + long + "\n\n" + strings.Repeat("x", 9000)
	var all []string
	for _, batch := range paragraphs(text) {
		if len(batch) > knowledge.MaxChunks {
			t.Errorf("a batch of %d", len(batch))
		}
		all = append(all, batch...)
	}
	if all[0] != "first" || all[1] != "second line\nstill second" {
		t.Errorf("%q %q", all[0], all[1])
	}
	for _, p := range all {
		if n := utf8.RuneCountInString(p); n == 0 || n > knowledge.MaxText || !utf8.ValidString(p) {
			t.Errorf("a paragraph of %d characters", n)
		}
	}
	squeeze := func(s string) string { return strings.Join(strings.Fields(s), "") }
	if squeeze(strings.Join(all, "")) != squeeze(text) {
		t.Error("text was lost")
	}
}
