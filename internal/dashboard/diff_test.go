package dashboard

import (
	"fmt"
	"strings"
	"testing"
)

func TestDiffShowsWhatChangesWithItsSurroundings(t *testing.T) {
	text := func(lines []diffLine) string {
		var b strings.Builder
		for _, l := range lines {
			b.WriteString(map[string]string{"add": "+", "remove": "-", "same": " ", "gap": "~"}[l.Kind] + l.Text + "\n")
		}
		return b.String()
	}
	numbered := func(n int, change map[int]string) string {
		var lines []string
		for i := range n {
			line := fmt.Sprint("line ", i)
			if c, ok := change[i]; ok {
				line = c
			}
			lines = append(lines, line)
		}
		return strings.Join(lines, "\n")
	}
	if got := diff("a\nb", "a\nb"); got != nil {
		t.Errorf("equal texts differ: %v", got)
	}
	if got := text(diff("a\nb\nc", "a\nx\nc")); got != " a\n-b\n+x\n c\n" {
		t.Errorf("%q", got)
	}
	if got := text(diff("", "a")); got != "-\n+a\n" {
		t.Errorf("%q", got)
	}
	got := text(diff(numbered(20, nil), numbered(20, map[int]string{10: "changed"})))
	if want := "~…\n line 7\n line 8\n line 9\n-line 10\n+changed\n line 11\n line 12\n line 13\n~…\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := diff(numbered(5000, nil), strings.ToUpper(numbered(5000, nil))); len(got) != 10000 {
		t.Errorf("a long text has %d lines of difference", len(got))
	}
}
