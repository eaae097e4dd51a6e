package client

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestChatReportsAnInterruptedAnswer: half a line is not an event, whether the
// connection broke or the response ended.
func TestChatReportsAnInterruptedAnswer(t *testing.T) {
	const begun = "data: {\"type\":\"text\",\"content\":\"Hello\"}\n\ndata: {\"type\":\"text\",\"cont"
	for name, end := range map[string]func(){"cut": func() { panic(http.ErrAbortHandler) }, "ended": func() {}} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, begun)
				_ = http.NewResponseController(w).Flush()
				end()
			}))
			defer s.Close()
			c := Client{URL: s.URL, Retries: -1}
			var text string
			var last error
			for e, err := range c.Chat(t.Context(), "a", ChatRequest{Message: "Hi"}) {
				text, last = text+e.Content, err
			}
			if text != "Hello" || !errors.Is(last, io.ErrUnexpectedEOF) {
				t.Errorf("the text is %q, the error %v", text, last)
			}
			for line, err := range c.FollowLogs(t.Context(), "a", 0) {
				if err == nil && line != `{"type":"text","content":"Hello"}` {
					t.Errorf("half a line was reported: %q", line)
				}
			}
		})
	}
}
