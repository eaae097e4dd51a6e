package client

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestAnAnswerThatBreaksOff: half a line is no event, whichever way it ended.
func TestAnAnswerThatBreaksOff(t *testing.T) {
	const begun = "data: {\"type\":\"text\",\"content\":\"Hello\"}\n\ndata: {\"type\":\"text\",\"cont"
	for name, end := range map[string]func(){"cut": func() { panic(http.ErrAbortHandler) }, "ended": func() {}} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, begun)
				_ = http.NewResponseController(w).Flush()
				end()
			}))
			defer s.Close()
			c := Client{URL: s.URL}
			var said string
			var last error
			for e, err := range c.Chat(t.Context(), "a", ChatRequest{Message: "Hi"}) {
				said, last = said+e.Content, err
			}
			if said != "Hello" || !errors.Is(last, io.ErrUnexpectedEOF) {
				t.Errorf("said %q, ended with %v", said, last)
			}
			for line, err := range c.FollowLogs(t.Context(), "a", 0) {
				if err == nil && line != `{"type":"text","content":"Hello"}` {
					t.Errorf("half a line: %q", line)
				}
			}
		})
	}
}
