package chat

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/vault"
)

const sessionColumns = `id, account_id, agent_id, owner, peer_id, entry, gateway_key, name, channel, started_at`

func scanSession(r database.Row) (Session, error) {
	var s Session
	var started int64
	err := r.Scan(&s.ID, &s.AccountID, &s.AgentID, &s.Owner, &s.PeerID, &s.Entry, &s.GatewayKey, &s.Name, &s.Channel, &started)
	s.StartedAt = database.Time(started)
	return s, err
}

// damagedSession keeps a session whose start cannot be decoded.
func damagedSession(s *Session, _ error) (row string, keep bool) {
	return "session " + string(s.ID), true
}

// damagedMessage keeps a message whose time or text cannot be decoded.
func damagedMessage(*Message, error) (row string, keep bool) { return "a message", true }

// findSession returns a session of an agent that exists for the caller. If peer is not
// empty, the session must be that peer's. Faults: NotFound.
func findSession(ctx context.Context, q database.Reader, caller Caller, agent identity.AgentID, id identity.SessionID, peer string) (Session, error) {
	s, err := database.OneReadable(ctx, q, scanSession, damagedSession,
		`SELECT `+sessionColumns+` FROM sessions WHERE account_id = $1 AND agent_id = $2 AND id = $3 AND ($4 = '' OR peer_id = $4) AND ($5 = '' OR entry = $5)`,
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
		`SELECT `+sessionColumns+` FROM sessions WHERE account_id = $1 AND agent_id = $2 AND owner = $3 AND entry = $4 ORDER BY started_at DESC, id DESC LIMIT 1`,
		v.AccountID, v.AgentID, v.Owner, v.Entry)
}

// sessionByGatewayKey returns the session with a key in its agent's gateway.
// Errors: sql.ErrNoRows.
func sessionByGatewayKey(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID, key string) (Session, error) {
	return database.OneReadable(ctx, q, scanSession, damagedSession,
		`SELECT `+sessionColumns+` FROM sessions WHERE account_id = $1 AND agent_id = $2 AND gateway_key = $3`, account, agent, key)
}

func insertSession(ctx context.Context, tx *database.Tx, s Session) error {
	_, err := tx.ExecContext(ctx,
		`INSERT INTO sessions (`+sessionColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		s.ID, s.AccountID, s.AgentID, s.Owner, s.PeerID, s.Entry, s.GatewayKey, s.Name, s.Channel, database.Millis(s.StartedAt))
	if err != nil {
		return fmt.Errorf("insert session: %w", err)
	}
	return nil
}

// listSessions returns the sessions of an entry, or of every one if it is empty, that
// were started last, newest first, and how many there are in total.
func listSessions(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID, entry openclaw.Entry, limit int) ([]Session, int, error) {
	const where = ` FROM sessions WHERE account_id = $1 AND agent_id = $2 AND ($3 = '' OR entry = $3)`
	args := []any{account, agent, entry}
	all, err := database.AllReadable(ctx, q, scanSession, damagedSession, `SELECT `+sessionColumns+where+` ORDER BY started_at DESC, id DESC LIMIT $4`, append(args[:len(args):len(args)], limit)...)
	if err != nil {
		return nil, 0, err
	}
	// Counted after listing, so that a session that starts in between does not make
	// the list longer than the total.
	total, err := database.One(ctx, q, database.Scalar[int], `SELECT count(*)`+where, args...)
	return all, total, err
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
	content, err := key.Seal(m.Content, messagePlace(s.ID, "", m.Role, gatewayID)...)
	if err != nil {
		return false, fmt.Errorf("seal message: %w", err)
	}
	n, err := database.Exec(ctx, tx,
		`INSERT INTO messages (account_id, agent_id, session_id, role, content, gateway_id, at) VALUES ($1, $2, $3, $4, $5, $6, $7)
		 ON CONFLICT (session_id, gateway_id) DO NOTHING`,
		s.AccountID, s.AgentID, s.ID, m.Role, content, sql.NullString{String: gatewayID, Valid: gatewayID != ""}, database.Millis(m.At))
	if err != nil {
		return false, fmt.Errorf("insert message: %w", err)
	}
	return n == 1, nil
}

