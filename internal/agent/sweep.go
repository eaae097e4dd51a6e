package agent

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/runtime"
)

// sweep removes what belongs to no agent, and has what runs though its agent is to
// be stopped put down. One that fails must not keep the others from it.
func (r *Reconciler) sweep(ctx context.Context) error {
	found, err := r.driver.List(ctx)
	if err != nil {
		return fmt.Errorf("list gateways: %w", err)
	}
	var failed error
	for _, f := range found {
		a, err := findAny(ctx, r.db, string(f.ID))
		switch {
		case errors.Is(err, sql.ErrNoRows):
			r.log.WarnContext(ctx, "removing what belongs to no agent", "agent", f.ID, "running", f.Running)
			err = r.driver.Remove(ctx, f.Place, f.ID)
		case err == nil && f.Running && a.Place == "" && f.Place != "":
			err = r.catch(ctx, f, a)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("agent %s: %w", f.ID, err))
		}
	}
	return failed
}

// catch gives a gateway that runs unknown to the records a place in them, so that
// its agent's own loop stops it: a backup of the records was put back, say.
func (r *Reconciler) catch(ctx context.Context, f runtime.Found, a Agent) error {
	var caught int64
	err := r.db.Tx(ctx, func(tx *database.Tx) (err error) {
		caught, err = database.Exec(ctx, tx,
			`UPDATE agents SET place = $1 WHERE id = $2 AND place = '' AND wish = $3 AND settled = $3`, f.Place, f.ID, a.Wish)
		return err
	})
	if err != nil {
		return fmt.Errorf("note a stray gateway: %w", err)
	}
	if caught > 0 {
		r.log.WarnContext(ctx, "a gateway runs whose agent does not", "agent", f.ID)
		r.Nudge(string(f.ID))
	}
	return nil
}
