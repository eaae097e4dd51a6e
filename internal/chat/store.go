package chat

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

const sessionColumns = `id, account_id, agent_id, owner, peer_id, entry, gateway_key, name, title, channel, imported, started_at, one_shot`

func scanSession(r database.Row) (Session, error) {
	var s Session
	var started int64
	err := r.Scan(s.columns(&started)...)
	s.StartedAt = database.Time(started)
	return s, err
}

// columns returns where sessionColumns are scanned.
func (s *Session) columns(startedAt *int64) []any {
	return []any{&s.ID, &s.AccountID, &s.AgentID, &s.Owner, &s.PeerID, &s.Entry, &s.GatewayKey, &s.name, &s.title, &s.Channel, &s.Imported, startedAt, &s.oneShot}
}

// damagedSession keeps a session whose start cannot be decoded.
func damagedSession(s *Session, _ error) (row string, keep bool) {
	return "session " + string(s.ID), true
}

// findSession returns a session of an agent that exists for the caller. If peer is not
// empty, the session must be that peer's. Faults: NotFound.
func findSession(ctx context.Context, q database.Reader, caller Caller, agent identity.AgentID, id identity.SessionID, peer string) (Session, error) {
	s, err := database.OneReadable(ctx, q, scanSession, damagedSession,
		`SELECT `+sessionColumns+` FROM sessions WHERE account_id = $1 AND agent_id = $2 AND id = $3 AND NOT one_shot AND ($4 = '' OR peer_id = $4) AND ($5 = '' OR entry = $5)`,
		caller.AccountID, agent, id, peer, caller.visible())
	if errors.Is(err, sql.ErrNoRows) {
		return s, fault.New(fault.NotFound, "There is no session %q here. List them with GET /v1/agents/%s/chat/sessions.", id, agent)
	}
	return s, err
}

// latestSession returns the session that was started last of those with the owner and
// the entry of v. Errors: sql.ErrNoRows.
func latestSession(ctx context.Context, q database.Reader, v Session) (Session, error) {
	return database.OneReadable(ctx, q, scanSession, damagedSession,
		`SELECT `+sessionColumns+` FROM sessions WHERE account_id = $1 AND agent_id = $2 AND owner = $3 AND entry = $4 ORDER BY number DESC LIMIT 1`,
		v.AccountID, v.AgentID, v.Owner, v.Entry)
}

// sessionByGatewayKey returns the session with a key in its agent's gateway.
// Errors: sql.ErrNoRows.
func sessionByGatewayKey(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID, key string) (Session, error) {
	return database.OneReadable(ctx, q, scanSession, damagedSession,
		`SELECT `+sessionColumns+` FROM sessions WHERE account_id = $1 AND agent_id = $2 AND gateway_key = $3`, account, agent, key)
}

// insertSession inserts a session after all others of its agent.
func insertSession(ctx context.Context, tx *database.Tx, s Session) error {
	_, err := tx.ExecContext(ctx,
		`INSERT INTO sessions (`+sessionColumns+`, number)
		 SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, coalesce(max(number), 0) + 1 FROM sessions WHERE account_id = $2 AND agent_id = $3`,
		s.ID, s.AccountID, s.AgentID, s.Owner, s.PeerID, s.Entry, s.GatewayKey, s.name, s.title, s.Channel, s.Imported, database.Millis(s.StartedAt), s.oneShot)
	if err != nil {
		return fmt.Errorf("insert session: %w", err)
	}
	return nil
}

// messagePlace returns what a message is sealed for. A turn has one message of each role,
// and a message of a channel has its id in the gateway.
func messagePlace(session identity.SessionID, turn identity.TurnID, role, gatewayID string) []string {
	return []string{"message", string(session), string(turn), role, gatewayID}
}

