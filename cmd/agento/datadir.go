package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/admin"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/pool"
	"agento.host/agento/internal/runtime/image"
	"agento.host/agento/internal/runtime/process"
	"agento.host/agento/internal/user"
	"agento.host/agento/internal/vault"
)

// dataFlags name the data directory and the plans file.
type dataFlags struct {
	Data  string `help:"Data directory." default:"${data}" type:"path"`
	Plans string `help:"Plans file. Without it there is one plan without limits." type:"path"`
}

func defaultData() string {
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "agento")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "agento-data"
	}
	return filepath.Join(home, ".local", "share", "agento")
}

func (d dataFlags) plans() (*access.Plans, error) {
	if d.Plans == "" {
		return access.SelfHosted(), nil
	}
	return access.LoadPlans(d.Plans)
}

func (d dataFlags) databasePath() string { return filepath.Join(d.Data, "agento.db") }

const (
	// lockTimeout is how long a server waits for the lock, which commands hold for
	// moments.
	lockTimeout = time.Second
	// commandTimeout is how long a command waits for the lock or the server: a server
	// has the lock before it accepts connections, and still has it after that.
	commandTimeout = 15 * time.Second
	// lockPoll is the pause between attempts. No event says that a lock is free.
	lockPoll = 50 * time.Millisecond
)

// errLocked is the error of lock while another process has the lock.
var errLocked = errors.New("locked")

// lock locks the data directory by its file server.lock. Everything that opens the
// database has the lock first: what changes it alone, what reads it together with other
// readers. A server has it until it ends. With create the file is made if it is missing;
// without, no lock is needed, because whoever changes the database makes the file.
func lock(dir string, how int, create bool) (unlock func() error, err error) {
	flags := os.O_RDONLY
	if create {
		flags = os.O_CREATE | os.O_RDWR
	}
	f, err := os.OpenFile(filepath.Join(dir, "server.lock"), flags, 0o600)
	if !create && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = errLocked
		}
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}

// lockData locks the data directory against every other process that uses the database,
// such as a second server, which would start every agent again.
func lockData(ctx context.Context, dir string) (unlock func() error, err error) {
	err = poll(ctx, lockTimeout, func() error {
		unlock, err = lock(dir, syscall.LOCK_EX, true)
		return err
	})
	if errors.Is(err, errLocked) {
		err = fmt.Errorf("another agento server or command runs on %s: stop it, or choose another --data", dir)
	}
	return unlock, err
}

// poll calls do until its error is not errLocked, for at most limit.
func poll(ctx context.Context, limit time.Duration, do func() error) error {
	for deadline := time.Now().Add(limit); ; {
		err := do()
		if !errors.Is(err, errLocked) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// openedData is a data directory that this process has locked, with its database.
type openedData struct {
	db       *database.DB
	migrated database.Migrated
	unlock   func() error
}

// Close closes the database and unlocks the directory.
func (o openedData) Close() error { return errors.Join(o.db.Close(), o.unlock()) }

// openAndMigrate makes the data directory if it is missing, locks it, and opens its
// database after creating or migrating it. Only serve, dev and migrate do this. key is nil
// for what needs no vault. A wrong master key is refused before anything is written. observe,
// if not nil, is called after each transaction.
func (d dataFlags) openAndMigrate(ctx context.Context, log *slog.Logger, key *vault.KeySource, observe func(kind string, held time.Duration)) (_ openedData, err error) {
	if err := os.MkdirAll(d.Data, 0o700); err != nil {
		return openedData{}, fmt.Errorf("make data directory: %w", err)
	}
	var o openedData
	if o.unlock, err = lockData(ctx, d.Data); err != nil {
		return openedData{}, err
	}
	database.MakeRoom(d.databasePath())
	if err = d.checkKey(ctx, key); err == nil {
		o.migrated, err = database.Migrate(ctx, d.databasePath())
	}
	if err == nil {
		o.db, err = database.Open(ctx, database.Settings{Path: d.databasePath(), Log: log, Observe: observe})
	}
	if err != nil {
		return openedData{}, errors.Join(err, o.unlock())
	}
	if o.migrated.Copy != "" {
		log.InfoContext(ctx, "the database was migrated", "from", o.migrated.From, "to", o.migrated.To, "copy", o.migrated.Copy)
	}
	return o, nil
}

// slowTransaction is how long a transaction may hold the write lock before it is logged
// as a warning: all other changes wait for it.
const slowTransaction = 250 * time.Millisecond

// logSlowTransaction returns an observer that logs transactions: slow ones as warnings,
// the others for debugging.
func logSlowTransaction(log *slog.Logger) func(kind string, held time.Duration) {
	return func(kind string, held time.Duration) {
		level := slog.LevelDebug
		if held >= slowTransaction {
			level = slog.LevelWarn
		}
		log.Log(context.Background(), level, "transaction", "kind", kind, "held", held)
	}
}

// mode is what a command does with the data directory.
type mode int

const (
	reading mode = iota // makes no file
	writing
)

// withAdmin calls do with the admin API of the running server, or with one of its own on
// the database, whose lock it has meanwhile. key is nil for what needs no vault.
func (d dataFlags) withAdmin(ctx context.Context, m mode, key *vault.KeySource, do func(*admin.Client) error) (err error) {
	var c *admin.Client
	release := func() error { return nil }
	err = poll(ctx, commandTimeout, func() error {
		var err error
		if c, err = d.dialServer(ctx); c != nil || err != nil {
			return err
		}
		c, release, err = d.openAdmin(ctx, m, key)
		return err
	})
	if errors.Is(err, errLocked) {
		return fmt.Errorf("an agento server on %s starts or ends, or another command uses it: try again", d.Data)
	}
	if err != nil {
		return d.openError(err)
	}
	defer func() { err = errors.Join(err, release()) }()
	return do(c)
}

// openError returns the error of opening the database with the exit code that it has if
// there is none.
func (d dataFlags) openError(err error) error {
	if _, e := os.Stat(d.databasePath()); errors.Is(e, fs.ErrNotExist) || errors.Is(e, syscall.ENOTDIR) {
		return notFoundError("%s", err)
	}
	return err
}

// dialServer returns a client of the running server, or nil if there is none.
func (d dataFlags) dialServer(ctx context.Context) (*admin.Client, error) {
	c, err := admin.Dial(ctx, d.Data)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ECONNREFUSED):
		return nil, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w: run the command as the server's user or as root", err)
	case err != nil:
		return nil, fmt.Errorf("call the server that runs on %s: %w", d.Data, err)
	}
	return c, nil
}

