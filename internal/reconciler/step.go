package reconciler

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// step reads an agent and does what its desired state asks for next.
// Errors: agent.ErrNewerGeneration.
func (r *Reconciler) step(ctx context.Context, l *loop) (next, error) {
	a, err := r.store.FindByID(ctx, r.db, l.id)
	if errors.Is(err, sql.ErrNoRows) {
		return next{park: true}, nil
	}
	if err != nil {
		return next{}, fmt.Errorf("read agent: %w", err)
	}
	if r.setGeneration(l, a.Generation) {
		return next{}, agent.ErrNewerGeneration
	}
	if a.Generation != l.counted { // earlier failures do not count for a new request
		l.counted, l.failures, l.unready, l.notBefore, l.missed, l.errors = a.Generation, nil, 0, time.Time{}, 0, 0
	}
	switch {
	case a.DesiredState == agent.DesiredDeleted:
		return next{park: true}, r.remove(ctx, a)
	case a.DesiredState == agent.DesiredStopped:
		return next{park: true}, r.stopAgent(ctx, a)
	case a.HasFailed():
		return next{park: true}, r.stopFailed(ctx, a)
	}
	return r.keepRunning(ctx, l, a)
}

// remove removes everything of an agent.
func (r *Reconciler) remove(ctx context.Context, a agent.Agent) error {
	return r.gateways.Remove(ctx, a, func(ctx context.Context) error {
		return r.db.Tx(ctx, "reconciler.remove", func(ctx context.Context, tx *database.Tx) error {
			if err := r.erase(ctx, tx, a); err != nil {
				return err
			}
			return r.store.Delete(ctx, tx, a)
		})
	})
}

// erase removes what packages keep of an agent beside its row.
func (r *Reconciler) erase(ctx context.Context, tx *database.Tx, a agent.Agent) error {
	if err := r.vault.Shred(ctx, tx, a.AccountID, vault.OfAgent(a.ID)); err != nil {
		return err
	}
	actor := identity.BySystem(a.AccountID)
	if err := r.workspace.DeleteAgent(ctx, tx, actor, a.ID); err != nil {
		return err
	}
	for _, erase := range r.erasers {
		if err := erase(ctx, tx, actor, a.ID); err != nil {
			return err
		}
	}
	return nil
}

// stopAgent stops an agent's gateway; its home stays.
func (r *Reconciler) stopAgent(ctx context.Context, a agent.Agent) error {
	if a.ObservedGeneration == a.Generation && a.Place == "" {
		return nil
	}
	if a.Place != "" {
		if a.Status != client.Stopping {
			a.Status, a.SpecDigest = client.Stopping, "" // a newer request must not adopt a gateway that is ending
			if err := r.store.SaveStatus(ctx, a, ""); err != nil {
				return err
			}
		}
		if err := r.stopGateway(ctx, a); err != nil {
			return err
		}
	}
	a.Status, a.ObservedGeneration, a.Place, a.SpecDigest = client.Stopped, a.Generation, "", ""
	a.StoppedAt, a.LastError, a.ErrorCategory = now(), "", ""
	return r.store.SaveStatus(ctx, a, "agent.stopped")
}

// stopFailed stops what is left of the gateway of an agent in error.
func (r *Reconciler) stopFailed(ctx context.Context, a agent.Agent) error {
	if a.Place == "" {
		return nil
	}
	if err := r.stopGateway(ctx, a); err != nil {
		return err
	}
	a.Place, a.SpecDigest = "", ""
	return r.store.SaveStatus(ctx, a, "")
}

func (r *Reconciler) stopGateway(ctx context.Context, a agent.Agent) error {
	return r.gateways.Stop(ctx, a, r.timing.StopGrace)
}

// now returns the time as the database stores it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
