package database_test

import (
	"slices"
	"testing"

	"agento.host/agento/internal/database"
)

// TestTurnMessagesMigrate: the message of a turn that runs leaves the history, where the
// end of the turn appends it. Those of other turns and of channels stay, and ended turns
// have their answers.
func TestTurnMessagesMigrate(t *testing.T) {
	db := migratedFrom(t, "0071",
		`INSERT INTO sessions (id, account_id, agent_id, owner, peer_id, entry, gateway_key, channel, started_at) VALUES ('s', 'c', 'a', '', '', '', '', 'api', 1)`,
		`INSERT INTO turns (id, account_id, agent_id, session_id, message, context, on_disconnect, state, holder, lease_until, created_at) VALUES
				('t1', 'c', 'a', 's', '', '', '', 'done', '', 0, 1), ('t2', 'c', 'a', 's', '', '', '', 'cancelled', '', 0, 1), ('t3', 'c', 'a', 's', 'q3', '', '', 'running', 'h', 9, 1), ('t4', 'c', 'a', 's', 'q4', '', '', 'queued', '', 0, 1)`,
		`INSERT INTO messages (account_id, agent_id, session_id, role, content, turn_id, at) VALUES
				('c', 'a', 's', 'user', 'q1', 't1', 1), ('c', 'a', 's', 'user', 'from a channel', NULL, 1), ('c', 'a', 's', 'assistant', 'a1', 't1', 2), ('c', 'a', 's', 'user', 'q2', 't2', 3), ('c', 'a', 's', 'user', 'q3', 't3', 4)`,
	)
	messages, err := database.All(t.Context(), db, database.Scalar[string], `SELECT content FROM messages ORDER BY seq`)
	if err != nil || !slices.Equal(messages, []string{"q1", "from a channel", "a1", "q2"}) {
		t.Errorf("the history is %q, %v", messages, err)
	}
	answers, err := database.All(t.Context(), db, database.Scalar[string], `SELECT coalesce(content, '') FROM turns LEFT JOIN messages ON seq = answer_seq ORDER BY id`)
	if err != nil || !slices.Equal(answers, []string{"a1", "", "", ""}) {
		t.Errorf("the answers are %q, %v", answers, err)
	}
}
