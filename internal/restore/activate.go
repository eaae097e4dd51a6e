package restore

import (
	"context"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
)

// Activate ends that the installation is quiet: from then on it acts on the outside, and the
// one that it was restored from must not any more. It reports whether the installation was
// quiet.
func Activate(ctx context.Context, db *database.DB, events *event.Log) (wasQuiet bool, err error) {
	err = db.Tx(ctx, "restore.activate", func(ctx context.Context, tx *database.Tx) (err error) {
		if wasQuiet, err = db.Activate(ctx, tx); err != nil || !wasQuiet {
			return err
		}
		if err := agent.NewStore(db, events).ClearError(ctx, tx, reason); err != nil {
			return err
		}
		return events.Append(ctx, tx, identity.ByOperator(""), event.Event{Topic: topic, Kind: "installation.activated"})
	})
	return wasQuiet, err
}
