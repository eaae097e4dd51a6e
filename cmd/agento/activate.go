package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"agento.host/agento/internal/admin"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/restore"
)

type activateCommand struct {
	dataFlags
	confirmation
}

// Run activates a restored installation.
func (c activateCommand) Run(ctx context.Context, t *terminal) error {
	return c.withAdmin(ctx, writing, nil, func(api *admin.Client) error {
		i, err := api.Installation(ctx)
		if err != nil {
			return err
		}
		if i.QuietSince.IsZero() {
			return t.print(map[string]any{"id": i.ID, "activated": false}, "The installation is active already.")
		}
		t.progress("%s", originalMustNot(i))
		if err := c.ask(t, "Activate this installation?"); err != nil {
			return err
		}
		if _, err := api.Activate(ctx); err != nil {
			return err
		}
		return t.print(map[string]any{"id": i.ID, "restoredFrom": i.RestoredFrom, "activated": true}, "The installation is active.")
	})
}

// originalMustNot says what the installation that a restored one is a copy of must not do any
// more once the copy is active.
func originalMustNot(i admin.Installation) string {
	return fmt.Sprintf(`This installation was restored from a backup of the installation %s, made %s.
Once it is active, its agents start and read their channels. From then on the original must not run:
  - stop its server, and its gateways, which go on without it: agento gateways stop --all --data ITS-DATA
  - do not start it again; what happened on it since the backup stays there.
If both run, both answer the same messages of Telegram and Slack and act for the same customers,
and each ends the other's connections.`, i.RestoredFrom, i.BackupAt.UTC().Format(time.RFC3339))
}

// printQuiet says at the start of a server what a restored installation does and does not.
func (s *server) printQuiet(ctx context.Context, f serveFlags, t *terminal) error {
	i, err := describeInstallation(s.db)(ctx)
	switch {
	case err != nil:
		return err
	case s.activated:
		t.progress("%s", originalMustNot(i))
	case !i.QuietSince.IsZero():
		t.progress(`This installation is quiet: it was restored from a backup of the installation %s, made %s.
No gateway and no channel is started and nothing is removed until agento activate --data %s`, i.RestoredFrom, i.BackupAt.UTC().Format(time.RFC3339), f.Data)
	}
	return nil
}

// describeInstallation returns a function that describes the installation of a database.
func describeInstallation(db *database.DB) func(context.Context) (admin.Installation, error) {
	return func(ctx context.Context) (admin.Installation, error) {
		r, err := db.Restored(ctx)
		return admin.Installation{ID: db.Installation(), RestoredFrom: r.From, BackupAt: r.BackupAt, QuietSince: r.QuietSince}, err
	}
}

// activateInstallation returns a function that activates the installation of a database.
func activateInstallation(db *database.DB, events *event.Log) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := restore.Activate(ctx, db, events)
		return err
	}
}

// refuseWhileQuiet answers the calls of gateways with 503 while the installation is quiet: it
// has started none.
func refuseWhileQuiet(db *database.DB, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if db.IsQuiet() {
			http.Error(w, "this installation is quiet", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// installation reports that the installation is quiet.
func (c doctorCommand) installation(ctx context.Context) []finding {
	var found []finding
	err := c.withAdmin(ctx, reading, nil, func(api *admin.Client) error {
		i, err := api.Installation(ctx)
		if err == nil && !i.QuietSince.IsZero() {
			found = append(found, finding{
				Part: "installation", OK: true, Warning: true,
				State: fmt.Sprintf("restored from a backup of %s, made %s, and quiet: no agent runs", i.RestoredFrom, formatTime(i.BackupAt)),
				Fix:   "once the original does not run any more: agento activate --data " + c.Data,
			})
		}
		return err
	})
	if err != nil {
		return nil // the database's own check says so
	}
	return found
}
