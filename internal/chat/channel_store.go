package chat

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

// readerLease is the right to save the messages of an agent's channels.
type readerLease struct {
	agent  identity.AgentID
	holder string
	number int64
}

// takeReader gives holder the lease of an agent's channels. It reports false if another
// holder has it.
func takeReader(ctx context.Context, tx *database.Tx, a agent.Agent, holder string, now time.Time) (readerLease, bool, error) {
	number, err := database.One(ctx, tx, database.Scalar[int64],
		`INSERT INTO channel_readers (agent_id, account_id, holder, lease_until, lease_number) VALUES ($1, $2, $3, $4, 1)
		 ON CONFLICT (agent_id) DO UPDATE SET holder = excluded.holder, lease_until = excluded.lease_until, lease_number = lease_number + 1
			WHERE lease_until <= $5 OR holder = excluded.holder
		 RETURNING lease_number`,
		a.ID, a.AccountID, holder, database.Millis(now.Add(leaseTime)), database.Millis(now))
	if errors.Is(err, sql.ErrNoRows) {
		return readerLease{}, false, nil
	}
	if err != nil {
		return readerLease{}, false, fmt.Errorf("take the lease of an agent's channels: %w", err)
	}
	return readerLease{agent: a.ID, holder: holder, number: number}, true, nil
}

// isHeld reports whether a lease is the current one and has not expired.
func (l readerLease) isHeld(ctx context.Context, tx *database.Tx, now time.Time) (bool, error) {
	return database.One(ctx, tx, database.Scalar[bool],
		`SELECT EXISTS (SELECT 1 FROM channel_readers WHERE agent_id = $1 AND holder = $2 AND lease_number = $3 AND lease_until > $4)`,
		l.agent, l.holder, l.number, database.Millis(now))
}

// renewReaders extends the leases of a holder that have not expired, and returns the
// agents.
func renewReaders(ctx context.Context, tx *database.Tx, holder string, now time.Time) ([]identity.AgentID, error) {
	held, err := database.All(ctx, tx, database.Scalar[identity.AgentID],
		`UPDATE channel_readers SET lease_until = $2 WHERE holder = $1 AND lease_until > $3 RETURNING agent_id`,
		holder, database.Millis(now.Add(leaseTime)), database.Millis(now))
	if err != nil {
		return nil, fmt.Errorf("renew the leases of channels: %w", err)
	}
	return held, nil
}

// endReaders ends the leases of a holder or, if others is true, those of every other one.
func endReaders(ctx context.Context, tx *database.Tx, holder string, others bool) error {
	if _, err := tx.ExecContext(ctx, `UPDATE channel_readers SET lease_until = 0 WHERE lease_until > 0 AND (holder <> $1) = $2`, holder, others); err != nil {
		return fmt.Errorf("end the leases of channels: %w", err)
	}
	return nil
}
