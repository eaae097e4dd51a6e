package chat

import (
	"context"
	"fmt"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
)

// TestEmptyAgentDeletesMessagesAndPieces, also more than one transaction may, and only those
// of the agent.
func TestEmptyAgentDeletesMessagesAndPieces(t *testing.T) {
	env := newTestEnv(t)
	a, b := env.createAgent("ada"), env.createAgent("bob")
	env.send(a, "", "Hello")
	env.send(b, "", "Hello")
	session := env.session(a, client.ChatRequest{Message: "m", PeerID: "alice"})
	env.must(env.db.Tx(t.Context(), "chat.test", func(ctx context.Context, tx *database.Tx) error {
		for i := range 2*emptiedRows + 10 {
			if _, err := env.insertMessage(tx, session, Message{Role: "user", Content: fmt.Sprint(i), At: time.Now()}, ""); err != nil {
				return err
			}
		}
		return nil
	}))
	env.must(EmptyAgent(env.db)(t.Context(), a.AccountID, a.ID))
	for query, want := range map[string]int{
		`SELECT count(*) FROM messages WHERE agent_id = $1`:                                                     0,
		`SELECT count(*) FROM turn_pieces WHERE turn_id IN (SELECT id FROM turns WHERE agent_id = $1)`:          0,
		`SELECT count(*) FROM messages WHERE agent_id <> $1`:                                                    2,
		`SELECT min(1, count(*)) FROM turn_pieces WHERE turn_id IN (SELECT id FROM turns WHERE agent_id <> $1)`: 1,
	} {
		if got, err := database.One(t.Context(), env.db, database.Scalar[int], query, a.ID); err != nil || got != want {
			t.Errorf("%s: %d, %v", query, got, err)
		}
	}
}
