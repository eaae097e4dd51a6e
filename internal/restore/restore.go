// Package restore makes a data directory from a backup. The result is a new installation,
// which is quiet: until the operator activates it, it starts no gateway, reads no channel and
// removes nothing, because the installation that the backup is of may still run.
package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/chat"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime/home"
	"agento.host/agento/internal/runtime/process"
	"agento.host/agento/internal/user"
	"agento.host/agento/internal/vault"
	"agento.host/agento/internal/widget"
)

// Names in a data directory.
const (
	databaseName = "agento.db"
	keyName      = "master.key"
	agentsName   = "agents"
)

// topic is that of the events of this package.
const topic event.Topic = "installation/restore"

// reason is shown as the error of agents that should run, while the installation is quiet.
const reason = "This installation was restored from a backup: no agent is started until its operator activates it."

var (
	// ErrInUse is the error of Run if a server or another command uses the data directory.
	ErrInUse = errors.New("is in use")
	// ErrNotEmpty is the error of Run if the data directory has something in it.
	ErrNotEmpty = errors.New("is not empty")
)

// Settings configure Run.
type Settings struct {
	Dir string // the data directory to make; it is missing or empty
	// Unpack writes the data directory of a backup into an empty directory.
	Unpack func(ctx context.Context, dir string) (Backup, error)
	// Lock locks a data directory as a server does. Errors: ErrInUse.
	Lock func(dir string) (unlock func() error, err error)
	// Key is the master key, if it is not in the backup. An empty File is the one in the data
	// directory.
	Key        vault.KeySource
	RevokeKeys bool // revoke every API key, and disable every chat widget
	Log        *slog.Logger

	step func(name string) // in tests: called after each step
}

// Backup says what Unpack has written.
type Backup struct {
	ID string
	At time.Time // what the backup holds is from then
}

// Result is what Run has done.
type Result struct {
	Installation string // the id of the new installation
	Original     string // the id of the installation that the backup is of
	Backup       Backup
	From, To     int // the schema of the database in the backup, and now
	Agents       int // homes
	EndedTurns   int // turns that were open
	Keys         []Key
	Catalog      string // the directory of the operator's own skills; empty: the backup has none
}

// Key is an API key that was valid in the backup.
type Key struct {
	access.Key
	Account string // the name of its account
	Revoked bool   // by Run
}

// Run restores a backup into a data directory. It works in a new directory beside that one,
// and renames what it has made, locked, once at the end: whenever it fails or is killed, the
// data directory is as before, or complete. Errors: ErrInUse; ErrNotEmpty; those of Unpack; of
// the master key, which name the one that is wanted.
func Run(ctx context.Context, s Settings) (_ Result, err error) {
	if s.step == nil {
		s.step = func(string) {}
	}
	r, err := begin(ctx, s)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, r.end(context.WithoutCancel(ctx))) }()
	if err := r.restore(ctx); err != nil {
		return Result{}, err
	}
	return r.result, r.rename()
}

// run is a restore that goes on.
type run struct {
	Settings
	temp    string // the directory beside the data directory that the restore works in
	dir     string // in temp: becomes the data directory
	unlocks []func() error
	result  Result
}

// prefix begins the name of the directory that a restore works in.
func prefix(dir string) string { return "." + filepath.Base(dir) + ".restoring-" }

