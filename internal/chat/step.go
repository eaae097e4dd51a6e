package chat

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/modelturn"
	"agento.host/agento/internal/vault"
)

// Step is a call of a tool in a turn.
type Step struct {
	Name   string    `json:"name"`
	Input  string    `json:"input"`  // its arguments, as JSON
	Output string    `json:"output"` // what the model was told; empty until EndedAt
	Began  time.Time `json:"began"`
	Ended  time.Time `json:"ended,omitzero"` // zero: it has returned nothing
	Cut    bool      `json:"cut,omitempty"`  // Input or Output was longer
}

// stepsOf returns the steps of the model calls of a turn.
func stepsOf(t *modelturn.Turn) []Step {
	if t == nil {
		return nil
	}
	all := t.Steps()
	steps := make([]Step, len(all))
	for i, s := range all {
		steps[i] = Step{Name: s.Name, Input: s.Input, Output: s.Output, Began: s.Began.UTC().Truncate(time.Millisecond), Ended: s.Ended.UTC().Truncate(time.Millisecond), Cut: s.Cut}
	}
	return steps
}

// stepsPlace returns what the steps of a turn are sealed for.
func stepsPlace(turn identity.TurnID) []string { return []string{"steps", string(turn)} }

// storeSteps stores the steps of a turn that has ended, unless it leaves nothing.
func (s *Service) storeSteps(ctx context.Context, tx *database.Tx, t Turn, r *run) error {
	steps := stepsOf(r.modelTurn())
	if len(steps) == 0 || t.oneShot || t.refused() {
		return nil
	}
	encoded, err := json.Marshal(steps)
	if err != nil {
		return fmt.Errorf("encode the steps of a turn: %w", err)
	}
	sealed, err := s.seal(ctx, tx, t, string(encoded), stepsPlace(t.ID))
	if errors.Is(err, errNotSealed) {
		return nil // as its answer
	}
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO turn_steps (turn_id, account_id, agent_id, steps) VALUES ($1, $2, $3, $4) ON CONFLICT (turn_id) DO NOTHING`, t.ID, t.AccountID, t.AgentID, sealed)
	if err != nil {
		return fmt.Errorf("store the steps of a turn: %w", err)
	}
	return nil
}

// Steps returns the calls of tools of a turn that was found, as far as they are known: those of
// a turn that runs are known to its server alone, and those of one whose server died to nobody.
func (s *Service) Steps(ctx context.Context, t Turn) ([]Step, error) {
	if r := s.runs.find(t.ID); r != nil && !t.Ended() {
		return stepsOf(r.modelTurn()), nil
	}
	key, err := s.textKey(ctx, s.db, t.AccountID, t.AgentID)
	if err != nil {
		return nil, err
	}
	scan := func(r database.Row) (steps []Step, err error) {
		var stored vault.Text
		if err := r.Scan(&stored); err != nil {
			return nil, err
		}
		text, err := openColumn(key, "steps", stored, stepsPlace(t.ID)...)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(text), &steps); err != nil {
			return nil, &database.ColumnError{Column: "steps", Err: err}
		}
		return steps, nil
	}
	steps, err := database.OneReadable(ctx, s.db, scan, func(*[]Step, error) (string, bool) { return "steps of turn " + string(t.ID), true },
		`SELECT steps FROM turn_steps WHERE turn_id = $1`, t.ID)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return steps, err
}
