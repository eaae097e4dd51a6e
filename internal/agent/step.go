package agent

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// step brings one agent one look further.
func (r *Reconciler) step(ctx context.Context, l *loop) (next, error) {
	a, err := findAny(ctx, r.db, l.id)
	if errors.Is(err, sql.ErrNoRows) {
		return next{rest: true}, nil
	}
	if err != nil {
		return next{}, fmt.Errorf("read agent: %w", err)
	}
	if a.Wish != l.wish { // a new wish is a new start
		l.wish, l.failures, l.unready, l.notYet, l.unwell, l.errors = a.Wish, nil, 0, time.Time{}, 0, 0
	}
	switch {
	case a.Wanted == WantDeleted:
		return next{rest: true}, r.erase(ctx, a)
	case a.Wanted == WantStopped:
		return next{rest: true}, r.halt(ctx, a)
	case gaveUp(a):
		return next{rest: true}, r.tidy(ctx, a)
	}
	return r.keepRunning(ctx, l, a)
}

// gaveUp says that an agent is in error and stays so until somebody wishes anew.
func gaveUp(a Agent) bool { return a.Status == client.Errored && a.Settled == a.Wish }

// erase removes all that an agent ever was.
func (r *Reconciler) erase(ctx context.Context, a Agent) error {
	leave, err := r.body.homes.enter(ctx, a.ID) // nobody writes into the home while it goes, or after
	if err != nil {
		return err
	}
	defer leave()
	r.body.forget(a.ID)
	if err := r.driver.Remove(ctx, runtime.Place(a.Place), identity.AgentID(a.ID)); err != nil {
		return fmt.Errorf("remove gateway: %w", err)
	}
	err = r.db.Tx(ctx, func(tx *database.Tx) error {
		if err := r.body.erase(ctx, tx, a); err != nil {
			return err
		}
		if err := remove(ctx, tx, a.ID); err != nil {
			return fmt.Errorf("remove agent: %w", err)
		}
		return r.events.Append(ctx, tx, identity.BySystem(identity.AccountID(a.AccountID)), event.Event{Topic: topic(a.ID), Kind: "agent.removed"})
	})
	r.body.forget(a.ID) // what a late caller has opened since
	return err
}

// halt stops an agent's gateway; its home stays.
func (r *Reconciler) halt(ctx context.Context, a Agent) error {
	if a.Settled == a.Wish && a.Place == "" {
		return nil
	}
	if a.Place != "" {
		if a.Status != client.Stopping {
			a.Status, a.RunningHash = client.Stopping, "" // told to end, it must not be adopted by a newer wish
			if err := r.note(ctx, a, ""); err != nil {
				return err
			}
		}
		if err := r.stop(ctx, a); err != nil {
			return err
		}
	}
	a.Status, a.Settled, a.Place, a.RunningHash = client.Stopped, a.Wish, "", ""
	a.StoppedAt, a.LastError, a.ErrorCategory = now(), "", ""
	return r.note(ctx, a, "agent.stopped")
}

// tidy stops whatever is left of a gateway that was given up.
func (r *Reconciler) tidy(ctx context.Context, a Agent) error {
	if a.Place == "" {
		return nil
	}
	if err := r.stop(ctx, a); err != nil {
		return err
	}
	a.Place, a.RunningHash = "", ""
	return r.note(ctx, a, "")
}

// stop ends the gateway at a's place, if it still runs, and then takes over what
// the agent wrote until its end.
func (r *Reconciler) stop(ctx context.Context, a Agent) error {
	r.body.forget(a.ID) // turns that run end with their connections, so that it need not drain
	if err := r.driver.Stop(ctx, runtime.Place(a.Place), identity.AgentID(a.ID), r.timing.Grace); err != nil {
		return fmt.Errorf("stop gateway: %w", err)
	}
	r.body.absorb(ctx, a)
	return nil
}

// note writes progress, with an event if kind is given, and tells whoever waits.
// Errors: errNewer.
func (r *Reconciler) note(ctx context.Context, a Agent, kind string) error {
	err := r.db.Tx(ctx, func(tx *database.Tx) error {
		if err := a.progress(ctx, tx); err != nil {
			return err
		}
		r.events.NotifyAfterCommit(tx, topic(a.ID))
		if kind == "" {
			return nil
		}
		data := map[string]any{"status": a.Status}
		if a.LastError != "" {
			data["error"], data["category"] = a.LastError, a.ErrorCategory
		}
		return r.events.Append(ctx, tx, identity.BySystem(identity.AccountID(a.AccountID)), event.Event{Topic: topic(a.ID), Kind: kind, Data: data})
	})
	if err != nil && !errors.Is(err, errNewer) {
		return fmt.Errorf("note status %s: %w", a.Status, err)
	}
	return err
}

func topic(id string) event.Topic { return event.AgentTopic(identity.AgentID(id)) }
