package chat

// The condition state IN ('queued', 'running') beside a stricter one makes SQLite use the
// index turns_open, which has only the turns that have not ended. account_id || '' keeps it
// from using turns_agent instead, which has all.

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/vault"
)

const turnColumns = `id, account_id, agent_id, session_id, message, context, on_disconnect, state, last_seq, input_tokens, output_tokens,
	reasoning_tokens, cache_read_tokens, cache_write_tokens, requests, estimated_requests, unpriced_requests, cost_micros, key_id, stop_reason, error_code, error_message, created_at, started_at, ended_at, message_number, one_shot, has_input, source`

func scanTurn(r database.Row) (Turn, error) {
	var t Turn
	var created, started, ended int64
	err := r.Scan(&t.ID, &t.AccountID, &t.AgentID, &t.SessionID, &t.message, &t.context, &t.onDisconnect, &t.State, &t.LastSeq, &t.InputTokens, &t.OutputTokens,
		&t.ReasoningTokens, &t.CacheReadTokens, &t.CacheWriteTokens, &t.Requests, &t.EstimatedRequests, &t.UnpricedRequests, &t.CostMicros, &t.key, &t.StopReason, &t.ErrorCode, &t.ErrorMessage, &created, &started, &ended, &t.messageNumber, &t.oneShot, &t.hasInput, &t.Source)
	t.CreatedAt, t.StartedAt, t.EndedAt = database.Time(created), database.Time(started), database.Time(ended)
	return t, err
}

// damagedTurn keeps a turn whose numbers or times cannot be decoded.
func damagedTurn(t *Turn, _ error) (row string, keep bool) { return "turn " + string(t.ID), true }

// insertTurn inserts a new turn and returns its state: running, held by holder, if the
// session has no other turn that waits or runs, otherwise queued.
func insertTurn(ctx context.Context, tx *database.Tx, t Turn, holder string) (State, error) {
	state, err := database.One(ctx, tx, database.Scalar[State],
		`INSERT INTO turns (id, account_id, agent_id, session_id, message, context, on_disconnect, created_at, key_id, state, holder, lease_until, started_at, message_number, one_shot, has_input, source)
		 SELECT $1, $2, $3, $4, $5, $6, $7, $8, $11,
			CASE WHEN busy THEN 'queued' ELSE 'running' END, CASE WHEN busy THEN '' ELSE $9 END, CASE WHEN busy THEN 0 ELSE $10 END, CASE WHEN busy THEN 0 ELSE $8 END,
			CASE WHEN busy THEN 0 ELSE $12 END, $13, $14, $15
		 FROM (SELECT EXISTS (SELECT 1 FROM turns WHERE session_id = $4 AND state IN ('queued', 'running')) AS busy) AS open
		 RETURNING state`,
		t.ID, t.AccountID, t.AgentID, t.SessionID, t.message, t.context, t.onDisconnect, database.Millis(t.CreatedAt), holder, database.Millis(t.CreatedAt.Add(leaseTime)), t.key, t.messageNumber, t.oneShot, t.hasInput, t.Source)
	if err != nil {
		return "", fmt.Errorf("insert turn: %w", err)
	}
	return state, nil
}

// countQueued returns how many turns wait in a session, and in the account.
func countQueued(ctx context.Context, tx *database.Tx, t Turn) (ofSession, ofAccount int, err error) {
	err = tx.QueryRowContext(ctx,
		`SELECT count(CASE WHEN session_id = $1 THEN 1 END), count(*) FROM turns WHERE state = 'queued' AND state IN ('queued', 'running') AND account_id || '' = $2`,
		t.SessionID, t.AccountID).Scan(&ofSession, &ofAccount)
	if err != nil {
		return 0, 0, fmt.Errorf("count queued turns: %w", err)
	}
	return ofSession, ofAccount, nil
}

// contextPlace returns what the context of a turn is sealed for.
func contextPlace(turn identity.TurnID) []string { return []string{"context", string(turn)} }

