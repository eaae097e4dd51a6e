package database

import (
	"context"
	"fmt"
)

// Isolation is how the agents of an installation run. It never changes.
type Isolation string

// The kinds of isolation.
const (
	Isolated    Isolation = "isolated"    // each agent in a sandbox, or not at all
	Development Isolation = "development" // as processes of the server's user
)

// ReadIsolation returns how the agents of the installation run; empty: that is not decided.
func (db *DB) ReadIsolation(ctx context.Context) (Isolation, error) {
	return One(ctx, db, Scalar[Isolation], `SELECT isolation FROM installation`)
}

// DecideIsolation stores how the agents of the installation run, unless an earlier call
// has, and returns what is stored.
func (db *DB) DecideIsolation(ctx context.Context, i Isolation) (Isolation, error) {
	stored, err := db.ReadIsolation(ctx)
	if err != nil || stored != "" {
		return stored, err
	}
	err = db.Tx(ctx, "database.decide_isolation", func(ctx context.Context, tx *Tx) error {
		if _, err := Exec(ctx, tx, `UPDATE installation SET isolation = $1 WHERE isolation = ''`, i); err != nil {
			return err
		}
		stored, err = One(ctx, tx, Scalar[Isolation], `SELECT isolation FROM installation`)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("store the isolation of the installation: %w", err)
	}
	return stored, nil
}
