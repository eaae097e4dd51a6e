package chat

import (
	"context"
	"strings"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/modelturn"
)

// TestUsageOfATurnIsThatOfItsCalls, which are for the key that has sent its message, also if it
// had to wait for another.
func TestUsageOfATurnIsThatOfItsCalls(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	proceed := make(chan struct{})
	keys := make(chan string, 2)
	env.gateways.setScript(func(ctx context.Context, r receivedTurn, _ func(string) error) {
		select {
		case <-proceed:
		case <-ctx.Done():
			return
		}
		for i, stop := range []modelturn.Stop{modelturn.Tools, modelturn.End} {
			call, _ := env.ModelTurn(t.Context(), account, a.ID, strings.ToLower(r.Session), func() bool { return true }).Begin()
			if i == 0 {
				keys <- call.Key()
			}
			call.Text("text")
			call.End(modelturn.Result{Stop: stop, Usage: modelturn.Usage{
				Input: 7, CacheRead: 100, CacheWrite: 2, Output: 3, Reasoning: 1, Requests: 1, Estimated: int64(i), Unpriced: int64(1 - i), Micros: 1000 * int64(i),
			}})
		}
	})
	first := env.begin(a, client.ChatRequest{Message: "Hello"})
	second := env.begin(a, client.ChatRequest{Message: "And now?"})
	if second.State != Queued {
		t.Fatalf("%+v", second)
	}
	close(proceed)
	want := Usage{
		InputTokens: 214, CacheReadTokens: 200, CacheWriteTokens: 4, OutputTokens: 6, ReasoningTokens: 2, Requests: 2, EstimatedRequests: 1, UnpricedRequests: 1, CostMicros: 1000,
	}
	for _, turn := range []Turn{first, second} {
		followed, err := env.Follow(env.timeout(), turn, 0, func(int64, string) error { return nil })
		if err != nil || followed.Usage != want {
			t.Errorf("%+v, %v", followed.Usage, err)
		}
		if stored, _ := env.find(turn); stored.Usage != want {
			t.Errorf("stored %+v", stored.Usage)
		}
		if key := <-keys; key == "" || key != env.actor.ID {
			t.Errorf("the key is %q, want %q", key, env.actor.ID)
		}
	}
}