// insertTurnMessage appends a message of a turn, with its number, to its session and returns
// its seq. content is sealed for messagePlace.
func insertTurnMessage(ctx context.Context, tx *database.Tx, t Turn, role string, content vault.Text, number int64, at time.Time) (seq int64, err error) {
	res, err := tx.ExecContext(ctx,
		`INSERT INTO messages (account_id, agent_id, session_id, turn_id, role, content, at, number) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		t.AccountID, t.AgentID, t.SessionID, t.ID, role, content, database.Millis(at), number)
	if err != nil {
		return 0, fmt.Errorf("insert message: %w", err)
	}
	return res.LastInsertId()
}

// ofEntry is the condition that a turn belongs to a session of the entry $3, or that $3 is
// empty.
const ofEntry = `($3 = '' OR EXISTS (SELECT 1 FROM sessions WHERE sessions.id = turns.session_id AND entry = $3))`

// findTurn returns a turn of an agent, in a session of an entry unless that is empty.
// Faults: NotFound.
func findTurn(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID, entry openclaw.Entry, id identity.TurnID) (Turn, error) {
	t, err := database.OneReadable(ctx, q, scanTurn, damagedTurn, `SELECT `+turnColumns+` FROM turns WHERE account_id = $1 AND agent_id = $2 AND `+ofEntry+` AND id = $4`, account, agent, entry, id)
	if errors.Is(err, sql.ErrNoRows) {
		return t, noTurn(agent, id)
	}
	return t, err
}

func noTurn(agent identity.AgentID, id identity.TurnID) error {
	return fault.New(fault.NotFound, "There is no turn %q here. List them with GET /v1/agents/%s/chat/turns.", id, agent)
}

// listTurns returns the turns that a query selects, newest first, and how many there are on
// all pages. An empty entry means all.
func listTurns(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID, entry openclaw.Entry, query TurnQuery) ([]Turn, int, error) {
	const where = ` FROM turns WHERE account_id = $1 AND agent_id = $2 AND NOT one_shot AND ` + ofEntry + ` AND ($4 = '' OR state = $4) AND ($5 = '' OR session_id = $5)`
	args := []any{account, agent, entry, query.State, query.Session}
	all, err := database.AllReadable(ctx, q, scanTurn, damagedTurn, `SELECT `+turnColumns+where+` ORDER BY position DESC LIMIT $6 OFFSET $7`, append(args[:len(args):len(args)], query.Limit, query.Offset)...)
	if err != nil {
		return nil, 0, err
	}
	total, err := database.One(ctx, q, database.Scalar[int], `SELECT count(*)`+where, args...) // after listing, as in listSessions
	return all, total, err
}

// answerOf returns the text of an ended turn from the history; empty if it has none, or it
// cannot be opened.
func (s *Service) answerOf(ctx context.Context, q database.Reader, t Turn) (string, error) {
	key, err := s.textKey(ctx, q, t.AccountID, t.AgentID)
	if err != nil {
		return "", err
	}
	m, err := database.OneReadable(ctx, q, scanMessageWith(key), func(*listedMessage, error) (string, bool) { return "answer of turn " + string(t.ID), true },
		`SELECT session_id, turn_id, role, '', content, at, number, '', '', FALSE, '', 0 FROM messages WHERE seq = (SELECT answer_seq FROM turns WHERE id = $1) AND turn_id = $1`, t.ID)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return m.Content, err
}

// claimNext makes the first queued turn of a session running, held by holder, if no
// other one runs. Errors: sql.ErrNoRows.
func claimNext(ctx context.Context, tx *database.Tx, session identity.SessionID, holder string, now time.Time) (Turn, error) {
	return database.OneReadable(ctx, tx, scanTurn, damagedTurn,
		`UPDATE turns SET state = 'running', holder = $2, lease_until = $3, started_at = $4
		 WHERE position = (SELECT position FROM turns WHERE session_id = $1 AND state = 'queued' AND state IN ('queued', 'running') ORDER BY position LIMIT 1)
		 AND NOT EXISTS (SELECT 1 FROM turns WHERE session_id = $1 AND state = 'running' AND state IN ('queued', 'running'))
		 RETURNING `+turnColumns,
		session, holder, database.Millis(now.Add(leaseTime)), database.Millis(now))
}

// isHeld reports whether a turn exists and runs at holder.
func isHeld(ctx context.Context, tx *database.Tx, t Turn, holder string) (bool, error) {
	held, err := database.One(ctx, tx, database.Scalar[bool], `SELECT EXISTS (SELECT 1 FROM turns WHERE id = $1 AND state = 'running' AND holder = $2)`, t.ID, holder)
	if err != nil {
		return false, fmt.Errorf("look for the turn: %w", err)
	}
	return held, nil
}

// endHeldTurn stores the end of a turn. answer is the seq of its answer in messages. It
// reports whether another turn of the session waits. Errors: sql.ErrNoRows, if holder does
// not hold the turn any more; then it changes nothing.
func endHeldTurn(ctx context.Context, tx *database.Tx, t Turn, answer int64, holder string) (more bool, err error) {
	more, err = database.One(ctx, tx, database.Scalar[bool],
		endTurn+`state = 'running' AND holder = $18 AND lease_until > $8
		 RETURNING EXISTS (SELECT 1 FROM turns AS other WHERE other.session_id = turns.session_id AND other.state = 'queued' AND other.state IN ('queued', 'running'))`,
		append(endArgs(t, answer), holder)...)
	if err != nil {
		return false, fmt.Errorf("end turn: %w", err)
	}
	return more, nil
}

// endQueuedTurn stores the end of a turn that was not started. It reports false, and
// changes nothing, if the turn is not queued any more.
func endQueuedTurn(ctx context.Context, tx *database.Tx, t Turn) (bool, error) {
	return exactlyOne(database.Exec(ctx, tx, endTurn+`state = 'queued'`, endArgs(t, 0)...))
}

// endAbandonedTurn stores the end of a turn whose holder is gone: its lease has expired,
// or it is not the holder that alive names. answer is the seq of its answer in messages.
// It reports false, and changes nothing, if the turn is held.
func endAbandonedTurn(ctx context.Context, tx *database.Tx, t Turn, answer int64, alive string) (bool, error) {
	return exactlyOne(database.Exec(ctx, tx, endTurn+`state = 'running' AND (lease_until <= $8 OR $18 <> '' AND holder <> $18)`, append(endArgs(t, answer), alive)...))
}

// endTurn stores the end of a turn. A condition follows it, and endArgs returns its
// arguments.
const endTurn = `UPDATE turns SET state = $2, last_seq = $3, input_tokens = $4, output_tokens = $5, stop_reason = $6, error_code = $7, error_message = $9,
	ended_at = $8, lease_until = 0, message = '', context = '', answer_seq = $10, reasoning_tokens = $11,
	cache_read_tokens = $12, cache_write_tokens = $13, requests = $14, estimated_requests = $15, unpriced_requests = $16, cost_micros = $17
	WHERE id = $1 AND `

func endArgs(t Turn, answer int64) []any {
	return []any{t.ID, t.State, t.LastSeq, t.InputTokens, t.OutputTokens, t.StopReason, t.ErrorCode, database.Millis(t.EndedAt), t.ErrorMessage, answer, t.ReasoningTokens,
		t.CacheReadTokens, t.CacheWriteTokens, t.Requests, t.EstimatedRequests, t.UnpricedRequests, t.CostMicros}
}

func exactlyOne(n int64, err error) (bool, error) {
	if err != nil {
		return false, fmt.Errorf("end turn: %w", err)
	}
	return n == 1, nil
}

// piecesPlace returns what the pieces of a turn from number seq on are sealed for.
func piecesPlace(turn identity.TurnID, seq int64) []string {
	return []string{"pieces", string(turn), strconv.FormatInt(seq, 10)}
}

// appendPieces stores the pieces of a turn from number seq on. It reports false, and
// changes nothing, if the server does not hold the turn any more. Errors: errNotSealed.
func (s *Service) appendPieces(ctx context.Context, tx *database.Tx, t Turn, seq int, pieces []string, now time.Time) (bool, error) {
	encoded, err := json.Marshal(pieces)
	if err != nil {
		return false, fmt.Errorf("encode pieces: %w", err)
	}
	text, err := s.seal(ctx, tx, t, string(encoded), piecesPlace(t.ID, int64(seq)))
	if err != nil {
		return false, err
	}
	n, err := database.Exec(ctx, tx,
		`INSERT INTO turn_pieces (turn_id, seq, pieces, at) SELECT id, $2, $3, $4 FROM turns WHERE id = $1 AND state = 'running' AND holder = $5 AND lease_until > $4
		 ON CONFLICT (turn_id, seq) DO UPDATE SET pieces = excluded.pieces, at = excluded.at`,
		t.ID, seq, text, database.Millis(now), s.holder)
	if err != nil {
		return false, fmt.Errorf("insert pieces: %w", err)
	}
	return n == 1, nil
}

// storedPieces are the pieces of a turn that are in the database.
type storedPieces struct {
	pieces []string
	at     time.Time // when the last of them were stored
}

func (p storedPieces) text() string { return strings.Join(p.pieces, "") }

// scanPiecesWith returns a function that scans pieces of a turn and opens them.
func scanPiecesWith(key vault.TextKey, turn identity.TurnID) func(database.Row) (storedPieces, error) {
	return func(r database.Row) (storedPieces, error) {
		var p storedPieces
		var stored vault.Text
		var seq, at int64
		if err := r.Scan(&seq, &stored, &at); err != nil {
			return p, err
		}
		p.at = database.Time(at)
		text, err := openColumn(key, "pieces", stored, piecesPlace(turn, seq)...)
		if err != nil {
			return p, err
		}
		if err := json.Unmarshal([]byte(text), &p.pieces); err != nil {
			return p, &database.ColumnError{Column: "pieces", Err: err}
		}
		return p, nil
	}
}

// readPieces returns the stored pieces of a turn, without those that cannot be decoded.
func (s *Service) readPieces(ctx context.Context, q database.Reader, t Turn) (storedPieces, error) {
	var all storedPieces
	key, err := s.textKey(ctx, q, t.AccountID, t.AgentID)
	if err != nil {
		return all, err
	}
	rows, err := database.AllReadable(ctx, q, scanPiecesWith(key, t.ID), func(*storedPieces, error) (string, bool) { return "pieces of turn " + string(t.ID), true },
		`SELECT seq, pieces, at FROM turn_pieces WHERE turn_id = $1 ORDER BY seq`, t.ID)
	if err != nil {
		return all, fmt.Errorf("read pieces: %w", err)
	}
	for _, row := range rows {
		all.pieces, all.at = append(all.pieces, row.pieces...), row.at
	}
	return all, nil
}

// renewLeases extends the leases of all turns of a holder and returns their ids. A lease
// that has expired is not extended.
func renewLeases(ctx context.Context, tx *database.Tx, holder string, now time.Time) ([]identity.TurnID, error) {
	held, err := database.All(ctx, tx, database.Scalar[identity.TurnID],
		`UPDATE turns SET lease_until = $2 WHERE state = 'running' AND state IN ('queued', 'running') AND holder = $1 AND lease_until > $3 RETURNING id`,
		holder, database.Millis(now.Add(leaseTime)), database.Millis(now))
	if err != nil {
		return nil, fmt.Errorf("renew leases: %w", err)
	}
	return held, nil
}

// abandonedTurns returns the turns of every account whose holder is gone; see
// endAbandonedTurn.
func abandonedTurns(ctx context.Context, q database.Reader, alive string, now time.Time) ([]Turn, error) {
	return database.AllReadable(ctx, q, scanTurn, damagedTurn,
		`SELECT `+turnColumns+` FROM turns WHERE state = 'running' AND state IN ('queued', 'running') AND (lease_until <= $1 OR $2 <> '' AND holder <> $2) ORDER BY position`,
		database.Millis(now), alive)
}

// waitingTurns returns the queued turns of every account in sessions in which no turn
// runs, in order.
func waitingTurns(ctx context.Context, q database.Reader) ([]Turn, error) {
	return database.AllReadable(ctx, q, scanTurn, damagedTurn,
		`SELECT `+turnColumns+` FROM turns AS t WHERE state = 'queued' AND state IN ('queued', 'running')
		 AND NOT EXISTS (SELECT 1 FROM turns WHERE session_id = t.session_id AND state = 'running' AND state IN ('queued', 'running')) ORDER BY position`)
}

// keysOfOpenTurns returns the API keys of every account that have turns which wait or run.
func keysOfOpenTurns(ctx context.Context, q database.Reader) ([]identity.KeyID, error) {
	return database.All(ctx, q, database.Scalar[identity.KeyID],
		`SELECT DISTINCT key_id FROM turns WHERE state IN ('queued', 'running') AND key_id <> ''`)
}

// openTurnsOf returns the turns of a key that wait or run, those that wait first.
func openTurnsOf(ctx context.Context, q database.Reader, key identity.KeyID) ([]Turn, error) {
	return database.AllReadable(ctx, q, scanTurn, damagedTurn,
		`SELECT `+turnColumns+` FROM turns WHERE state IN ('queued', 'running') AND key_id = $1 ORDER BY state, position`, key)
}

// pruneSize is how many turns' pieces one transaction deletes.
const pruneSize = 500

// deletePieces deletes the pieces of turns, of every account, that ended before a time,
// and reports whether there are more.
func deletePieces(ctx context.Context, tx *database.Tx, before time.Time) (more bool, err error) {
	ids, err := endedTurnsWithPieces(ctx, tx, before)
	if err != nil {
		return false, err
	}
	for _, id := range ids {
		if _, err := tx.ExecContext(ctx, `DELETE FROM turn_pieces WHERE turn_id = $1`, id); err != nil {
			return false, fmt.Errorf("delete pieces: %w", err)
		}
	}
	return len(ids) == pruneSize, nil
}

// endedTurnsWithPieces reads the whole table of pieces, which has those of the last
// minutes.
func endedTurnsWithPieces(ctx context.Context, q database.Reader, before time.Time) ([]identity.TurnID, error) {
	ids, err := database.All(ctx, q, database.Scalar[identity.TurnID],
		`SELECT DISTINCT turn_id FROM turn_pieces JOIN turns ON id = turn_id WHERE at < $1 AND ended_at > 0 AND ended_at < $1 LIMIT $2`,
		database.Millis(before), pruneSize)
	if err != nil {
		return nil, fmt.Errorf("list pieces: %w", err)
	}
	return ids, nil
}

// queuedTurns returns the queued turns of every account with that onDisconnect, or with any
// if it is empty.
func queuedTurns(ctx context.Context, q database.Reader, onDisconnect string) ([]Turn, error) {
	return database.AllReadable(ctx, q, scanTurn, damagedTurn,
		`SELECT `+turnColumns+` FROM turns WHERE state = 'queued' AND state IN ('queued', 'running') AND ($1 = '' OR on_disconnect = $1) ORDER BY position`, onDisconnect)
}
