package mcp

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"agento.host/agento/internal/gateway"
)

// TestAPanicOfAToolIsAnError: it happens on a goroutine where net/http does not
// stop it, so it would end the whole server.
func TestAPanicOfAToolIsAnError(t *testing.T) {
	var log bytes.Buffer
	h := New(Settings{Log: slog.New(slog.NewTextHandler(&log, nil))}) // without knowledge, so that a search panics
	result, _, err := h.searchFor(gateway.Caller{AgentID: "a1"})(t.Context(), nil, searchInput{Query: "what"})
	if err != nil || result == nil || !result.IsError {
		t.Fatalf("got %+v, %v", result, err)
	}
	if text, err := json.Marshal(result.Content); err != nil || strings.Contains(string(text), "nil pointer") {
		t.Errorf("the agent is told the cause: %s, %v", text, err)
	}
	if text := log.String(); !strings.Contains(text, "nil pointer") || !strings.Contains(text, "agent=a1") {
		t.Errorf("the log lacks the cause or the agent: %s", text)
	}
}
