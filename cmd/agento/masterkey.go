package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/vault"
)

// vaultFlags name the data directory and the key of its secrets.
type vaultFlags struct {
	dataFlags
	MasterKeyFile string `help:"File of the master key, 64 hex digits. Default: master.key in the data directory. AGENTO_MASTER_KEY gives the key itself." type:"path"`
	MasterKey     string `hidden:""` // only from the environment; see refuseKeyArgument
}

func (f vaultFlags) keySource() *vault.KeySource {
	return &vault.KeySource{File: cmp.Or(f.MasterKeyFile, filepath.Join(f.Data, "master.key")), Given: vault.NewSecret(f.MasterKey)}
}

// refuseKeyArgument returns an error if a command line contains the master key.
func refuseKeyArgument(args []string) error {
	for _, a := range args {
		switch {
		case a == "--":
			return nil
		case a == "--master-key" || strings.HasPrefix(a, "--master-key="):
			return usageError("other users can see the arguments of a command, and shells store them: put the master key into a file with mode 0600 and name it with --master-key-file, or into AGENTO_MASTER_KEY")
		case a == "--new-master-key" || strings.HasPrefix(a, "--new-master-key="):
			return usageError("other users can see the arguments of a command, and shells store them: put the new master key into AGENTO_NEW_MASTER_KEY")
		}
	}
	return nil
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

// secrets returns what doctor says of the master key and of what it sealed.
func (f vaultFlags) secrets(ctx context.Context) []finding {
	key, source := finding{Part: "master key"}, *f.keySource()
	state, err := f.keyState(ctx, source)
	switch {
	case err != nil:
		key.State, key.Fix = err.Error(), "put the master key that the data want into "+source.File+", with mode 0600"
	case state.File == "" && state.Given == "":
		key.State, key.OK = "none (made at the first start)", true
	default:
		key.State, key.OK = fmt.Sprintf("%s in %s", cmp.Or(state.File, state.Given), source.Place(state)), true
	}
	if err != nil || len(state.Wanted) == 0 {
		return []finding{key}
	}
	key.State += ", which the data want"
	return []finding{key, f.unreadable(ctx, state)}
}

// shownUnreadable is how many owners with unreadable secrets doctor shows.
const shownUnreadable = 10

// unreadable returns what doctor says of the secrets that the master key sealed.
func (f vaultFlags) unreadable(ctx context.Context, state vault.KeyState) finding {
	part := finding{Part: "secrets"}
	var found []string
	var total int
	err := database.View(f.databasePath(), func(q database.Reader) (err error) {
		found, total, err = state.Unreadable(ctx, q)
		return err
	})
	switch {
	case err != nil:
		part.State = err.Error()
	case len(found) == 0:
		part.State, part.OK = fmt.Sprintf("all of %d values can be decrypted", total), true
	default:
		part.State = fmt.Sprintf("of %d owners some values cannot be decrypted: %s", len(found), strings.Join(found[:min(len(found), shownUnreadable)], "; "))
		part.Fix = "set these secrets again, or restore a backup (docs/operations.md, Damaged rows)"
	}
	return part
}
