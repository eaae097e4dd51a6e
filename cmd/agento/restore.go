package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"time"

	"agento.host/agento/internal/backup"
	"agento.host/agento/internal/restore"
	"agento.host/agento/internal/vault"
)

// restoreCommand has no flags of a plans file: nothing is served.
type restoreCommand struct {
	accessFlags
	Source        string `arg:"" help:"Where the backups are."`
	Snapshot      string `help:"Id of the backup, as agento backup list shows it. Default: the newest." placeholder:"ID"`
	Data          string `help:"Data directory to make; it must be missing or empty." default:"${data}" type:"path"`
	MasterKeyFile string `help:"File of the master key, if it is not in the backup. AGENTO_MASTER_KEY gives the key itself." type:"path"`
	MasterKey     string `hidden:""` // only from the environment; see refuseKeyArgument
	RevokeKeys    bool   `help:"Revoke every API key that the backup holds, and disable every chat widget." env:"-"`
}

// Run restores a backup and says what is to be done next.
func (c restoreCommand) Run(ctx context.Context, t *terminal) (err error) {
	store, err := c.open(ctx, c.Source)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	r, err := restore.Run(ctx, restore.Settings{
		Dir: c.Data, Key: vault.KeySource{File: c.MasterKeyFile, Given: vault.NewSecret(c.MasterKey)}, RevokeKeys: c.RevokeKeys,
		Log:  slog.New(slog.DiscardHandler),
		Lock: lockForRestore,
		Unpack: func(ctx context.Context, dir string) (restore.Backup, error) {
			t.progress("Unpacking the backup into %s, which becomes %s.", dir, c.Data)
			m, err := backup.Unpack(ctx, store, c.Snapshot, dir)
			if problem := m.Problem(); err == nil && problem != "" {
				t.progress("%s", problem)
			}
			return restore.Backup{ID: m.ID, At: m.Began}, err
		},
	})
	switch {
	case errors.Is(err, restore.ErrInUse) || errors.Is(err, restore.ErrNotEmpty):
		return refusedError("%s", err)
	case err != nil:
		return backupError(err)
	}
	return c.print(t, r)
}

// lockForRestore locks a directory as a server does.
func lockForRestore(dir string) (func() error, error) {
	unlock, err := lock(dir, syscall.LOCK_EX, true)
	if errors.Is(err, errLocked) {
		err = restore.ErrInUse
	}
	return unlock, err
}

// print prints what was restored. With --json it is one object.
func (c restoreCommand) print(t *terminal, r restore.Result) error {
	keys := make([]map[string]any, len(r.Keys))
	for i, k := range r.Keys {
		keys[i] = map[string]any{"id": k.ID, "account": k.Account, "label": k.Label, "scopes": k.Scopes.Names(), "usedAt": formatTime(k.UsedAt), "expiresAt": formatTime(k.ExpiresAt), "revoked": k.Revoked}
		if !t.json {
			keys[i]["scopes"] = strings.Join(k.Scopes.Names(), ",")
		}
	}
	if t.json {
		return t.printJSON(map[string]any{
			"data": c.Data, "installation": r.Installation, "restoredFrom": r.Original, "backup": r.Backup.ID, "backupAt": formatTime(r.Backup.At), "fromSchema": r.From, "schema": r.To,
			"agents": r.Agents, "endedTurns": r.EndedTurns, "catalog": r.Catalog, "keys": keys,
		})
	}
	text := fmt.Sprintf("Restored the backup %s of the installation %s, made %s, into %s: the homes of %s.", r.Backup.ID, r.Original, r.Backup.At.UTC().Format(time.RFC3339), c.Data, count(r.Agents, "agent", "agents"))
	if r.From != r.To {
		text += fmt.Sprintf("\nThe database was migrated from schema %d to %d.", r.From, r.To)
	}
	if r.EndedTurns > 0 {
		text += fmt.Sprintf("\nMessages that were not answered when the backup was made, and are ended: %d.", r.EndedTurns)
	}
	if r.Catalog != "" {
		text += "\nYour own skills are in " + r.Catalog + ": start the server with --catalog " + r.Catalog + "."
	}
	if err := t.print(nil, text); err != nil {
		return err
	}
	return errors.Join(c.printKeys(t, keys), t.print(nil, fmt.Sprintf(`
The installation is new, %s, and quiet: agento serve --data %[2]s starts no agent,
reads no channel and removes nothing until agento activate --data %[2]s. The original must not
run from then on.`, r.Installation, c.Data)))
}

func (c restoreCommand) printKeys(t *terminal, keys []map[string]any) error {
	switch {
	case len(keys) == 0:
		return nil
	case c.RevokeKeys:
		if err := t.print(nil, fmt.Sprintf("\nThese %d API keys were valid and are revoked:", len(keys))); err != nil {
			return err
		}
	default:
		if err := t.print(nil, "\nThese API keys are valid again, also those that were revoked since the backup. Revoke them\nwith agento keys revoke, or all of them by restoring with --revoke-keys:"); err != nil {
			return err
		}
	}
	return t.table(keys, "id", "account", "label", "scopes", "usedAt")
}
