package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/vault"
)

const (
	secretPrefix = "ak_live_"
	secretBytes  = 16
	secretLength = len(secretPrefix) + 2*secretBytes
)

// DefaultRateLimit is the contract's, in requests a Window.
const DefaultRateLimit = 120

// MaxRateLimit bounds what the limiter keeps of one key: 8 bytes a request.
const MaxRateLimit = 10_000

// Key is an API key as it may be shown; its secret is known to its holder alone.
type Key struct {
	ID        string
	AccountID string
	Label     string
	Hint      string // the end of the secret, to tell keys apart
	Scopes    Scopes
	RateLimit int // requests a Window
	CreatedAt time.Time
	UsedAt    time.Time // zero: never; up to a minute late
	RevokedAt time.Time // zero: good
}

// CreateKey makes a key and returns its secret, which is kept nowhere: only its
// hash is stored. A rateLimit of 0 takes DefaultRateLimit.
// Faults: Invalid; NotFound, if there is no such account.
func (s *Service) CreateKey(ctx context.Context, accountID, label string, scopes Scopes, rateLimit int, actor string) (Key, vault.Secret, error) {
	secret := newSecret()
	k := Key{
		ID: newID("key_"), AccountID: accountID, Label: strings.TrimSpace(label), Hint: secret[secretLength-4:],
		Scopes: scopes, RateLimit: rateLimit, CreatedAt: now(),
	}
	if k.RateLimit == 0 {
		k.RateLimit = DefaultRateLimit
	}
	if err := checkKey(k); err != nil {
		return Key{}, vault.Secret{}, err
	}
	err := s.db.Tx(ctx, func(tx *database.Tx) error {
		if err := insertKey(ctx, tx, k, sha256.Sum256([]byte(secret))); err != nil {
			return err
		}
		return s.record(ctx, tx, accountID, "key/"+k.ID, "key.created", actor,
			map[string]any{"label": k.Label, "scopes": k.Scopes.Names(), "rateLimit": k.RateLimit})
	})
	if err != nil {
		return Key{}, vault.Secret{}, fmt.Errorf("create key: %w", err)
	}
	return k, vault.NewSecret(secret), nil
}

// Keys lists an account's keys, revoked ones too, newest first.
func (s *Service) Keys(ctx context.Context, accountID string) ([]Key, error) {
	all, err := database.All(ctx, s.db, scanKey,
		`SELECT `+keyColumns+` FROM keys WHERE account_id = $1 ORDER BY created_at DESC, id DESC`, accountID)
	if err != nil {
		return nil, fmt.Errorf("list keys of account %s: %w", accountID, err)
	}
	return all, nil
}

// RevokeKey ends a key for good; the next request with it is refused, in every
// process. Revoking it again is success and changes nothing.
// Faults: NotFound, if the account has no such key.
func (s *Service) RevokeKey(ctx context.Context, accountID, keyID, actor string) error {
	err := s.db.Tx(ctx, func(tx *database.Tx) error {
		k, err := database.One(ctx, tx, scanKey,
			`SELECT `+keyColumns+` FROM keys WHERE account_id = $1 AND id = $2`, accountID, keyID)
		if errors.Is(err, sql.ErrNoRows) {
			return fault.New(fault.NotFound, "There is no key %q in this account.", keyID)
		}
		if err != nil || !k.RevokedAt.IsZero() {
			return err
		}
		_, err = database.Exec(ctx, tx, `UPDATE keys SET revoked_at = $1 WHERE account_id = $2 AND id = $3`,
			database.Millis(now()), accountID, keyID)
		if err != nil {
			return err
		}
		return s.record(ctx, tx, accountID, "key/"+keyID, "key.revoked", actor, map[string]any{"label": k.Label})
	})
	if err != nil {
		return fmt.Errorf("revoke key: %w", err)
	}
	return nil
}

func newSecret() string {
	var b [secretBytes]byte
	_, _ = rand.Read(b[:]) // never fails: the process ends instead
	return secretPrefix + hex.EncodeToString(b[:])
}

func checkKey(k Key) error {
	wrong := fault.Fields{}
	checkText(wrong, "label", k.Label)
	if k.Scopes.Empty() {
		wrong.Add("scopes", "must name at least one of %s", validScopes())
	}
	if k.RateLimit < 1 || k.RateLimit > MaxRateLimit {
		wrong.Add("rateLimit", "must be from 1 to %d", MaxRateLimit)
	}
	return wrong.Err()
}

const keyColumns = `id, account_id, label, hint, scopes, rate_limit, created_at, used_at, revoked_at`

func scanKey(r database.Row) (Key, error) {
	var k Key
	var scopes string
	var created, used, revoked int64
	err := r.Scan(&k.ID, &k.AccountID, &k.Label, &k.Hint, &scopes, &k.RateLimit, &created, &used, &revoked)
	k.Scopes = storedScopes(scopes)
	k.CreatedAt, k.UsedAt, k.RevokedAt = database.Time(created), database.Time(used), database.Time(revoked)
	return k, err
}

// insertKey stores the key if its account exists.
func insertKey(ctx context.Context, q database.Querier, k Key, hash [sha256.Size]byte) error {
	n, err := database.Exec(ctx, q,
		`INSERT INTO keys (id, account_id, label, lookup, hash, hint, scopes, rate_limit, created_at)
		SELECT $1, id, $3, $4, $5, $6, $7, $8, $9 FROM accounts WHERE id = $2`,
		k.ID, k.AccountID, k.Label, lookup(hash), hash[:], k.Hint, k.Scopes.String(), k.RateLimit, database.Millis(k.CreatedAt))
	if err == nil && n == 0 {
		return noAccount(k.AccountID)
	}
	return err
}

// lookup is the half of a hash by which a key is found.
func lookup(hash [sha256.Size]byte) string { return hex.EncodeToString(hash[:sha256.Size/2]) }
