package engines

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/multi"
)

// endStale ends every gateway of this installation on the server that its agent's record does not name.
// What no record knows at all is left to the search for orphans.
func (n *server) endStale(ctx context.Context) error {
	if n.clearer == nil {
		d, err := n.newDriver(slog.New(slog.DiscardHandler), n.dialFirst)
		if err != nil {
			return err
		}
		n.clearer = d
	}
	found, err := n.clearer.List(ctx)
	if err != nil {
		return err
	}
	var failed error
	for _, f := range found {
		if !f.Running || f.Owner != runtime.Own {
			continue
		}
		stale, err := n.isStale(ctx, f.ID, f.Place)
		if err == nil && stale {
			n.pool.Log.WarnContext(ctx, "a server has run a gateway that has a successor: it is ended", "server", n.record.Name, "agent", f.ID, "place", f.Place)
			err = n.clearer.Stop(ctx, f.Place, f.ID, 0)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("agent %s: %w", f.ID, err))
		}
	}
	return failed
}

// isStale reports whether the record of an agent names another place than that of a gateway. Without a
// place in the record the reconciler adopts the gateway or stops it.
func (n *server) isStale(ctx context.Context, id identity.AgentID, place runtime.Place) (bool, error) {
	a, err := n.pool.Store.FindByID(ctx, n.pool.DB, id)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return a.Place != "" && a.Place != multi.PlaceOn(n.record.Name, place), nil
}
