package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"syscall"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/vault"
)

type vaultCommand struct {
	Rotate vaultRotate `cmd:"" help:"Replace the master key, while no server runs. Gateways go on. AGENTO_NEW_MASTER_KEY gives the new one if the present one comes from AGENTO_MASTER_KEY; otherwise one is made."`
}

type vaultRotate struct {
	vaultFlags
	NewMasterKey string `hidden:""` // only from the environment; see refuseKeyArgument
	KeepFormer   string `help:"File that gets the former key, for backups from before." type:"path"`
}

// Run replaces the master key.
func (c vaultRotate) Run(ctx context.Context, t *terminal) (err error) {
	server, err := c.dialServer(ctx)
	if err == nil && server != nil {
		err = fmt.Errorf("a server runs on %s: stop it, rotate the master key, and start it again. The gateways of agents go on meanwhile. Nothing was changed", c.Data)
	}
	if err != nil {
		return err
	}
	unlock, err := lock(c.Data, syscall.LOCK_EX, false)
	if errors.Is(err, errLocked) {
		return fmt.Errorf("an agento server on %s starts or ends, or another command uses it: try again. Nothing was changed", c.Data)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := c.checkKey(ctx, c.keySource()); err != nil {
		return c.openError(err)
	}
	db, err := database.Open(ctx, database.Settings{Path: c.databasePath(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return c.openError(err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	r := vault.Rotation{Source: *c.keySource(), Next: vault.NewSecret(c.NewMasterKey), Former: c.KeepFormer}
	done, err := r.Rotate(ctx, db, event.NewLog(db))
	if err != nil {
		return err
	}
	return t.print(map[string]any{
		"former": done.Former, "fingerprint": done.Current, "keys": done.Keys, "damaged": done.Damaged, "inFile": done.InFile,
	}, c.text(done))
}

func (c vaultRotate) text(done vault.Rotated) string {
	text := fmt.Sprintf("The master key %s is replaced by %s, which seals %d data keys.", done.Former, done.Current, done.Keys)
	if done.InFile {
		text += " It is in " + c.keySource().File + ": copy it to where you keep the key."
	} else {
		text += " Start the server with it from now on, in AGENTO_MASTER_KEY."
	}
	if done.Damaged > 0 {
		text += fmt.Sprintf(" %d data keys were damaged before, and are as they were.", done.Damaged)
	}
	return text + " Backups and copies of the database from before need the former key."
}
