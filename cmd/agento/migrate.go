package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"agento.host/agento/internal/vault"
)

type migrateCommand struct{ vaultFlags }

// Run creates or migrates the database, as the start of a server does.
func (c migrateCommand) Run(ctx context.Context, t *terminal) (err error) {
	data, err := c.openAndMigrate(ctx, slog.New(slog.DiscardHandler), c.keySource(), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, data.Close()) }()
	if _, err := vault.Open(ctx, data.db, *c.keySource()); err != nil { // makes the master key of a new database
		return err
	}
	m := data.migrated
	text := fmt.Sprintf("The database has schema %d already.", m.To)
	switch {
	case m.Created:
		text = fmt.Sprintf("Created the database with schema %d.", m.To)
	case m.Copy != "":
		text = fmt.Sprintf("Migrated the database from schema %d to %d.\nThe copy from before is %s. It keeps what is deleted later; agento gc removes it once there is a newer one.", m.From, m.To, m.Copy)
	}
	return t.print(map[string]any{"created": m.Created, "from": m.From, "to": m.To, "copy": m.Copy}, text)
}
