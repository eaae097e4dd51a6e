package widget

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// columns are those of scan. The first parameter of a query is the day of Widget.Today.
const columns = `id, account_id, agent_id, name, key, key_number, previous_key, previous_key_until, secret_number, previous_secret_until, origins, theme, greeting,
	daily_messages, daily_tokens, enabled, created_by, created_at, updated_at,
	coalesce((SELECT messages FROM widget_days WHERE widget_id = widgets.id AND day = $1), 0), coalesce((SELECT tokens FROM widget_days WHERE widget_id = widgets.id AND day = $1), 0)`

// scanToday returns a function that scans a widget with what it has used at that day.
func scanToday(day string) func(database.Row) (Widget, error) {
	return func(r database.Row) (Widget, error) {
		w := Widget{Today: Day{Date: day}}
		var keyUntil, secretUntil, created, updated int64
		var origins, theme string
		err := r.Scan(&w.ID, &w.AccountID, &w.AgentID, &w.Name, &w.Key, &w.keyNumber, &w.previousKey, &keyUntil, &w.secretNumber, &secretUntil, &origins, &theme, &w.Greeting,
			&w.Limits.Messages, &w.Limits.Tokens, &w.Enabled, &w.CreatedBy, &created, &updated, &w.Today.Messages, &w.Today.Tokens)
		w.PreviousKeyUntil, w.PreviousSecretUntil = database.Time(keyUntil), database.Time(secretUntil)
		w.CreatedAt, w.UpdatedAt = database.Time(created), database.Time(updated)
		if err != nil {
			return w, err
		}
		w.Theme = DefaultTheme()
		for _, c := range []struct {
			name, text string
			into       any
		}{{"origins", origins, &w.Origins}, {"theme", theme, &w.Theme}} {
			if bad := json.Unmarshal([]byte(c.text), c.into); bad != nil {
				err = errors.Join(err, &database.ColumnError{Column: c.name, Err: bad})
			}
		}
		return w, err
	}
}

// damaged keeps a widget whose row cannot be decoded, as one that serves nobody.
func damaged(w *Widget, _ error) (row string, keep bool) {
	w.Enabled, w.broken = false, true
	return "widget " + string(w.ID), true
}

func find(ctx context.Context, q database.Reader, account identity.AccountID, id identity.WidgetID) (Widget, error) {
	day := dayOf(now())
	w, err := database.OneReadable(ctx, q, scanToday(day), damaged, `SELECT `+columns+` FROM widgets WHERE account_id = $2 AND id = $3`, day, account, id)
	if errors.Is(err, sql.ErrNoRows) {
		return w, fault.New(fault.NotFound, "There is no widget %q in this account. GET /v1/widgets lists them.", id)
	}
	if err != nil {
		return w, fmt.Errorf("find widget: %w", err)
	}
	return w, nil
}

// findByKey returns the widget that has a key, or had it before it was rotated. Its query has no
// account in its condition, because it finds out whose the widget is. Errors: sql.ErrNoRows.
func findByKey(ctx context.Context, q database.Reader, key string) (Widget, error) {
	day := dayOf(now())
	return database.OneReadable(ctx, q, scanToday(day), damaged, `SELECT `+columns+` FROM widgets WHERE key = $2 OR (previous_key = $2 AND previous_key <> '')`, day, key)
}

func list(ctx context.Context, q database.Reader, account identity.AccountID, limit, offset int) ([]Widget, error) {
	day := dayOf(now())
	return database.AllReadable(ctx, q, scanToday(day), damaged,
		`SELECT `+columns+` FROM widgets WHERE account_id = $2 ORDER BY created_at DESC, id DESC LIMIT $3 OFFSET $4`, day, account, limit, offset)
}

func count(ctx context.Context, q database.Reader, account identity.AccountID) (int, error) {
	return database.One(ctx, q, database.Scalar[int], `SELECT count(*) FROM widgets WHERE account_id = $1`, account)
}

func insert(ctx context.Context, tx *database.Tx, w Widget) error {
	_, err := database.Exec(ctx, tx, `INSERT INTO widgets (id, account_id, agent_id, name, key, key_number, previous_key, previous_key_until, secret_number, previous_secret_until,
			origins, theme, greeting, daily_messages, daily_tokens, enabled, created_by, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, 1, '', 0, 1, 0, $6, $7, $8, $9, $10, $11, $12, $13, $13)`,
		w.ID, w.AccountID, w.AgentID, w.Name, w.Key, encodeJSON(w.Origins), encodeJSON(w.Theme), w.Greeting, w.Limits.Messages, w.Limits.Tokens, w.Enabled, w.CreatedBy, database.Millis(w.CreatedAt))
	return err
}

func update(ctx context.Context, tx *database.Tx, w Widget) error {
	_, err := database.Exec(ctx, tx, `UPDATE widgets SET name = $3, key = $4, key_number = $5, previous_key = $6, previous_key_until = $7, secret_number = $8, previous_secret_until = $9,
			origins = $10, theme = $11, greeting = $12, daily_messages = $13, daily_tokens = $14, enabled = $15, updated_at = $16 WHERE account_id = $1 AND id = $2`,
		w.AccountID, w.ID, w.Name, w.Key, w.keyNumber, w.previousKey, database.Millis(w.PreviousKeyUntil), w.secretNumber, database.Millis(w.PreviousSecretUntil),
		encodeJSON(w.Origins), encodeJSON(w.Theme), w.Greeting, w.Limits.Messages, w.Limits.Tokens, w.Enabled, database.Millis(w.UpdatedAt))
	return err
}

// remove deletes a widget with its secrets.
func (s *Service) remove(ctx context.Context, tx *database.Tx, account identity.AccountID, id identity.WidgetID) error {
	tx.Erase()
	if err := s.vault.Shred(ctx, tx, account, ownerOf(id)); err != nil {
		return err
	}
	_, err := database.Exec(ctx, tx, `DELETE FROM widgets WHERE account_id = $1 AND id = $2`, account, id)
	return err
}

// DisableAll disables every widget of an installation that was restored from a backup: since
// then, some may have been deleted in the original, or have got other secrets.
func DisableAll(ctx context.Context, tx *database.Tx) error {
	if _, err := database.Exec(ctx, tx, `UPDATE widgets SET enabled = false`); err != nil {
		return fmt.Errorf("disable all widgets: %w", err)
	}
	return nil
}

// DeleteAgent deletes the widgets of an agent that is being deleted.
func (s *Service) DeleteAgent(ctx context.Context, tx *database.Tx, actor identity.Actor, agent identity.AgentID) error {
	ids, err := database.All(ctx, tx, database.Scalar[identity.WidgetID], `SELECT id FROM widgets WHERE account_id = $1 AND agent_id = $2`, actor.AccountID, agent)
	if err != nil {
		return fmt.Errorf("list the widgets of an agent: %w", err)
	}
	for _, id := range ids {
		if err := s.remove(ctx, tx, actor.AccountID, id); err != nil {
			return fmt.Errorf("delete the widgets of an agent: %w", err)
		}
		if err := s.appendEvent(ctx, tx, actor, id, "widget.deleted", map[string]any{"agent": agent}); err != nil {
			return err
		}
	}
	return nil
}

// ownerOf returns the owner of a widget's secrets in the vault.
func ownerOf(id identity.WidgetID) vault.OwnerID { return vault.OwnerID(id) }

// dayOf returns the day of UTC that a time is in.
func dayOf(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
