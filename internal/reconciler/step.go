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

// step reads an agent, observes its gateway, and does what decide says.
// Errors: agent.ErrOutdated.
func (r *Reconciler) step(ctx context.Context, l *loop) (next, error) {
	a, err := r.store.FindByID(ctx, r.db, l.id)
	if errors.Is(err, sql.ErrNoRows) {
		r.leave(l.id)
		return next{park: true}, nil
	}
	if err != nil {
		return next{}, fmt.Errorf("read agent: %w", err)
	}
	if r.setGeneration(l, a.Generation) {
		return next{}, agent.ErrOutdated
	}
	if a.Damage != "" {
		return r.leaveDamaged(ctx, a)
	}
	if a.Generation != l.counted { // earlier errors do not count for a new request
		l.counted, l.errors = a.Generation, 0
	}
	o, err := r.observe(ctx, a)
	if err != nil {
		return next{}, err
	}
	return r.do(ctx, a, o, decide(a, o, time.Now()))
}

// damagedInterval is how often a damaged record is read again, in case it was repaired.
const damagedInterval = time.Minute

// leaveDamaged neither starts nor stops the gateway of an agent whose record cannot be
// decoded: what is desired, or where the gateway runs, is not known for certain. If the
// agent is being deleted, its record is made readable first.
func (r *Reconciler) leaveDamaged(ctx context.Context, a agent.Agent) (next, error) {
	if a.DesiredState == agent.DesiredDeleted {
		return next{}, r.store.ResetDamaged(ctx, a)
	}
	return next{after: damagedInterval}, nil
}

// observe returns what decide needs to know beside the record.
func (r *Reconciler) observe(ctx context.Context, a agent.Agent) (observation, error) {
	o := observation{holder: r.holder, until: r.leaseUntil(a), halted: r.haltOf(a) != nil}
	if !needsObservation(a, o, time.Now()) {
		return o, nil
	}
	if o.state, o.err = r.inspect(ctx, a); o.err != nil {
		return o, nil //nolint:nilerr // decide gets the error as an observation
	}
	if !isCandidate(a, o.state) {
		return o, nil
	}
	differs, err := r.gateways.NeedsRestart(ctx, r.db, a)
	o.current = !differs
	return o, err
}

// do does what decide says. Nothing else asks the gateway manager or the driver to
// start, stop or remove.
func (r *Reconciler) do(ctx context.Context, a agent.Agent, o observation, act action) (next, error) {
	switch act.kind {
	case actWait:
		if a.Lease.Holder != r.holder { // the other server counts its gateway
			r.leave(a.ID)
		}
		return next{after: act.after}, nil
	case actLease:
		return next{}, r.takeLease(ctx, a)
	case actHalt:
		return r.halt(ctx, a)
	case actRemove:
		err := r.remove(ctx, a)
		if err == nil {
			r.leave(a.ID)
			r.forgetUse(a.ID)
		}
		return next{park: true}, err
	case actOrphan:
		return next{}, r.quarantine(ctx, a)
	case actStop:
		return r.rest(ctx, a, r.stopAgent(ctx, a))
	case actDiscard:
		return r.rest(ctx, a, r.discard(ctx, a))
	case actCheck:
		r.occupy(a, o.state.MemoryBytes)
		if r.isHere(a) {
			r.admission.suspends(a.ID, o.state.ExtraBytes)
		}
		r.saveMeasured(ctx, a, o.state.MemoryBytes)
		return r.checkHealth(ctx, a)
	case actAdopt:
		r.occupy(a, o.state.MemoryBytes)
		began := time.Now()
		_, _ = r.attach(ctx, a) // is repeated by checkHealth
		return r.finishBoot(ctx, a, began, r.awaitReady(ctx, a))
	case actDoze:
		return r.doze(ctx, a, o.state)
	case actWake:
		return r.wake(ctx, a, o.state)
	case actBoot:
		return r.boot(ctx, a)
	case actReportExit:
		return r.failed(ctx, a, r.diagnoseExit(ctx, a, o.state))
	case actReportError:
		return r.failed(ctx, a, asFailure(o.err))
	case actRetry:
		return next{}, o.err
	}
	return r.rest(ctx, a, nil)
}

// rest gives a's lease back, if this process has it: nothing is to be done until a
// notification. It returns err instead, if that is not nil.
func (r *Reconciler) rest(ctx context.Context, a agent.Agent, err error) (next, error) {
	if err == nil {
		r.leave(a.ID)
		r.forgetUse(a.ID)
	}
	if err == nil && a.Lease.Holder == r.holder {
		err = r.store.ReleaseLease(ctx, a)
	}
	return next{park: true}, err
}

// remove removes everything of an agent.
func (r *Reconciler) remove(ctx context.Context, a agent.Agent) error {
	if err := r.checkLease(ctx, a); err != nil {
		return err
	}
	return r.gateways.Remove(ctx, a, func(ctx context.Context) error {
		for _, empty := range r.emptiers {
			if err := empty(database.UseReserve(ctx), a.AccountID, a.ID); err != nil {
				return err
			}
		}
		return r.db.Tx(database.UseReserve(ctx), "reconciler.remove", func(ctx context.Context, tx *database.Tx) error {
			tx.Erase()
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
	a.Power, a.Sleep.Suspension = agent.PowerAwake, ""
	return r.store.SaveStatus(ctx, a, "agent.stopped")
}

// discard stops what is left of the gateway of an agent in error.
func (r *Reconciler) discard(ctx context.Context, a agent.Agent) error {
	if err := r.stopGateway(ctx, a); err != nil {
		return err
	}
	a.Place, a.SpecDigest, a.Power = "", "", agent.PowerAwake
	return r.store.SaveStatus(ctx, a, "")
}

func (r *Reconciler) stopGateway(ctx context.Context, a agent.Agent) error {
	if err := r.checkLease(ctx, a); err != nil {
		return err
	}
	return r.gateways.Stop(ctx, a, r.timing.StopGrace)
}

// now returns the time as the database stores it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