// maxHistory is how many bytes of text one page of the history has, unless it is a single
// message.
const maxHistory = 4 << 20

// listMessages returns the last messages after since that fit in maxHistory, oldest first,
// and how many there are in total. If session is empty, it lists those of all sessions of
// the agent; if entry is not empty, only those of its sessions. The message of a turn that
// runs is in its row, and sorts after those of the same time.
func listMessages(ctx context.Context, q database.Reader, key vault.TextKey, account identity.AccountID, agent identity.AgentID, entry openclaw.Entry, session identity.SessionID, since time.Time, limit int) ([]Message, int, error) {
	const ended = ` FROM messages WHERE account_id = $1 AND agent_id = $2 AND ($3 = '' OR session_id = $3) AND at > $4
		AND ($5 = '' OR EXISTS (SELECT 1 FROM sessions WHERE sessions.id = messages.session_id AND entry = $5))`
	const running = ` FROM turns WHERE state = 'running' AND state IN ('queued', 'running') AND account_id || '' = $1 AND agent_id || '' = $2
		AND ($3 = '' OR session_id = $3) AND started_at > $4
		AND ($5 = '' OR EXISTS (SELECT 1 FROM sessions WHERE sessions.id = turns.session_id AND entry = $5))`
	args := []any{account, agent, session, database.Millis(since), entry}
	all, err := database.AllReadable(ctx, q, scanMessageWith(key), damagedMessage,
		`SELECT session_id, turn_id, role, gateway_id, content, at FROM (
			SELECT *, sum(octet_length(content) - CASE typeof(content) WHEN 'blob' THEN $8 ELSE 0 END) OVER newest AS bytes, row_number() OVER newest AS number FROM (
				SELECT session_id, coalesce(turn_id, '') AS turn_id, role, coalesce(gateway_id, '') AS gateway_id, content, at, seq`+ended+`
				UNION ALL SELECT session_id, id, 'user', '', message, started_at, position + (1 << 61)`+running+`
				ORDER BY at DESC, seq DESC LIMIT $6) AS last
			WINDOW newest AS (ORDER BY at DESC, seq DESC)
		 ) AS page WHERE bytes <= $7 OR number = 1 ORDER BY at, seq`,
		append(args[:len(args):len(args)], limit, maxHistory, vault.TextOverhead)...)
	if err != nil {
		return nil, 0, err
	}
	total, err := database.One(ctx, q, database.Scalar[int], `SELECT (SELECT count(*)`+ended+`) + (SELECT count(*)`+running+`)`, args...) // after listing, as in listSessions
	return all, total, err
}

// scanMessageWith returns a function that scans a message, with what it is sealed for, and
// opens it.
func scanMessageWith(key vault.TextKey) func(database.Row) (Message, error) {
	return func(r database.Row) (Message, error) {
		var m Message
		var session identity.SessionID
		var turn identity.TurnID
		var gatewayID string
		var content vault.Text
		var at int64
		err := r.Scan(&session, &turn, &m.Role, &gatewayID, &content, &at)
		m.At = database.Time(at)
		if err != nil {
			return m, err
		}
		m.Content, err = openColumn(key, "content", content, messagePlace(session, turn, m.Role, gatewayID)...)
		return m, err
	}
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
		`DELETE FROM turns WHERE account_id = $1 AND agent_id = $2`,
		`DELETE FROM channel_readers WHERE account_id = $1 AND agent_id = $2`,
		`DELETE FROM sessions WHERE account_id = $1 AND agent_id = $2`,
	} {
		if _, err := tx.ExecContext(ctx, query, actor.AccountID, agent); err != nil {
			return fmt.Errorf("delete the chat of an agent: %w", err)
		}
	}
	return nil
}
