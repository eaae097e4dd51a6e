package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/admin"
)

type keysCommand struct {
	Create keyCreate `cmd:"" help:"Create a key and print it. It is shown only once."`
	List   keyList   `cmd:"" help:"List the keys of an account."`
	Edit   keyEdit   `cmd:"" help:"Change the label, scopes, rate limit or expiry of a key."`
	Rotate keyRotate `cmd:"" help:"Give a key a new secret and print it. The key keeps its id, sessions and limits."`
	Revoke keyRevoke `cmd:"" help:"Revoke a key. A running server refuses it from its next request on."`
}

type keyCreate struct {
	dataFlags
	Account   string    `arg:"" help:"Id or name of the account."`
	Label     string    `help:"Purpose of the key." default:"key"`
	Scopes    string    `help:"Scopes of the key, separated by commas, or all, which contains neither chat:owner nor account:admin." default:"all"`
	RateLimit rateLimit `help:"Requests per minute: 1 to 1000000, or unlimited." default:"120"`
	Expires   expiry    `help:"When the key ends: a time such as 2027-01-31 or 2027-01-31T12:00:00Z, a period such as 90d or 12h, or never." default:"never"`
}

// Run creates the key.
func (c keyCreate) Run(ctx context.Context, t *terminal) error {
	return c.withAdmin(ctx, writing, nil, func(api *admin.Client) error {
		key, err := api.CreateKey(ctx, c.Account, admin.NewKey{Label: c.Label, Scopes: strings.Split(c.Scopes, ","), RateLimit: int(c.RateLimit), ExpiresAt: c.Expires.Time})
		if err != nil {
			return err
		}
		return printSecret(t, key)
	})
}

// printSecret prints the secret of a key alone, or the key with it.
func printSecret(t *terminal, key admin.Key) error {
	row := keyRow(t, key)
	row["key"] = key.Secret
	return t.print(row, key.Secret)
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
			rows[i] = keyRow(t, k)
		}
		return t.table(rows, "id", "label", "scopes", "usedAt", "expiresAt", "revokedAt")
	})
}

// keyArg names a key of an account.
type keyArg struct {
	dataFlags
	Account string `arg:"" help:"Id or name of the account."`
	Key     string `arg:"" help:"Id of the key."`
}

type keyEdit struct {
	keyArg
	// Flags without a twin in the environment: what is set there for create must not change
	// a key.
	Label     *string    `help:"New purpose." env:"-"`
	Scopes    *string    `help:"New scopes, separated by commas, or all." env:"-"`
	RateLimit *rateLimit `help:"New limit of requests per minute: 1 to 1000000, or unlimited." env:"-"`
	Expires   *expiry    `help:"New end: a time, a period such as 90d, or never." env:"-"`
}

// Run changes the key.
func (c keyEdit) Run(ctx context.Context, t *terminal) error {
	in := admin.KeyChanges{Label: c.Label}
	if c.Scopes != nil {
		in.Scopes = strings.Split(*c.Scopes, ",")
	}
	if c.RateLimit != nil {
		limit := int(*c.RateLimit)
		in.RateLimit = &limit
	}
	if c.Expires != nil {
		in.ExpiresAt = &c.Expires.Time
	}
	if in.Label == nil && in.Scopes == nil && in.RateLimit == nil && in.ExpiresAt == nil {
		return errors.New("name what is to change: --label, --scopes, --rate-limit or --expires")
	}
	return c.withAdmin(ctx, writing, nil, func(api *admin.Client) error {
		key, err := api.EditKey(ctx, c.Account, c.Key, in)
		if err != nil {
			return err
		}
		return t.print(keyRow(t, key), "changed "+key.ID)
	})
}

type keyRotate struct {
	keyArg
	Grace time.Duration `help:"How long the former secret stays valid, at most 720h; 0 ends it now." default:"24h"`
}

// Run rotates the key. It prints the new secret alone.
func (c keyRotate) Run(ctx context.Context, t *terminal) error {
	return c.withAdmin(ctx, writing, nil, func(api *admin.Client) error {
		key, err := api.RotateKey(ctx, c.Account, c.Key, c.Grace)
		if err != nil {
			return err
		}
		if !key.PreviousUntil.IsZero() && !t.json {
			if _, err := fmt.Fprintf(t.err, "The former secret is valid until %s.\n", key.PreviousUntil.UTC().Format(time.RFC3339)); err != nil {
				return err
			}
		}
		return printSecret(t, key)
	})
}

type keyRevoke struct {
	keyArg
	confirmation
}

// Run revokes the key, after it has asked.
func (c keyRevoke) Run(ctx context.Context, t *terminal) error {
	if err := c.ask(t, fmt.Sprintf("Revoke the key %s of the account %s, and refuse every request with it?", c.Key, c.Account)); err != nil {
		return err
	}
	return c.withAdmin(ctx, writing, nil, func(api *admin.Client) error {
		if err := api.RevokeKey(ctx, c.Account, c.Key); err != nil {
			return err
		}
		return t.print(map[string]any{"id": c.Key, "revoked": true}, "revoked "+c.Key)
	})
}

func keyRow(t *terminal, k admin.Key) map[string]any {
	row := map[string]any{
		"id": k.ID, "label": k.Label, "hint": k.Hint, "scopes": k.Scopes, "rateLimit": k.RateLimit, "createdAt": formatTime(k.CreatedAt),
		"expiresAt": formatTime(k.ExpiresAt), "usedAt": formatTime(k.UsedAt), "revokedAt": formatTime(k.RevokedAt), "previousUntil": formatTime(k.PreviousUntil),
	}
	if !t.json {
		row["scopes"], row["rateLimit"] = strings.Join(k.Scopes, ","), formatLimit(int64(k.RateLimit))
	}
	return row
}

// rateLimit is a number of requests per minute; unlimited is access.Unlimited.
type rateLimit int

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *rateLimit) UnmarshalText(text []byte) error {
	if string(text) == "unlimited" {
		*r = access.Unlimited
		return nil
	}
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 1 || n > access.MaxRateLimit {
		return fmt.Errorf("must be from 1 to %d, or unlimited", access.MaxRateLimit)
	}
	*r = rateLimit(n)
	return nil
}

// expiry is when a key ends; the zero time: never.
type expiry struct{ time.Time }

// UnmarshalText implements encoding.TextUnmarshaler.
func (e *expiry) UnmarshalText(text []byte) error {
	value := string(text)
	if value == "never" {
		e.Time = time.Time{}
		return nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, value); err == nil && !at.IsZero() { // zero means never
			e.Time = at
			return nil
		}
	}
	period, err := parsePeriod(value)
	if err != nil || period <= 0 {
		return errors.New("must be a time such as 2027-01-31 or 2027-01-31T12:00:00Z, a period such as 90d or 12h, or never")
	}
	e.Time = time.Now().Add(period)
	return nil
}

// maxDays is how many days a period may have: a hundred years.
const maxDays = 36_500

// parsePeriod parses a duration, or a number of days such as 90d.
func parsePeriod(text string) (time.Duration, error) {
	days, ok := strings.CutSuffix(text, "d")
	if !ok {
		return time.ParseDuration(text)
	}
	n, err := strconv.Atoi(days)
	if err != nil || n > maxDays {
		return 0, fmt.Errorf("%q is no number of days up to %d", days, maxDays)
	}
	return time.Duration(n) * 24 * time.Hour, nil
}