// begin checks the data directory, and makes and locks a directory beside it.
func begin(ctx context.Context, s Settings) (*run, error) {
	dir, err := filepath.Abs(s.Dir)
	if err != nil {
		return nil, err
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	s.Dir = dir
	if err := s.checkDir(); err != nil {
		return nil, err
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory above the data directory: %w", err)
	}
	if err := s.removeLeft(ctx); err != nil {
		return nil, err
	}
	temp, err := os.MkdirTemp(parent, prefix(dir)+"*")
	if err != nil {
		return nil, fmt.Errorf("make a directory beside %s, which becomes the data directory: %w", dir, err)
	}
	r := &run{Settings: s, temp: temp, dir: filepath.Join(temp, "data")}
	if err := errors.Join(os.Mkdir(r.dir, 0o700), r.lock(temp)); err != nil {
		return nil, errors.Join(err, os.RemoveAll(temp))
	}
	return r, nil
}

// lock locks a directory until end.
func (r *run) lock(dir string) error {
	unlock, err := r.Lock(dir)
	if err == nil {
		r.unlocks = append(r.unlocks, unlock)
	}
	return err
}

// checkDir returns an error unless the data directory is missing or empty, and can be
// replaced.
func (s Settings) checkDir() error {
	info, err := os.Lstat(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the data directory: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory: choose another --data", s.Dir)
	}
	names, err := os.ReadDir(s.Dir)
	if err != nil {
		return fmt.Errorf("look at the data directory: %w", err)
	}
	if len(names) > 0 {
		return s.notEmpty(names)
	}
	above, err := os.Stat(filepath.Dir(s.Dir))
	if err != nil {
		return fmt.Errorf("look at the data directory: %w", err)
	}
	if device(info) != device(above) {
		return fmt.Errorf("%s is a mount point, which cannot be replaced in one step: choose a directory in it as --data, such as %s", s.Dir, filepath.Join(s.Dir, "agento"))
	}
	return nil
}

func device(info fs.FileInfo) uint64 {
	st, _ := info.Sys().(*syscall.Stat_t)
	return uint64(st.Dev) //nolint:unconvert // the type of Dev differs between systems
}

// notEmpty returns why a data directory with these names in it is refused.
func (s Settings) notEmpty(names []fs.DirEntry) error {
	if slices.ContainsFunc(names, func(e fs.DirEntry) bool { return e.Name() == lockName }) {
		unlock, err := s.Lock(s.Dir)
		if err != nil {
			return fmt.Errorf("%s %w: an agento server or command runs on it. Choose another --data, or stop it and move the directory away", s.Dir, err)
		}
		if err := unlock(); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s %w: choose another --data, or move the directory away. A restore never replaces or merges data", s.Dir, ErrNotEmpty)
}

// lockName is the file that Lock locks.
const lockName = "server.lock"

// removeLeft removes what restores of this data directory have left that were killed: their
// locks are free.
func (s Settings) removeLeft(ctx context.Context) error {
	parent := filepath.Dir(s.Dir)
	entries, err := os.ReadDir(parent)
	if err != nil {
		return fmt.Errorf("look for earlier restores: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(parent, e.Name())
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefix(s.Dir)) {
			continue
		}
		if _, err := os.Lstat(filepath.Join(path, lockName)); err != nil {
			continue // a restore that has just begun, or that has nothing in it
		}
		unlock, err := s.Lock(path)
		if err != nil {
			continue // another restore works in it
		}
		if err := errors.Join(home.Purge(ctx, path), unlock()); err != nil {
			return fmt.Errorf("remove what an earlier restore has left: %w", err)
		}
	}
	return nil
}

// end removes the directory that the restore worked in, and unlocks all.
func (r *run) end(ctx context.Context) error {
	err := home.Purge(ctx, r.temp)
	for _, unlock := range r.unlocks {
		err = errors.Join(err, unlock())
	}
	return err
}

// restore makes the data directory in r.dir.
func (r *run) restore(ctx context.Context) (err error) {
	if r.result.Backup, err = r.Unpack(ctx, r.dir); err != nil {
		return err
	}
	r.step("unpacked")
	if err := r.lock(r.dir); err != nil { // a server that finds the directory after the rename waits
		return err
	}
	if err := r.checkUnpacked(); err != nil {
		return err
	}
	if r.Key.File == "" {
		r.Key.File = filepath.Join(r.dir, keyName)
	}
	if err := r.checkKey(ctx); err != nil {
		return err
	}
	if err := r.migrate(ctx); err != nil {
		return err
	}
	r.step("migrated")
	if err := r.changeRecords(ctx); err != nil {
		return err
	}
	r.step("changed")
	r.result.Agents, err = process.MarkRestored(filepath.Join(r.dir, agentsName), r.result.Installation)
	r.step("marked")
	return err
}

func (r *run) path() string { return filepath.Join(r.dir, databaseName) }

// checkUnpacked checks what the backup has written, and removes what a server makes anew.
func (r *run) checkUnpacked() error {
	info, err := os.Lstat(r.path())
	if err != nil || !info.Mode().IsRegular() {
		return errors.Join(errors.New("the backup has no database"), err)
	}
	if info, err := os.Lstat(filepath.Join(r.dir, agentsName)); err == nil && !info.IsDir() {
		return errors.New("the homes of agents in the backup are no directory")
	}
	if info, err := os.Stat(filepath.Join(r.dir, "catalog")); err == nil && info.IsDir() {
		r.result.Catalog = filepath.Join(r.Dir, "catalog")
	}
	for _, name := range []string{"admin.sock", "unknown-agents.txt"} {
		if err := os.Remove(filepath.Join(r.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// checkKey refuses another master key than the data want, in the words of a restore.
func (r *run) checkKey(ctx context.Context) error {
	var state vault.KeyState
	err := database.View(r.path(), func(q database.Reader) (err error) {
		state, err = r.Key.Check(ctx, q)
		return err
	})
	wanted := strings.Join(state.Wanted, " or ")
	if err == nil || wanted == "" {
		return err
	}
	found := state.Given
	if found == "" {
		found = state.File
	}
	if found == "" && r.Key.File == filepath.Join(r.dir, keyName) {
		return fmt.Errorf("the master key is not in the backup: give the one with fingerprint %s with --master-key-file FILE, or in AGENTO_MASTER_KEY. Nothing was changed", wanted)
	}
	if found != "" && !slices.Contains(state.Wanted, found) {
		return fmt.Errorf("the backup wants the master key with fingerprint %s, and the one that was given has the fingerprint %s: give the other one with --master-key-file FILE, or in AGENTO_MASTER_KEY. Nothing was changed", wanted, found)
	}
	return err
}

// migrate brings the database of the backup to this program's schema. The backup itself is
// the copy from before.
func (r *run) migrate(ctx context.Context) error {
	m, err := database.Migrate(ctx, r.path())
	if err != nil {
		return fmt.Errorf("the database of the backup: %w", err)
	}
	r.result.From, r.result.To = m.From, m.To
	if m.Copy == "" {
		return nil
	}
	return os.Remove(m.Copy)
}

// changeRecords makes the database that of a new installation.
func (r *run) changeRecords(ctx context.Context) (err error) {
	db, err := database.Open(ctx, database.Settings{Path: r.path(), Log: r.Log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	r.result.Original = db.Installation()
	secrets, err := vault.Open(ctx, db, r.Key)
	if err != nil {
		return err
	}
	events := event.NewLog(db)
	agents := agent.NewStore(db, events)
	err = db.Tx(ctx, "restore.restore", func(ctx context.Context, tx *database.Tx) (err error) {
		if r.result.Installation, err = database.MakeRestored(ctx, tx, r.result.Backup.At); err != nil {
			return err
		}
		if err := errors.Join(vault.RaiseAllTokens(ctx, tx), agents.ForgetGateways(ctx, tx, reason), user.EndAllSessions(ctx, tx)); err != nil {
			return err
		}
		if r.RevokeKeys {
			if err := widget.DisableAll(ctx, tx); err != nil {
				return err
			}
		}
		data := map[string]any{"backup": r.result.Backup.ID, "backupAt": r.result.Backup.At.UTC(), "original": r.result.Original}
		return events.Append(ctx, tx, identity.ByOperator(""), event.Event{Topic: topic, Kind: "installation.restored", Data: data})
	})
	if err != nil {
		return err
	}
	turns := chat.New(chat.Settings{DB: db, Events: events, Vault: secrets, Log: r.Log})
	if r.result.EndedTurns, err = turns.EndOpenTurns(ctx); err != nil {
		return err
	}
	r.result.Keys, err = r.keys(ctx, access.New(access.Settings{DB: db, Events: events, Log: r.Log}))
	return err
}

// keys returns the valid API keys, those of one account after those of another, and revokes
// them if that was asked for.
func (r *run) keys(ctx context.Context, accounts *access.Service) ([]Key, error) {
	all, err := accounts.Accounts(ctx)
	if err != nil {
		return nil, err
	}
	var valid []Key
	for _, a := range slices.Backward(all) {
		keys, err := accounts.Keys(ctx, a.ID)
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			if !k.RevokedAt.IsZero() || !k.ExpiresAt.IsZero() && !k.ExpiresAt.After(time.Now()) {
				continue
			}
			if r.RevokeKeys {
				if err := accounts.RevokeKey(ctx, identity.ByOperator(a.ID), k.ID); err != nil {
					return nil, err
				}
			}
			valid = append(valid, Key{Key: k, Account: a.Name, Revoked: r.RevokeKeys})
		}
	}
	return valid, nil
}

// rename makes the new directory the data directory. An empty directory is replaced by it; one
// in which somebody has made a file meanwhile is not.
func (r *run) rename() error {
	// Homes are many files, and none may be missing after the rename. os.Rename replaces no
	// directory, not even an empty one.
	syscall.Sync()
	if err := syscall.Rename(r.dir, r.Dir); err != nil {
		if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST) {
			return fmt.Errorf("%s %w any more: choose another --data", r.Dir, ErrNotEmpty)
		}
		return fmt.Errorf("rename the new directory to %s: %w", r.Dir, err)
	}
	parent, err := os.Open(filepath.Dir(r.Dir))
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}
