package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"agento.host/agento/internal/admin"
	"agento.host/agento/internal/database"
)

type gcCommand struct {
	dataFlags
	confirmation
	OlderThan time.Duration `help:"Only what is kept for longer than this, such as 720h."`
}

// Run lists what is kept until the operator removes it, asks, and removes it.
func (c gcCommand) Run(ctx context.Context, t *terminal) error {
	return c.withAdmin(ctx, writing, nil, func(api *admin.Client) error {
		all, err := api.Garbage(ctx)
		if err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(g admin.Garbage) bool { return time.Since(g.Since) < c.OlderThan })
		rows := make([]map[string]any, len(all))
		for i, g := range all {
			rows[i] = map[string]any{"kind": g.Kind, "name": g.Name, "since": formatTime(g.Since), "bytes": g.Bytes}
		}
		if len(all) == 0 && !t.json {
			return t.print(nil, "There is nothing to remove.")
		}
		if err := t.table(rows, "kind", "name", "since", "bytes"); err != nil || len(all) == 0 {
			return err
		}
		if err := c.ask(t, "Remove all of this?"); err != nil {
			return err
		}
		for _, g := range all {
			if err := api.RemoveGarbage(ctx, g); err != nil {
				return fmt.Errorf("remove %s %s: %w", g.Kind, g.Name, err)
			}
		}
		return nil
	})
}

// collectors returns what finds and removes each kind of garbage of an installation.
func (d dataFlags) collectors() []admin.Collector {
	return []admin.Collector{databaseCopies(d.databasePath()), quarantinedHomes(d.Data)}
}

// databaseCopies collects the copies that migrations have made, except for the last one.
func databaseCopies(path string) admin.Collector {
	const kind = "database copy"
	older := func() ([]string, error) {
		copies, err := database.Copies(path)
		return copies[:max(0, len(copies)-1)], err
	}
	return admin.Collector{
		Kind: kind,
		List: func(context.Context) ([]admin.Garbage, error) {
			copies, err := older()
			all := make([]admin.Garbage, 0, len(copies))
			for _, c := range copies {
				info, e := os.Stat(c)
				if e != nil {
					err = errors.Join(err, e)
					continue
				}
				all = append(all, admin.Garbage{Kind: kind, Name: filepath.Base(c), Bytes: info.Size(), Since: info.ModTime()})
			}
			return all, err
		},
		Remove: func(_ context.Context, name string) error {
			copies, err := older()
			if err != nil {
				return err
			}
			for _, c := range copies {
				if filepath.Base(c) != name {
					continue
				}
				if err := os.Remove(c); !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
			return nil
		},
	}
}
