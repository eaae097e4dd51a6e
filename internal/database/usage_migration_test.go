package database_test

import (
	"fmt"
	"testing"

	"agento.host/agento/internal/database"
)

// TestUsageMigrates: what was counted before stays, with no price, and a row can then have a key
// and a swarm.
func TestUsageMigrates(t *testing.T) {
	db := migratedFrom(t, "0093",
		`INSERT INTO usage (account_id, agent_id, hour, session_id, peer_id, provider, model, requests, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens) VALUES
			('c', 'a', 3600000, 's', 'p', 'openai', 'm', 2, 10, 20, 3, 4), ('c', 'a', 7200000, 's', 'p', 'openai', 'm', 1, 1, 1, 1, 1)`,
	)
	rows, err := database.All(t.Context(), db, database.Scalar[string], `SELECT hour || ' ' || agent_id || session_id || peer_id || key_id || swarm_id || ' ' || requests || ' ' || unpriced_requests || ' ' ||
		input_tokens || ' ' || output_tokens || ' ' || reasoning_tokens || ' ' || cache_read_tokens || ' ' || cache_write_tokens || ' ' || cost_micros FROM usage ORDER BY hour`)
	if got := fmt.Sprint(rows); err != nil || got != "[3600000 asp 2 2 10 20 0 3 4 0 7200000 asp 1 1 1 1 0 1 1 0]" {
		t.Errorf("%s, %v", got, err)
	}
}
