package database_test

import (
	"slices"
	"testing"

	"agento.host/agento/internal/database"
)

// TestHistoryMigrates: messages and sessions keep their order, the message of a turn that
// runs is the last of its agent, and sessions know what is in them.
func TestHistoryMigrates(t *testing.T) {
	db := migratedFrom(t, "0086",
		`INSERT INTO sessions (id, account_id, agent_id, owner, peer_id, entry, gateway_key, channel, started_at) VALUES
				('late', 'c', 'a', '', '', '', '1', 'api', 5), ('early', 'c', 'a', '', '', '', '2', 'api', 1), ('other', 'c', 'b', '', '', '', '3', 'api', 3)`,
		`INSERT INTO messages (account_id, agent_id, session_id, role, content, at) VALUES
				('c', 'a', 'late', 'user', 'third', 7), ('c', 'a', 'early', 'user', 'first', 2), ('c', 'b', 'other', 'user', 'only', 4), ('c', 'a', 'early', 'assistant', 'second', 2)`,
		`INSERT INTO turns (id, account_id, agent_id, session_id, message, context, on_disconnect, state, holder, lease_until, created_at, started_at) VALUES
				('t1', 'c', 'a', 'late', '', '', '', 'running', 'h', 9, 1, 8), ('t2', 'c', 'a', 'late', '', '', '', 'queued', '', 0, 1, 0), ('t3', 'c', 'd', 'late', '', '', '', 'running', 'h', 9, 1, 8)`,
	)
	for query, want := range map[string][]string{
		`SELECT concat(agent_id, number, content) FROM messages ORDER BY agent_id, number`:              {"a1first", "a2second", "a3third", "b1only"},
		`SELECT concat(id, message_number) FROM turns ORDER BY id`:                                      {"t14", "t20", "t31"},
		`SELECT concat(agent_id, last) FROM message_numbers ORDER BY agent_id`:                          {"a4", "b1", "d1"},
		`SELECT concat(id, number, ' ', message_count, ' ', last_message_at) FROM sessions ORDER BY id`: {"early1 2 2", "late2 1 7", "other1 1 4"},
	} {
		if got, err := database.All(t.Context(), db, database.Scalar[string], query); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", query, got, err, want)
		}
	}
}
