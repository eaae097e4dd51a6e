package openclaw_test

import (
	"strings"
	"testing"

	"agento.host/agento/internal/openclaw"
)

func TestLogLineFormatsOneLine(t *testing.T) {
	for line, want := range map[string]string{
		`{"time":"2026-11-24T14:58:56.021+01:00","level":"warn","subsystem":"gateway/ws","message":"slow"}`: "2026-11-24T13:58:56.021Z [warn] gateway/ws: slow",
		`{"time":"later","message":"two\nlines"}`:                                                           "later [info] two lines",
		`{"no":"message"}`:                     `{"no":"message"}`,
		"│  \x1b[32mDoctor\x1b[0m changes │  ": "│  Doctor changes │",
		"": "",
	} {
		if got := openclaw.LogLine(line); got != want {
			t.Errorf("LogLine(%q) = %q, want %q", line, got, want)
		}
	}
}

func FuzzLogLine(f *testing.F) {
	f.Add(`{"time":"2026-11-24T14:58:56Z","level":"\u001b[31m","message":"x\u0000y"}`)
	f.Add(`{"level":"a\nb","subsystem":"\n","message":"x"}`)
	f.Add("\x1b[")
	f.Fuzz(func(t *testing.T, line string) {
		if got := openclaw.LogLine(line); strings.ContainsAny(got, "\n\r") {
			t.Errorf("LogLine(%q) = %q, more than one line", line, got)
		}
	})
}
