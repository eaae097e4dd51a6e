package main

import (
	"strings"
	"testing"
	"time"

	"github.com/mattn/go-runewidth"
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

func TestTablesFit80Columns(t *testing.T) {
	long := strings.Repeat("wide 字 ", 40)
	rows := []map[string]any{{"id": ada, "name": long, "state": long, "at": formatTime(time.Now())}}
	var out strings.Builder
	if err := (&terminal{out: &out}).table(rows, "id", "name", "state", "at"); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := runewidth.StringWidth(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	if !strings.Contains(out.String(), ada) || strings.Count(out.String(), "…") != 2 {
		t.Errorf("%s", out.String())
	}
}

func TestTimes(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "now", 12 * time.Second: "12 s ago", 3*time.Minute + 50*time.Second: "3 min ago", 5 * time.Hour: "5 h ago", 72 * time.Hour: "3 days ago",
		-90 * time.Minute: "in 1 h", -90 * 24 * time.Hour: "in 90 days", 3 * 365 * 24 * time.Hour: "3 years ago",
	} {
		if got := (moment{time.Now().Add(-d - time.Millisecond)}).ago(); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	var out strings.Builder
	at := time.Date(2026, 1, 31, 15, 4, 5, 6_000_000, time.UTC)
	if err := (&terminal{out: &out, json: true}).table([]map[string]any{{"at": formatTime(at)}}, "at"); err != nil || !strings.Contains(out.String(), `"2026-01-31T15:04:05.006Z"`) {
		t.Errorf("%s, %v", out.String(), err)
	}
}
