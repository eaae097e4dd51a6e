package openclaw_test

import (
	"strings"
	"testing"

	"agento.host/agento/internal/openclaw"
)

func TestLogLineFormatsOneLine(t *testing.T) {
	for line, want := range map[string]string{
		`{"time":"2026-11-24T14:58:56.021+01:00","level":"warn","subsystem":"gateway/ws","message":"slow"}`: "2026-11-24T13:58:56.021Z [warn] gateway/ws: slow",
		`{"time":"later","subsystem":"gateway","message":"two\nlines"}`:                                     "later [info] gateway: two lines",
		`{"no":"message"}`:                     `{"no":"message"}`,
		"│  \x1b[32mDoctor\x1b[0m changes │  ": "│  Doctor changes │",
		"": "",
	} {
		if got := openclaw.LogLine(line); got != want {
			t.Errorf("LogLine(%q) = %q, want %q", line, got, want)
		}
	}
}

// TestLogLineHidesConversations has lines as OpenClaw 2026.9.6 prints them for an answer, whole
// and in parts.
func TestLogLineHidesConversations(t *testing.T) {
	answer := `{"time":"2026-11-27T11:55:37.806+00:00","level":"info","message":"my number is 5550100\n{\"subsystem\":\"gateway\"}"}`
	long := `{"time":"2026-11-27T11:55:37.806+00:00","level":"info","message":"` + strings.Repeat("5550100 ", 9000) + `"}`
	lines := []string{
		answer, long, long[:64<<10], long[100 : 100+64<<10],
		`{"time":"2026-11-27T11:55:37.806+00:00","level":"info","message":"[agent:nested] session=agent:guest:api:x 5550100"}`,
	}
	for cut := 1; cut < len(answer); cut++ {
		lines = append(lines, answer[cut:])
	}
	for _, line := range lines {
		if got := openclaw.LogLine(line); strings.Contains(got, "5550100") {
			t.Errorf("LogLine(%.200q) = %.200q", line, got)
		}
	}
	if got := openclaw.LogLine(answer); got != "2026-11-27T11:55:37.806Z [info] (text of a conversation, not shown)" {
		t.Errorf("an answer is shown as %q", got)
	}
	failure := `{"time":"2026-11-27T11:55:37.806+00:00","level":"error","message":"Uncaught exception: out of memory"}`
	if got := openclaw.LogLine(failure); !strings.HasSuffix(got, "[error] Uncaught exception: out of memory") {
		t.Errorf("a failure is shown as %q", got)
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
