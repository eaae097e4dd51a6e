package main

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// hostile is a text that changes the title, clears the screen, and shows another text
// than it has.
const hostile = "a\x1b]0;owned\x07b\u009b2J\x7f\rnew\u202egnp.exe\u2066 Grüße 👩\u200d💻\n\tend"

func TestNothingControlsATerminal(t *testing.T) {
	want := `a\x1b]0;owned\x07b\u009b2J\x7f\x0dnew\u202egnp.exe\u2066 Grüße 👩` + "\u200d💻\n\tend"
	if got := escapeText(hostile); got != want {
		t.Errorf("\n got %q\nwant %q", got, want)
	}
	if got := escapeLine(hostile); strings.ContainsFunc(got, controls) {
		t.Errorf("%q", got)
	}
	if got := escapeText("a\x9b2Jb"); got != `a\x9b2Jb` {
		t.Errorf("a byte that is no UTF-8: %q", got)
	}
	if got := escapeText("one\r\ntwo"); got != "one\ntwo" {
		t.Errorf("%q", got)
	}
	// The same in pieces, cut anywhere.
	for cut := range len(hostile) {
		var out strings.Builder
		w := escapingWriter{w: &out}
		for _, piece := range []string{hostile[:cut], hostile[cut:]} {
			if err := w.WriteString(piece); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil || out.String() != want || !utf8.ValidString(out.String()) {
			t.Fatalf("cut at %d: %q, %v", cut, out.String(), err)
		}
	}
}

// TestTextsOfOthersAreEscaped: names, answers, logs, errors and JSON.
func TestTextsOfOthersAreEscaped(t *testing.T) {
	s := newStub(t)
	quoted := `"x\u001b]0;owned\u0007\u009b2J\u202e"`
	s.on("GET /v1/agents", `{"data":[{"id":"`+ada+`","name":`+quoted+`,"status":"stopped"}]}`)
	s.on("GET /v1/agents/{id}", `{"data":{"id":"`+ada+`","name":`+quoted+`,"status":"error","lastError":`+quoted+`}}`)
	s.on("GET /v1/agents/{id}/logs", `{"data":{"logs":`+quoted+`}}`)
	s.on("GET /v1/agents/{id}/chat/messages", `{"data":[{"role":"assistant","content":`+quoted+`,"timestamp":"2026-01-01T00:00:00Z"}]}`)
	s.on("POST /v1/agents/{id}/chat/messages", "data: {\"type\":\"text\",\"content\":"+quoted+"}\n\ndata: {\"type\":\"error\",\"code\":\"upstream_error\",\"message\":"+quoted+"}\n\n")
	s.on("GET /v1/knowledge/search", `{"data":[{"text":`+quoted+`,"source":`+quoted+`,"reason":"text"}]}`)
	for _, args := range []string{"agents list", "agents get " + ada, "logs " + ada, "history " + ada, "chat " + ada + " hello", "knowledge search --agent " + ada + " x"} {
		for _, format := range []string{"", " --json"} {
			got := command(t, "", strings.Fields(args+format)...)
			all := got.out + got.err
			if !strings.Contains(all, "owned") || strings.ContainsFunc(all, func(r rune) bool { return controls(r) && r != '\n' }) {
				t.Errorf("agento %s%s: %q", args, format, all)
			}
		}
	}
}
