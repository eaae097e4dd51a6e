package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
)

// damaged turns an agent whose row cannot be decoded into one in error. Everything that
// could be decoded is in a, and its gateway is left as it is.
func damaged(a *Agent, err error) (row string, keep bool) {
	a.Damage = database.DescribeDamage(err)
	a.Status, a.ErrorCategory = client.Errored, CategoryRecord
	a.LastError = damageText(a.Damage)
	return "agent " + string(a.ID), true
}

func damageText(damage string) string {
	return "The record of this agent is damaged: " + damage + ". Its gateway is left as it is. Ask the operator to repair the database, or delete the agent."
}

// CheckReadable returns nil for an agent whose record is not damaged. What changes the
// record, or depends on all of it, checks it before. Faults: Conflict.
func (a Agent) CheckReadable() error {
	if a.Damage == "" {
		return nil
	}
	return fault.New(fault.Conflict, "%s", damageText(a.Damage)).With("status", string(a.Status)).With("errorCategory", string(a.ErrorCategory))
}

// checkEnums returns the errors of columns whose values are none of the known ones.
func checkEnums(a Agent) error {
	var err error
	if !slices.Contains([]DesiredState{DesiredRunning, DesiredStopped, DesiredDeleted}, a.DesiredState) {
		err = errors.Join(err, &database.ColumnError{Column: "desired_state", Err: fmt.Errorf("unknown: %.20q", a.DesiredState)})
	}
	if !slices.Contains([]client.AgentStatus{client.Provisioning, client.Starting, client.Running, client.Stopping, client.Stopped, client.Errored}, a.Status) {
		err = errors.Join(err, &database.ColumnError{Column: "status", Err: fmt.Errorf("unknown: %.20q", a.Status)})
	}
	return err
}

// ResetDamaged makes the record of a damaged agent that is being deleted readable, so
// that its gateway and home can be removed. What was damaged is lost.
func (s *Store) ResetDamaged(ctx context.Context, a Agent) error {
	return s.db.Tx(ctx, "agent.reset_damaged", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE agents SET config = '{}', status = $1, revision = 1, generation = $2,
			observed_generation = 0, restart_generation = 0, gateway_generation = 0, holder = '', lease_number = $3, lease_until = 0,
			failures = '', unready_ms = 0, next_try_at = 0, missed_health_checks = 0, created_at = $4, started_at = 0, stopped_at = 0, last_used_at = 0,
			power = 'awake', suspension = '', wake_wanted = 0, woke_at = 0, wake_ms = 0, wakes = 0
			WHERE id = $5 AND desired_state = $6`,
			client.Errored, a.Generation, a.Lease.Number+1, database.Millis(a.CreatedAt), a.ID, DesiredDeleted)
		if err != nil {
			return fmt.Errorf("reset the record of agent %s: %w", a.ID, err)
		}
		return nil
	})
}
