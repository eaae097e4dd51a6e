package agenttools

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/gateway"
)

// TestPanicOfAToolIsAnError: net/http does not recover a panic on the goroutine of a
// tool, so it would end the server.
func TestPanicOfAToolIsAnError(t *testing.T) {
	var log bytes.Buffer
	h := New(Settings{Log: slog.New(slog.NewTextHandler(&log, nil))}) // a search without a knowledge service panics
	result, _, err := h.searchTool(gateway.Caller{AgentID: "a1"})(t.Context(), nil, searchInput{Query: "what"})
	if err != nil || result == nil || !result.IsError {
		t.Fatalf("got %+v, %v", result, err)
	}
	if text, err := json.Marshal(result.Content); err != nil || strings.Contains(string(text), "nil pointer") {
		t.Errorf("the result contains the cause: %s, %v", text, err)
	}
	if text := log.String(); !strings.Contains(text, "nil pointer") || !strings.Contains(text, "agent=a1") {
		t.Errorf("the log does not contain the cause or the agent: %s", text)
	}
}

// TestRequestsTakeMemoryOfTheirAgent before their body is read.
func TestRequestsTakeMemoryOfTheirAgent(t *testing.T) {
	memory := budget.New(budget.Settings{Each: 100, Refusal: "Make fewer at once."})
	h := New(Settings{Memory: memory})
	caller := gateway.Caller{AccountID: "acct_1", AgentID: "a1"}
	request := func(size int64) *http.Request {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/tools", strings.NewReader("{}"))
		r.ContentLength = size
		return r
	}
	release, err := h.hold(request(60), caller)
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.hold(request(60), caller)
	out := httptest.NewRecorder()
	refuse(out, fault.From(err))
	if out.Code != http.StatusTooManyRequests || out.Header().Get("Retry-After") != "5" || out.Header().Get("Connection") != "close" || !strings.Contains(out.Body.String(), "Make fewer at once.") {
		t.Errorf("%d %v %s", out.Code, out.Header(), out.Body)
	}
	if other, err := h.hold(request(60), gateway.Caller{AccountID: "acct_1", AgentID: "a2"}); err != nil {
		t.Errorf("another agent: %v", err)
	} else {
		other()
	}
	release()
	if _, err := h.hold(request(-1), caller); err != nil { // of unknown size: all that the agent may have
		t.Error(err)
	}
}
