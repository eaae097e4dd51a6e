package metrics_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/metrics"
)

func scrape(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	text, err := io.ReadAll(w.Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatalf("status %d, %v: %s", w.Code, err, text)
	}
	return string(text)
}

func TestMetricsAreCounted(t *testing.T) {
	m := metrics.New(metrics.Settings{Version: "v1", State: func(context.Context) (metrics.State, error) {
		return metrics.State{Agents: map[string]int{"running": 3}, States: map[string]int{"asleep": 2}, WaitingForMemory: 1, WaitingForBoot: 2, LastBackup: time.Now().Add(-time.Hour),
			CheckpointCounts: map[string]int{"disk": 4}, CheckpointBytes: map[string]int64{"disk": 5}}, nil
	}})
	m.Request("GET", "/v1/agents/{id}", 200, 3*time.Millisecond)
	m.Request("INVENTED", "", 404, time.Millisecond)
	m.Turn("done", "end", 700*time.Millisecond, 2*time.Second)
	m.Turn("failed", "error", 0, time.Second)
	m.Boot(true, 12*time.Second)
	m.Boot(false, time.Second)
	m.Wake("checkpoint", 600*time.Millisecond)
	m.Suspend("busy", time.Millisecond)
	m.ModelCall("anthropic", 200, time.Second, metrics.Tokens{Input: 10, Output: 5, CacheRead: 7})
	m.ModelCall("anthropic", 0, 0, metrics.Tokens{})
	m.Refused("streams of a key")
	m.Transaction("chat.start", time.Millisecond)
	text := scrape(t, m)
	for _, want := range []string{
		`agento_request_seconds_bucket{method="GET",route="/v1/agents/{id}",status="200",le="0.005"} 1`,
		`agento_request_seconds_count{method="other",route="",status="404"} 1`,
		`agento_turns_total{state="done",stop_reason="end"} 1`,
		`agento_turn_first_text_seconds_count 1`,
		`agento_turn_seconds_count 2`,
		`agento_boot_seconds_count{result="ready"} 1`,
		`agento_boot_seconds_count{result="failed"} 1`,
		`agento_wake_seconds_count{kind="checkpoint"} 1`,
		`agento_wake_seconds_bucket{kind="checkpoint",le="0.75"} 1`,
		`agento_suspend_seconds_count{result="busy"} 1`,
		`agento_agent_states{state="asleep"} 2`,
		`agento_model_calls_total{provider="anthropic",status="200"} 1`,
		`agento_model_calls_total{provider="anthropic",status="0"} 1`,
		`agento_model_first_byte_seconds_count{provider="anthropic"} 1`,
		`agento_model_tokens_total{kind="cache_read",provider="anthropic"} 7`,
		`agento_refusals_total{resource="streams of a key"} 1`,
		`agento_transaction_seconds_count{kind="chat.start"} 1`,
		`agento_agents{status="running"} 3`,
		`agento_agents_waiting{for="boot"} 2`,
		`agento_agents_waiting{for="memory"} 1`,
		`agento_build_info{version="v1"} 1`,
		`agento_backup_age_seconds 360`,
		`agento_checkpoints{form="disk"} 4`,
		`agento_checkpoints_bytes{form="disk"} 5`,
		`process_open_fds`, `go_goroutines`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
}

// What can be counted is shown also if the database cannot be read.
func TestMetricsWithoutState(t *testing.T) {
	m := metrics.New(metrics.Settings{State: func(context.Context) (metrics.State, error) { return metrics.State{}, errors.New("no database") }})
	m.Boot(true, time.Second)
	if text := scrape(t, m); !strings.Contains(text, `agento_boot_seconds_count{result="ready"} 1`) {
		t.Error(text)
	}
}
