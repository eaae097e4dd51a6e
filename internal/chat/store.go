package chat

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
)

const columns = `id, account_id, agent_id, owner, peer_id, entry, gateway_key, name, channel, started_at`

func scan(r database.Row) (Session, error) {
	var s Session
	var started int64
	err := r.Scan(&s.ID, &s.AccountID, &s.AgentID, &s.Owner, &s.PeerID, &s.Entry, &s.GatewayKey, &s.Name, &s.Channel, &started)
	s.StartedAt = database.Time(started)
	return s, err
}

// find returns a session of an agent. With a peer it must be that peer's.
func find(ctx context.Context, q database.Querier, accountID, agentID, id, peer string) (Session, error) {
	s, err := database.One(ctx, q, scan,
		`SELECT `+columns+` FROM sessions WHERE account_id = $1 AND agent_id = $2 AND id = $3 AND ($4 = '' OR peer_id = $4)`,
		accountID, agentID, id, peer)
	if errors.Is(err, sql.ErrNoRows) {
		return s, fault.New(fault.NotFound, "There is no session %q here. List them with GET /v1/agents/%s/chat/sessions.", id, agentID)
	}
	return s, err
}

// newest returns the session of an owner that was started last.
func newest(ctx context.Context, q database.Querier, accountID, agentID, owner string) (Session, error) {
	return database.One(ctx, q, scan,
		`SELECT `+columns+` FROM sessions WHERE account_id = $1 AND agent_id = $2 AND owner = $3 ORDER BY started_at DESC, id DESC LIMIT 1`,
		accountID, agentID, owner)
}

// byKey returns the session that has a key in its agent's gateway.
func byKey(ctx context.Context, q database.Querier, a agent.Agent, key string) (Session, error) {
	return database.One(ctx, q, scan,
		`SELECT `+columns+` FROM sessions WHERE account_id = $1 AND agent_id = $2 AND gateway_key = $3`, a.AccountID, a.ID, key)
}

func insert(ctx context.Context, tx *database.Tx, s Session) error {
	_, err := tx.ExecContext(ctx,
		`INSERT INTO sessions (`+columns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		s.ID, s.AccountID, s.AgentID, s.Owner, s.PeerID, s.Entry, s.GatewayKey, s.Name, s.Channel, database.Millis(s.StartedAt))
	if err != nil {
		return fmt.Errorf("insert session: %w", err)
	}
	return nil
}

// list returns the last sessions by start, newest first, and how many there are.
func list(ctx context.Context, q database.Querier, accountID, agentID string, limit int) ([]Session, int, error) {
	all, err := database.All(ctx, q, scan,
		`SELECT `+columns+` FROM sessions WHERE account_id = $1 AND agent_id = $2 ORDER BY started_at DESC, id DESC LIMIT $3`,
		accountID, agentID, limit)
	if err != nil {
		return nil, 0, err
	}
	// Counted last: one that begins in between must not make the list longer than the total.
	total, err := database.One(ctx, q, database.Scalar[int],
		`SELECT count(*) FROM sessions WHERE account_id = $1 AND agent_id = $2`, accountID, agentID)
	return all, total, err
}

// add appends a message. An origin is the message's own name in the gateway: one
// that was added before is not added again.
func add(ctx context.Context, tx *database.Tx, s Session, m Message, origin string) (bool, error) {
	n, err := database.Exec(ctx, tx,
		`INSERT INTO messages (account_id, agent_id, session_id, role, content, origin, at) VALUES ($1, $2, $3, $4, $5, $6, $7)
		 ON CONFLICT (session_id, origin) DO NOTHING`,
		s.AccountID, s.AgentID, s.ID, m.Role, m.Content, sql.NullString{String: origin, Valid: origin != ""}, database.Millis(m.At))
	if err != nil {
		return false, fmt.Errorf("insert message: %w", err)
	}
	return n == 1, nil
}

// history returns the last messages of an agent, or of one session, that came
// after since, oldest first, and how many there are.
func history(ctx context.Context, q database.Querier, accountID, agentID, sessionID string, since time.Time, limit int) ([]Message, int, error) {
	const where = ` FROM messages WHERE account_id = $1 AND agent_id = $2 AND ($3 = '' OR session_id = $3) AND at > $4`
	args := []any{accountID, agentID, sessionID, database.Millis(since)}
	all, err := database.All(ctx, q, scanMessage,
		`SELECT role, content, at FROM (SELECT role, content, at, seq`+where+` ORDER BY at DESC, seq DESC LIMIT $5) AS last ORDER BY at, seq`,
		append(args[:len(args):len(args)], limit)...)
	if err != nil {
		return nil, 0, err
	}
	total, err := database.One(ctx, q, database.Scalar[int], `SELECT count(*)`+where, args...) // last, as in list
	return all, total, err
}

func scanMessage(r database.Row) (Message, error) {
	var m Message
	var at int64
	err := r.Scan(&m.Role, &m.Content, &at)
	m.At = database.Time(at)
	return m, err
}

// putDraft saves how far an answer has come, unless its session is deleted.
func putDraft(ctx context.Context, tx *database.Tx, s Session, text string, at time.Time) error {
	_, err := tx.ExecContext(ctx,
		`INSERT INTO drafts (session_id, account_id, agent_id, content, at)
		 SELECT id, account_id, agent_id, $3, $4 FROM sessions WHERE account_id = $1 AND id = $2
		 ON CONFLICT (session_id) DO UPDATE SET content = excluded.content, at = excluded.at`,
		s.AccountID, s.ID, text, database.Millis(at))
	if err != nil {
		return fmt.Errorf("write draft: %w", err)
	}
	return nil
}

func dropDraft(ctx context.Context, tx *database.Tx, s Session) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM drafts WHERE account_id = $1 AND session_id = $2`, s.AccountID, s.ID); err != nil {
		return fmt.Errorf("delete draft: %w", err)
	}
	return nil
}

// publishDrafts makes messages of all drafts, of every account, and returns how
// many there were.
func publishDrafts(ctx context.Context, tx *database.Tx) (int64, error) {
	n, err := database.Exec(ctx, tx,
		`INSERT INTO messages (account_id, agent_id, session_id, role, content, at)
		 SELECT account_id, agent_id, session_id, 'assistant', content, at FROM drafts ORDER BY at, session_id`)
	if err != nil {
		return 0, fmt.Errorf("insert messages of drafts: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM drafts`); err != nil {
		return 0, fmt.Errorf("delete drafts: %w", err)
	}
	return n, nil
}

// DeleteAgent removes every session, message and draft of an agent.
func DeleteAgent(ctx context.Context, tx *database.Tx, accountID, agentID string) error {
	for _, table := range []string{"messages", "drafts", "sessions"} {
		if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE account_id = $1 AND agent_id = $2`, accountID, agentID); err != nil {
			return fmt.Errorf("delete chat of an agent: %w", err)
		}
	}
	return nil
}
