// Package event is the ordered log of what happened, and the bell that tells
// other parts to look at it. The log is the truth and is never changed; the bell
// only says "look again".
package event

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"agento.host/agento/internal/database"
)

// Event is one thing that happened in an account.
type Event struct {
	Seq       int64
	AccountID string
	Topic     string // whom it is about: "agent/ID", "swarm/ID", "key/ID"
	Kind      string // what happened: "agent.created"
	Actor     string // the key that asked for it; "agent", "system" or "operator"
	Data      map[string]any
	At        time.Time
}

// Log appends events and reads them back.
type Log struct {
	DB   *database.DB
	Bell *Bell
}

// Append writes e inside the change's own transaction, so that neither exists
// without the other, and rings its topic after the commit. Data must never hold
// a secret.
func (l *Log) Append(ctx context.Context, tx *database.Tx, e Event) error {
	data, err := json.Marshal(e.Data)
	if err != nil {
		return fmt.Errorf("append event %s: %w", e.Kind, err)
	}
	_, err = tx.ExecContext(ctx,
		`INSERT INTO events (account_id, topic, kind, actor, data, at) VALUES ($1, $2, $3, $4, $5, $6)`,
		e.AccountID, e.Topic, e.Kind, e.Actor, string(data), database.Millis(time.Now()))
	if err != nil {
		return fmt.Errorf("append event %s: %w", e.Kind, err)
	}
	tx.AfterCommit(func() { l.Bell.Ring(e.Topic) })
	return nil
}

// Filter narrows a reading of the log; empty fields let everything through.
type Filter struct {
	Topic  string
	Kind   string
	Actor  string
	Since  time.Time
	Before int64 // only events with a smaller Seq; 0: from the newest on
	Limit  int
}

// List reads an account's events, newest first.
func (l *Log) List(ctx context.Context, accountID string, f Filter) ([]Event, error) {
	where := []string{"account_id = $1"}
	args := []any{accountID}
	add := func(condition string, v any) {
		args = append(args, v)
		where = append(where, fmt.Sprintf(condition, len(args)))
	}
	if f.Topic != "" {
		add("topic = $%d", f.Topic)
	}
	if f.Kind != "" {
		add("kind = $%d", f.Kind)
	}
	if f.Actor != "" {
		add("actor = $%d", f.Actor)
	}
	if !f.Since.IsZero() {
		add("at >= $%d", database.Millis(f.Since))
	}
	if f.Before > 0 {
		add("seq < $%d", f.Before)
	}
	args = append(args, f.Limit)
	query := fmt.Sprintf(`SELECT seq, account_id, topic, kind, actor, data, at FROM events WHERE %s ORDER BY seq DESC LIMIT $%d`,
		strings.Join(where, " AND "), len(args))
	return database.All(ctx, l.DB, scan, query, args...)
}

func scan(r database.Row) (Event, error) {
	var e Event
	var data string
	var at int64
	if err := r.Scan(&e.Seq, &e.AccountID, &e.Topic, &e.Kind, &e.Actor, &data, &at); err != nil {
		return e, err
	}
	e.At = database.Time(at)
	if err := json.Unmarshal([]byte(data), &e.Data); err != nil {
		return e, fmt.Errorf("event %d: %w", e.Seq, err)
	}
	if e.Data == nil { // appended without any
		e.Data = map[string]any{}
	}
	return e, nil
}