// insertMessage appends a message to a session. gatewayID is the message's id in the
// gateway, or "" if it has none. A message whose gatewayID the session already has is
// not inserted again. insertMessage reports whether it inserted the message.
func insertMessage(ctx context.Context, tx *database.Tx, key vault.TextKey, s Session, m Message, gatewayID string) (bool, error) {
	id := sql.NullString{String: gatewayID, Valid: gatewayID != ""}
	stored, err := database.One(ctx, tx, database.Scalar[bool], `SELECT EXISTS (SELECT 1 FROM messages WHERE session_id = $1 AND gateway_id = $2)`, s.ID, id)
	if err != nil || stored {
		return false, err
	}
	content, err := key.Seal(m.Content, messagePlace(s.ID, "", m.Role, gatewayID)...)
	if err != nil {
		return false, fmt.Errorf("seal message: %w", err)
	}
	number, err := nextMessageNumber(ctx, tx, s.AccountID, s.AgentID)
	if err != nil {
		return false, err
	}
	_, err = tx.ExecContext(ctx,
		`INSERT INTO messages (account_id, agent_id, session_id, role, content, gateway_id, at, number) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		s.AccountID, s.AgentID, s.ID, m.Role, content, id, database.Millis(m.At), number)
	if err != nil {
		return false, fmt.Errorf("insert message: %w", err)
	}
	return true, nil
}

// nextMessageNumber returns the number of the next message of an agent. The transaction
// that takes a number makes the message visible, so that a reader who has seen a number has
// seen all before it.
func nextMessageNumber(ctx context.Context, tx *database.Tx, account identity.AccountID, agent identity.AgentID) (int64, error) {
	n, err := database.One(ctx, tx, database.Scalar[int64],
		`INSERT INTO message_numbers (agent_id, account_id, last) VALUES ($1, $2, 1) ON CONFLICT (agent_id) DO UPDATE SET last = message_numbers.last + 1 RETURNING last`,
		agent, account)
	if err != nil {
		return 0, fmt.Errorf("take the number of a message: %w", err)
	}
	return n, nil
}

// openColumn opens a text of a column. Errors: *database.ColumnError.
func openColumn(key vault.TextKey, column string, t vault.Text, place ...string) (string, error) {
	text, err := key.Open(t, place...)
	if err != nil {
		return "", &database.ColumnError{Column: column, Err: err}
	}
	return text, nil
}

// emptiedRows is how many rows one transaction of EmptyAgent deletes. A message may have a
// megabyte.
const emptiedRows = 100

// EmptyAgent returns a function that deletes the messages and the pieces of an agent, some at
// a time. It precedes DeleteAgent, which then has little left to do.
func EmptyAgent(db *database.DB) func(context.Context, identity.AccountID, identity.AgentID) error {
	return func(ctx context.Context, account identity.AccountID, agent identity.AgentID) error {
		for _, query := range []string{
			`DELETE FROM messages WHERE seq IN (SELECT seq FROM messages WHERE account_id = $1 AND agent_id = $2 LIMIT $3)`,
			`DELETE FROM turn_pieces WHERE (turn_id, seq) IN (
				SELECT p.turn_id, p.seq FROM turns t JOIN turn_pieces p ON p.turn_id = t.id WHERE t.account_id = $1 AND t.agent_id = $2 LIMIT $3)`,
			`DELETE FROM turn_steps WHERE turn_id IN (SELECT turn_id FROM turn_steps WHERE account_id = $1 AND agent_id = $2 LIMIT $3)`,
		} {
			for n := int64(emptiedRows); n == emptiedRows; {
				err := db.Tx(ctx, "chat.empty_agent", func(ctx context.Context, tx *database.Tx) (err error) {
					n, err = database.Exec(ctx, tx, query, account, agent, emptiedRows)
					return err
				})
				if err != nil {
					return fmt.Errorf("delete the chat of an agent: %w", err)
				}
			}
		}
		return nil
	}
}

// DeleteAgent deletes what is recorded of the conversations of an agent.
func DeleteAgent(ctx context.Context, tx *database.Tx, actor identity.Actor, agent identity.AgentID) error {
	for _, query := range []string{
		`DELETE FROM messages WHERE account_id = $1 AND agent_id = $2`,
		`DELETE FROM turn_pieces WHERE turn_id IN (SELECT id FROM turns WHERE account_id = $1 AND agent_id = $2)`,
		`DELETE FROM turn_steps WHERE account_id = $1 AND agent_id = $2`,
		`DELETE FROM turn_inputs WHERE turn_id IN (SELECT id FROM turns WHERE account_id = $1 AND agent_id = $2)`,
		`DELETE FROM turn_requests WHERE turn_id IN (SELECT id FROM turns WHERE account_id = $1 AND agent_id = $2)`,
		`DELETE FROM turns WHERE account_id = $1 AND agent_id = $2`,
		`DELETE FROM channel_readers WHERE account_id = $1 AND agent_id = $2`,
		`DELETE FROM message_numbers WHERE account_id = $1 AND agent_id = $2`,
		`DELETE FROM sessions WHERE account_id = $1 AND agent_id = $2`,
	} {
		if _, err := tx.ExecContext(ctx, query, actor.AccountID, agent); err != nil {
			return fmt.Errorf("delete the chat of an agent: %w", err)
		}
	}
	return nil
}
