package mcp

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

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
