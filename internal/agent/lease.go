package agent

import (
	"context"
	"fmt"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
)

// TakeLease takes the lease of an agent for a holder, unless someone has taken it since
// a was read, or another holder's has not ended at now.
func (s *Store) TakeLease(ctx context.Context, a Agent, holder string, now, until time.Time) error {
	return s.lease(ctx,
		`UPDATE agents SET holder = $1, lease_number = lease_number + 1, lease_until = $2
		 WHERE id = $3 AND lease_number = $4 AND (holder = $1 OR holder = '' OR lease_until <= $5)`,
		holder, database.Millis(until), a.ID, a.Lease.Number, database.Millis(now))
}

// TakeLeases is TakeLease for every agent that the reconciler must check after a start,
// except for those in error, with which it has nothing to do.
func (s *Store) TakeLeases(ctx context.Context, holder string, now, until time.Time) error {
	return s.lease(ctx,
		`UPDATE agents SET holder = $1, lease_number = lease_number + 1, lease_until = $2
		 WHERE `+toReconcile+` AND (status <> 'error' OR place <> '') AND (holder = '' OR lease_until <= $3)`,
		holder, database.Millis(until), database.Millis(now))
}

// RenewLeases extends every lease of a holder. It does not bring back one that another
// holder has taken.
func (s *Store) RenewLeases(ctx context.Context, holder string, until time.Time) error {
	return s.lease(ctx, `UPDATE agents SET lease_until = $1 WHERE holder = $2 AND holder <> ''`, database.Millis(until), holder)
}

// ReleaseLease gives the lease of an agent back, if a's holder still has it.
func (s *Store) ReleaseLease(ctx context.Context, a Agent) error {
	return s.lease(ctx, `UPDATE agents SET holder = '', lease_until = 0 WHERE id = $1 AND holder = $2 AND lease_number = $3`,
		a.ID, a.Lease.Holder, a.Lease.Number)
}

// ReleaseLeases gives every lease of a holder back.
func (s *Store) ReleaseLeases(ctx context.Context, holder string) error {
	return s.lease(ctx, `UPDATE agents SET holder = '', lease_until = 0 WHERE holder = $1 AND holder <> ''`, holder)
}

// EndLeases ends every lease, whoever holds it. Only a caller that knows that no holder is alive may
// do that.
func (s *Store) EndLeases(ctx context.Context) error {
	return s.lease(ctx, `UPDATE agents SET holder = '', lease_until = 0 WHERE holder <> ''`)
}

func (s *Store) lease(ctx context.Context, statement string, args ...any) error {
	return s.db.Tx(database.UseReserve(ctx), "agent.lease", func(ctx context.Context, tx *database.Tx) error {
		if _, err := tx.ExecContext(ctx, statement, args...); err != nil {
			return fmt.Errorf("write lease: %w", err)
		}
		return nil
	})
}

// usePrecision is how exact Agent.LastUsedAt is. It bounds how often a busy agent's row
// is written.
const usePrecision = time.Minute

// MarkUsed writes that a turn of a starts, unless the record says so of the last minute.
// A record that says so of a later time was written before the clock was set back.
func (s *Store) MarkUsed(ctx context.Context, a Agent, at time.Time) error {
	if at.Sub(a.LastUsedAt).Abs() < usePrecision {
		return nil
	}
	return s.db.Tx(ctx, "agent.mark_used", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE agents SET last_used_at = $1 WHERE id = $2`, database.Millis(at), a.ID)
		return err
	})
}

// WantAwake asks the reconciler to wake an agent at a time, if it sleeps and nothing wakes it
// earlier.
func (s *Store) WantAwake(ctx context.Context, id identity.AgentID, at time.Time) error {
	return s.db.Tx(ctx, "agent.want_awake", func(ctx context.Context, tx *database.Tx) error {
		n, err := database.Exec(ctx, tx, `UPDATE agents SET wake_wanted = $1 WHERE id = $2 AND power <> $3 AND (wake_wanted = 0 OR wake_wanted > $1)`,
			database.Millis(at), id, PowerAwake)
		if err != nil {
			return fmt.Errorf("ask for a wake: %w", err)
		}
		if n > 0 {
			s.events.NotifyAfterCommit(tx, event.ReconcileTopic(id))
		}
		return nil
	})
}

// WithdrawWake takes back what WantAwake has asked for: no message waits any more. A wake that has
// room goes on. What a channel has kept for the agent asks again.
func (s *Store) WithdrawWake(ctx context.Context, id identity.AgentID) error {
	return s.db.Tx(ctx, "agent.withdraw_wake", func(ctx context.Context, tx *database.Tx) error {
		n, err := database.Exec(ctx, tx, `UPDATE agents SET wake_wanted = 0 WHERE id = $1 AND power <> $2 AND wake_wanted <> 0`, id, PowerAwake)
		if err != nil {
			return fmt.Errorf("withdraw a wake: %w", err)
		}
		if n > 0 {
			s.events.NotifyAfterCommit(tx, event.AgentTopic(id)) // to who has begun to wait meanwhile
			s.events.NotifyAfterCommit(tx, event.ReconcileTopic(id))
		}
		return nil
	})
}
