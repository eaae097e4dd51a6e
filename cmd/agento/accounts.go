package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/admin"
)

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
	return c.withAdmin(ctx, writing, nil, func(api *admin.Client) error {
		a, err := api.CreateAccount(ctx, c.Name, c.Plan)
		if err != nil {
			return err
		}
		return t.print(accountRow(a), a.ID)
	})
}

type accountList struct{ dataFlags }

// Run lists the accounts.
func (c accountList) Run(ctx context.Context, t *terminal) error {
	return c.withAdmin(ctx, reading, nil, func(api *admin.Client) error {
		all, err := api.Accounts(ctx)
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

func accountRow(a admin.Account) map[string]any {
	return map[string]any{"id": a.ID, "name": a.Name, "plan": a.Plan, "createdAt": formatTime(a.CreatedAt)}
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
	Scopes    string `help:"Scopes of the key, separated by commas, or all, which does not contain chat:owner." default:"all"`
	RateLimit string `help:"Requests per minute: 1 to 10000, or unlimited." default:"120"`
}

// unlimited is the value of --rate-limit of a key without a limit.
const unlimited = "unlimited"

func (c keyCreate) rateLimit() (int, error) {
	if c.RateLimit == unlimited {
		return access.UnlimitedRate, nil
	}
	n, err := strconv.Atoi(c.RateLimit)
	if err != nil || n < 1 || n > access.MaxRateLimit {
		return 0, fmt.Errorf("--rate-limit must be from 1 to %d, or %s", access.MaxRateLimit, unlimited)
	}
	return n, nil
}

// Run creates the key.
func (c keyCreate) Run(ctx context.Context, t *terminal) error {
	limit, err := c.rateLimit()
	if err != nil {
		return err
	}
	return c.withAdmin(ctx, writing, nil, func(api *admin.Client) error {
		key, err := api.CreateKey(ctx, c.Account, admin.NewKey{Label: c.Label, Scopes: strings.Split(c.Scopes, ","), RateLimit: limit})
		if err != nil {
			return err
		}
		row := keyRow(key)
		row["key"] = key.Secret
		return t.print(row, key.Secret)
	})
}

type keyList struct {
	dataFlags
	Account string `arg:"" help:"Id or name of the account."`
}

// Run lists the keys.
func (c keyList) Run(ctx context.Context, t *terminal) error {
	return c.withAdmin(ctx, reading, nil, func(api *admin.Client) error {
		keys, err := api.Keys(ctx, c.Account)
		if err != nil {
			return err
		}
		rows := make([]map[string]any, len(keys))
		for i, k := range keys {
			rows[i] = keyRow(k)
		}
		return t.table(rows, "id", "label", "scopes", "createdAt", "usedAt", "revokedAt")
	})
}

type keyRevoke struct {
	dataFlags
	Account string `arg:"" help:"Id or name of the account."`
	Key     string `arg:"" help:"Id of the key."`
}

// Run revokes the key.
func (c keyRevoke) Run(ctx context.Context, t *terminal) error {
	return c.withAdmin(ctx, writing, nil, func(api *admin.Client) error {
		if err := api.RevokeKey(ctx, c.Account, c.Key); err != nil {
			return err
		}
		return t.print(map[string]any{"id": c.Key, "revoked": true}, "revoked "+c.Key)
	})
}

func keyRow(k admin.Key) map[string]any {
	return map[string]any{
		"id": k.ID, "label": k.Label, "hint": k.Hint, "scopes": strings.Join(k.Scopes, ","), "rateLimit": k.RateLimit,
		"createdAt": formatTime(k.CreatedAt), "usedAt": formatTime(k.UsedAt), "revokedAt": formatTime(k.RevokedAt),
	}
}

// formatTime returns the time for a table or JSON, or nil for the zero time.
func formatTime(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return moment{t}
}
