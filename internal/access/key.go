package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

const (
	secretPrefix = "ak_live_"
	secretBytes  = 16
	secretLength = len(secretPrefix) + 2*secretBytes
)

// DefaultRateLimit is the rate limit of a key for which none is set, in requests per
// Window. The API reference states it.
const DefaultRateLimit = 120

// MaxRateLimit bounds the memory that the limiter uses for one key: 8 bytes per request.
const MaxRateLimit = 10_000

// UnlimitedRate is the rate limit of a key whose requests are not limited. The headers of
// its responses show it, because clients read a number there.
const UnlimitedRate = math.MaxInt32

// Key is an API key without its secret.
type Key struct {
	ID        identity.KeyID
	AccountID identity.AccountID
	Label     string
	Hint      string // the last characters of the secret, to tell keys apart
	Scopes    Scopes
	RateLimit int // requests per Window, or UnlimitedRate
	CreatedAt time.Time
	UsedAt    time.Time // zero: never; up to a minute late
	RevokedAt time.Time // zero: not revoked
}

// CreateKey creates a key in the actor's account and returns its secret. Only the hash
// of the secret is stored, so it cannot be shown again. A rateLimit of 0 is
// DefaultRateLimit.
// Faults: Invalid; NotFound, if there is no such account.
func (s *Service) CreateKey(ctx context.Context, actor identity.Actor, label string, scopes Scopes, rateLimit int) (Key, vault.Secret, error) {
	secret := newSecret()
	k := Key{
		ID: identity.KeyID(newID("key_")), AccountID: actor.AccountID, Label: label, Hint: secret[secretLength-4:],
		Scopes: scopes, RateLimit: rateLimit, CreatedAt: now(),
	}
	if k.RateLimit == 0 {
		k.RateLimit = DefaultRateLimit
	}
	if err := checkKey(k); err != nil {
		return Key{}, vault.Secret{}, err
	}
	k.Label = strings.TrimSpace(label)
	err := s.db.Tx(ctx, "access.create_key", func(ctx context.Context, tx *database.Tx) error {
		if err := insertKey(ctx, tx, k, sha256.Sum256([]byte(secret))); err != nil {
			return err
		}
		return s.appendEvent(ctx, tx, actor, keyTopic(k.ID), "key.created",
			map[string]any{"label": k.Label, "scopes": k.Scopes.Names(), "rateLimit": k.RateLimit})
	})
	if err != nil {
		return Key{}, vault.Secret{}, fmt.Errorf("create key: %w", err)
	}
	return k, vault.NewSecret(secret), nil
}

// Keys lists an account's keys, newest first, including revoked keys.
func (s *Service) Keys(ctx context.Context, account identity.AccountID) ([]Key, error) {
	all, err := database.AllReadable(ctx, s.db, scanKey, damagedKey,
		`SELECT `+keyColumns+` FROM keys WHERE account_id = $1 ORDER BY created_at DESC, id DESC`, account)
	if err != nil {
		return nil, fmt.Errorf("list keys of account %s: %w", account, err)
	}
	return all, nil
}

// RevokeKey revokes a key of the actor's account permanently. Every process refuses the
// next request with it. Revoking a revoked key succeeds and changes nothing.
// Faults: NotFound, if the account has no such key.
func (s *Service) RevokeKey(ctx context.Context, actor identity.Actor, key identity.KeyID) error {
	err := s.db.Tx(ctx, "access.revoke_key", func(ctx context.Context, tx *database.Tx) error {
		k, err := database.OneReadable(ctx, tx, scanKey, damagedKey,
			`SELECT `+keyColumns+` FROM keys WHERE account_id = $1 AND id = $2`, actor.AccountID, key)
		if errors.Is(err, sql.ErrNoRows) {
			return fault.New(fault.NotFound, "There is no key %q in this account.", key)
		}
		if err != nil || !k.RevokedAt.IsZero() {
			return err
		}
		_, err = database.Exec(ctx, tx, `UPDATE keys SET revoked_at = $1 WHERE account_id = $2 AND id = $3`,
			database.Millis(now()), actor.AccountID, key)
		if err != nil {
			return err
		}
		return s.appendEvent(ctx, tx, actor, keyTopic(key), "key.revoked", map[string]any{"label": k.Label})
	})
	if err != nil {
		return fmt.Errorf("revoke key: %w", err)
	}
	return nil
}

// keyTopicPrefix begins the topics of keys.
const keyTopicPrefix = "key/"

func keyTopic(key identity.KeyID) event.Topic { return event.Topic(keyTopicPrefix + key) }

func newSecret() string {
	var b [secretBytes]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return secretPrefix + hex.EncodeToString(b[:])
}

func checkKey(k Key) error {
	wrong := fault.Fields{}
	checkText(wrong, "label", k.Label)
	if k.Label != "" && fault.IsBlank(k.Label) {
		wrong.Add("label", "must not consist of blanks: leave it out for none")
	}
	if k.Scopes.Empty() {
		wrong.Add("scopes", "must name at least one of %s", validScopes())
	}
	if k.Scopes.Has(ChatOwner) && !k.Scopes.Has(Chat) {
		wrong.Add("scopes", "has %s, which needs %s too", ChatOwner, Chat)
	}
	if (k.RateLimit < 1 || k.RateLimit > MaxRateLimit) && k.RateLimit != UnlimitedRate {
		wrong.Add("rateLimit", "must be from 1 to %d, or %d for no limit", MaxRateLimit, UnlimitedRate)
	}
	return wrong.Err()
}

const keyColumns = `id, account_id, label, hint, scopes, rate_limit, created_at, used_at, revoked_at`

func scanKey(r database.Row) (Key, error) {
	var k Key
	var scopes string
	var created, used, revoked int64
	err := r.Scan(&k.ID, &k.AccountID, &k.Label, &k.Hint, &scopes, &k.RateLimit, &created, &used, &revoked)
	k.Scopes = parseStoredScopes(scopes)
	k.CreatedAt, k.UsedAt, k.RevokedAt = database.Time(created), database.Time(used), database.Time(revoked)
	return k, err
}

// damagedKey keeps a key some of whose columns cannot be decoded: it can be revoked.
func damagedKey(k *Key, _ error) (row string, keep bool) { return "key " + string(k.ID), true }

// insertKey inserts the key. Faults: NotFound, if its account does not exist.
func insertKey(ctx context.Context, tx *database.Tx, k Key, hash [sha256.Size]byte) error {
	n, err := database.Exec(ctx, tx,
		`INSERT INTO keys (id, account_id, label, lookup, hash, hint, scopes, rate_limit, created_at)
		SELECT $1, id, $3, $4, $5, $6, $7, $8, $9 FROM accounts WHERE id = $2`,
		k.ID, k.AccountID, k.Label, lookup(hash), hash[:], k.Hint, k.Scopes.String(), k.RateLimit, database.Millis(k.CreatedAt))
	if err == nil && n == 0 {
		return accountNotFound(string(k.AccountID))
	}
	return err
}

// lookup returns the half of a hash by which the database finds a key. The other half
// is compared in constant time.
func lookup(hash [sha256.Size]byte) string { return hex.EncodeToString(hash[:sha256.Size/2]) }
