package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
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

func (d dataFlags) database(ctx context.Context, log *slog.Logger) (*database.DB, error) {
	if err := os.MkdirAll(d.Data, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	return database.Open(ctx, database.Settings{Path: filepath.Join(d.Data, "agento.db"), Log: log, Observe: logSlowTransaction(log)})
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

// withAccounts calls do with the accounts of the data directory. A server may be running.
func (d dataFlags) withAccounts(ctx context.Context, do func(*access.Service) error) (err error) {
	log := slog.New(slog.DiscardHandler)
	db, err := d.database(ctx, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	plans, err := d.plans()
	if err != nil {
		return err
	}
	return readable(do(access.New(access.Settings{DB: db, Events: event.NewLog(db), Plans: plans, Log: log})))
}

// withAccount calls do with the account of an id or name.
func (d dataFlags) withAccount(ctx context.Context, idOrName string, do func(*access.Service, access.Account) error) error {
	return d.withAccounts(ctx, func(accounts *access.Service) error {
		a, err := accounts.Account(ctx, idOrName)
		if err != nil {
			return err
		}
		return do(accounts, a)
	})
}

func (d dataFlags) plans() (*access.Plans, error) {
	if d.Plans == "" {
		return access.SelfHosted(), nil
	}
	return access.LoadPlans(d.Plans)
}

type accountsCommand struct {
	Create accountCreate `cmd:"" help:"Create an account and print its id."`
	List   accountList   `cmd:"" help:"List the accounts."`
}

type accountCreate struct {
	dataFlags
	Name string `arg:"" help:"Name of the account."`
	Plan string `help:"Plan of the account. Default: the first plan of the plans file."`
}

// Run creates the account.
func (c accountCreate) Run(ctx context.Context, t *terminal) error {
	return c.withAccounts(ctx, func(accounts *access.Service) error {
		a, err := accounts.CreateAccount(ctx, identity.ByOperator(""), c.Name, c.Plan)
		if err != nil {
			return err
		}
		return t.print(accountRow(a), string(a.ID))
	})
}

type accountList struct{ dataFlags }

// Run lists the accounts.
func (c accountList) Run(ctx context.Context, t *terminal) error {
	return c.withAccounts(ctx, func(accounts *access.Service) error {
		all, err := accounts.Accounts(ctx)
		if err != nil {
			return err
		}
		rows := make([]map[string]any, len(all))
		for i, a := range all {
			rows[i] = accountRow(a)
		}
		return t.table(rows, "id", "name", "plan", "createdAt")
	})
}

func accountRow(a access.Account) map[string]any {
	return map[string]any{"id": a.ID, "name": a.Name, "plan": a.PlanID, "createdAt": formatTime(a.CreatedAt)}
}

type keysCommand struct {
	Create keyCreate `cmd:"" help:"Create a key and print it. It is shown only once."`
	List   keyList   `cmd:"" help:"List the keys of an account."`
	Revoke keyRevoke `cmd:"" help:"Revoke a key. A running server refuses it from its next request on."`
}

type keyCreate struct {
	dataFlags
	Account   string `arg:"" help:"Id or name of the account."`
	Label     string `help:"Purpose of the key." default:"key"`
	Scopes    string `help:"Scopes of the key, separated by commas, or all." default:"all"`
	RateLimit int    `help:"Requests per minute." default:"120"`
}

// Run creates the key.
func (c keyCreate) Run(ctx context.Context, t *terminal) error {
	return c.withAccount(ctx, c.Account, func(accounts *access.Service, account access.Account) error {
		scopes, err := access.ParseScopes(strings.Split(c.Scopes, ","))
		if err != nil {
			return err
		}
		key, secret, err := accounts.CreateKey(ctx, identity.ByOperator(account.ID), c.Label, scopes, c.RateLimit)
		if err != nil {
			return err
		}
		row := keyRow(key)
		row["key"] = secret.Reveal()
		return t.print(row, secret.Reveal())
	})
}

type keyList struct {
	dataFlags
	Account string `arg:"" help:"Id or name of the account."`
}

// Run lists the keys.
func (c keyList) Run(ctx context.Context, t *terminal) error {
	return c.withAccount(ctx, c.Account, func(accounts *access.Service, account access.Account) error {
		keys, err := accounts.Keys(ctx, account.ID)
		if err != nil {
			return err
		}
		rows := make([]map[string]any, len(keys))
		for i, k := range keys {
			rows[i] = keyRow(k)
		}
		return t.table(rows, "id", "label", "hint", "scopes", "rateLimit", "createdAt", "usedAt", "revokedAt")
	})
}

type keyRevoke struct {
	dataFlags
	Account string `arg:"" help:"Id or name of the account."`
	Key     string `arg:"" help:"Id of the key."`
}

// Run revokes the key.
func (c keyRevoke) Run(ctx context.Context, t *terminal) error {
	return c.withAccount(ctx, c.Account, func(accounts *access.Service, account access.Account) error {
		if err := accounts.RevokeKey(ctx, identity.ByOperator(account.ID), identity.KeyID(c.Key)); err != nil {
			return err
		}
		return t.print(map[string]any{"id": c.Key, "revoked": true}, "revoked "+c.Key)
	})
}

func keyRow(k access.Key) map[string]any {
	return map[string]any{
		"id": k.ID, "label": k.Label, "hint": k.Hint, "scopes": strings.Join(k.Scopes.Names(), ","), "rateLimit": k.RateLimit,
		"createdAt": formatTime(k.CreatedAt), "usedAt": formatTime(k.UsedAt), "revokedAt": formatTime(k.RevokedAt),
	}
}

// formatTime returns the time as the API formats it, or nil for the zero time.
func formatTime(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}