// openAdmin locks the data directory and opens its database. Errors: errLocked.
func (d dataFlags) openAdmin(ctx context.Context, m mode, key *vault.KeySource) (_ *admin.Client, release func() error, err error) {
	how, create := syscall.LOCK_SH, false
	if m == writing {
		_, err := os.Stat(d.databasePath())
		how, create = syscall.LOCK_EX, err == nil // without a database, opening it says what to do
	}
	unlock, err := lock(d.Data, how, create)
	if err != nil {
		return nil, nil, err
	}
	if err := d.checkKey(ctx, key); err != nil {
		return nil, nil, errors.Join(err, unlock())
	}
	log := slog.New(slog.DiscardHandler)
	db, err := database.Open(ctx, database.Settings{Path: d.databasePath(), Log: log, ReadOnly: m == reading})
	if err != nil {
		return nil, nil, errors.Join(err, unlock())
	}
	release = func() error { return errors.Join(db.Close(), unlock()) }
	secrets, err := openVault(ctx, db, m, key)
	if err != nil {
		return nil, nil, errors.Join(err, release())
	}
	h, err := d.adminSettings(db, secrets, log)
	if err != nil {
		return nil, nil, errors.Join(err, release())
	}
	return admin.Local(admin.New(h)), release, nil
}

func (d dataFlags) adminSettings(db *database.DB, key *vault.Vault, log *slog.Logger) (admin.Settings, error) {
	plans, err := d.plans()
	if err != nil {
		return admin.Settings{}, err
	}
	events := event.NewLog(db)
	secrets := vault.NewInstallation(db, key, events)
	accounts := access.New(access.Settings{DB: db, Events: events, Plans: plans, Log: log})
	return admin.Settings{
		Accounts: accounts, People: user.New(user.Settings{DB: db, Events: events, Access: accounts, Log: log}),
		AgentUsage: func(ctx context.Context, account identity.AccountID) (agents, running int, err error) {
			return agent.NewStore(db, events).Usage(ctx, db, account)
		},
		Describe: describeInstallation(db), Activate: activateInstallation(db, events),
		Secrets: secrets, Servers: pool.New(pool.Settings{DB: db, Events: events, Vault: key, Log: log, Image: image.DefaultReference, AgentsOn: agentsOn(db)}), Collectors: d.collectors(), Reembed: reembed(db, events, secrets), Backup: d.backupHere(db),
		Checkpoints: func(context.Context) (admin.Checkpoints, error) {
			return checkpointsOf(process.CheckpointUse(process.Settings{Dir: filepath.Join(d.Data, agentsDir), Installation: db.Installation()}))
		},
		Examine: func(ctx context.Context) ([]admin.Examined, error) {
			isolation, err := db.ReadIsolation(ctx)
			if err != nil {
				return nil, err
			}
			return examinedOf(process.Examine(ctx, filepath.Join(d.Data, agentsDir), isolation == database.Development))
		},
	}, nil
}
