package reconciler

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// collectOrphansRegularly calls collectOrphans now and at every interval.
func (r *Reconciler) collectOrphansRegularly(ctx context.Context) {
	ticks := time.NewTicker(r.timing.OrphanInterval)
	defer ticks.Stop()
	for {
		if err := r.collectOrphans(ctx); err != nil && ctx.Err() == nil {
			r.log.ErrorContext(ctx, "collecting orphaned gateways failed", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
	}
}

// collectOrphans removes what the driver has of no agent, and makes the records of
// agents that should not run know the gateways that do. A failure with one does not
// keep it from the others.
func (r *Reconciler) collectOrphans(ctx context.Context) error {
	found, err := r.driver.List(ctx)
	if err != nil {
		return fmt.Errorf("list gateways: %w", err)
	}
	var failed error
	for _, f := range found {
		a, err := r.store.FindByID(ctx, r.db, identity.AgentID(f.ID))
		switch {
		case errors.Is(err, sql.ErrNoRows):
			r.log.WarnContext(ctx, "removing what belongs to no agent", "agent", f.ID, "running", f.Running)
			_, err = r.do(ctx, agent.Agent{ID: f.ID, Place: f.Place}, observation{}, action{kind: actOrphan})
		case err == nil && f.Running && a.Place == "" && f.Place != "":
			err = r.adoptStray(ctx, f, a)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("agent %s: %w", f.ID, err))
		}
	}
	return failed
}

// adoptStray writes the place of a gateway that runs, though the record knows of none,
// into the record. The agent's own loop then stops it. Such a gateway exists after a
// backup of the database was restored.
func (r *Reconciler) adoptStray(ctx context.Context, f runtime.Found, a agent.Agent) error {
	adopted, err := r.store.AdoptPlace(ctx, a, f.Place)
	if err != nil {
		return fmt.Errorf("adopt a stray gateway: %w", err)
	}
	if adopted {
		r.log.WarnContext(ctx, "a gateway runs whose agent does not", "agent", f.ID)
	}
	return nil
}
