package main

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/vault"
)

// vaultFlags name the data directory and the key of its secrets.
type vaultFlags struct {
	dataFlags
	MasterKey string `help:"Master key, 64 hex digits. Default: the file master.key in the data directory."`
}

func (f vaultFlags) keySource() *vault.KeySource {
	return &vault.KeySource{File: filepath.Join(f.Data, "master.key"), Given: vault.NewSecret(f.MasterKey)}
}

// keyState compares the master key with the data. It writes nothing.
func (d dataFlags) keyState(ctx context.Context, s vault.KeySource) (state vault.KeyState, err error) {
	err = database.View(d.databasePath(), func(q database.Reader) error {
		state, err = s.Check(ctx, q)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return s.Check(ctx, nil)
	}
	return state, err
}

// checkKey refuses a wrong master key. It comes before the database is opened, and so
// before it is migrated. A nil source is not checked.
func (d dataFlags) checkKey(ctx context.Context, s *vault.KeySource) error {
	if s == nil {
		return nil
	}
	_, err := d.keyState(ctx, *s)
	return err
}

// openVault returns the vault of an open database; nil if a command needs none, or reads
// and nothing is sealed yet.
func openVault(ctx context.Context, db *database.DB, m mode, s *vault.KeySource) (*vault.Vault, error) {
	switch {
	case s == nil:
		return nil, nil
	case m == reading:
		return s.Existing(ctx, db)
	}
	return vault.Open(ctx, db, *s)
}

// masterKey returns what doctor says of the master key.
func (f vaultFlags) masterKey(ctx context.Context) finding {
	found, source := finding{Part: "master key"}, *f.keySource()
	state, err := f.keyState(ctx, source)
	switch {
	case err != nil:
		found.State, found.Fix = err.Error(), "put the master key that the data want into "+source.File+", with mode 0600"
	case state.File == "" && state.Given == "":
		found.State, found.OK = "none (made at the first start)", true
	default:
		found.State, found.OK = state.File+" in "+source.Place(state), true
		if state.File == "" {
			found.State = state.Given + " in " + source.Place(state)
		}
		if len(state.Wanted) > 0 {
			found.State += ", which the data want"
		}
	}
	return found
}
