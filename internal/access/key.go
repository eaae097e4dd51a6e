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
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// SecretPrefix begins the secret of every key.
const SecretPrefix = "ak_live_"

const (
	secretBytes  = 16
	secretLength = len(SecretPrefix) + 2*secretBytes
)

// DefaultRateLimit is the rate limit of a key for which none is set, in requests per
// Window. The API reference states it.
const DefaultRateLimit = 120

// MaxRateLimit is the highest rate limit of a key; a key without one has Unlimited.
const MaxRateLimit = 1_000_000

const (
	// DefaultGrace is how long the former secret of a rotated key stays valid if nothing
	// else is said.
	DefaultGrace = 24 * time.Hour
	// MaxGrace bounds it: for longer, a second key does the same.
	MaxGrace = 30 * 24 * time.Hour
)

// MaxKeys is how many valid keys an account may have.
const MaxKeys = 1000

// Key is an API key without its secret.
type Key struct {
	ID        identity.KeyID
	AccountID identity.AccountID
	Label     string
	Hint      string // the last characters of the secret, to tell keys apart
	Scopes    Scopes
	RateLimit int // requests per Window; or Unlimited
	CreatedAt time.Time
	ExpiresAt time.Time // zero: never
	UsedAt    time.Time // zero: never; up to a minute late
	RevokedAt time.Time // zero: not revoked

	// PreviousUntil is when the secret ends that the key had before it was rotated; zero: it
	// was not, or that secret ended at once.
	PreviousUntil time.Time

	number int64 // of its secret
}

// NewKey describes a key to be made.
type NewKey struct {
	Label     string
	Scopes    Scopes
	RateLimit int       // requests per Window; or Unlimited
	ExpiresAt time.Time // zero: never
}

// KeyChanges are the changes of a key; nil leaves a field as it is.
type KeyChanges struct {
	Label     *string
	Scopes    *Scopes
	RateLimit *int
	ExpiresAt *time.Time // the zero time: never
}

// CreateKey creates a key in the actor's account and returns its secret. Only the hash
// of the secret is stored, so it cannot be shown again. A key as the actor makes only keys
// that have no more rights than it has: no scope that it lacks, no higher rate limit, no later
// expiry. If the actor's request has created a key before, whose secret nobody has got, the
// key gets the secret that is returned.
// Faults: Invalid; Forbidden, naming what the actor lacks; Conflict, if the account has
// MaxKeys; NotFound, if there is no such account.
func (s *Service) CreateKey(ctx context.Context, actor identity.Actor, in NewKey) (Key, vault.Secret, error) {
	secret := newSecret()
	k := Key{
		ID: identity.KeyID(newID("key_")), AccountID: actor.AccountID, Label: in.Label, Hint: hintOf(secret),
		Scopes: in.Scopes, RateLimit: in.RateLimit, CreatedAt: now(), ExpiresAt: in.ExpiresAt.UTC().Truncate(time.Millisecond), number: 1,
	}
	if err := checkKey(k, true); err != nil {
		return Key{}, vault.Secret{}, err
	}
	k.Label = strings.TrimSpace(k.Label)
	err := s.db.Tx(ctx, "access.create_key", func(ctx context.Context, tx *database.Tx) error {
		if err := tx.Lock(ctx, database.LockKeys, string(actor.AccountID)); err != nil {
			return err
		}
		if created, ok, err := s.events.Repeated(ctx, tx, actor); err != nil {
			return err
		} else if ok {
			k, err = replaceSecret(ctx, tx, actor, identity.KeyID(created.Topic.ID()), secret)
			return err
		}
		if err := s.checkGrant(ctx, tx, actor, k); err != nil {
			return err
		}
		if err := insertKey(ctx, tx, k, sha256.Sum256([]byte(secret))); err != nil {
			return err
		}
		return s.appendEvent(ctx, tx, actor, keyTopic(k.ID), "key.created", k.described())
	})
	if err != nil {
		return Key{}, vault.Secret{}, fmt.Errorf("create key: %w", err)
	}
	return k, vault.NewSecret(secret), nil
}

// EditKey changes a key of the actor's account. It holds from the key's next request on; its
// streams end that were opened with a scope that it loses. A key as the actor changes only keys
// that have no more rights than it has, before and after, and not itself.
// Faults: Invalid; Forbidden, naming what the actor lacks; Conflict, if the key was revoked;
// NotFound.
func (s *Service) EditKey(ctx context.Context, actor identity.Actor, id identity.KeyID, c KeyChanges) (Key, error) {
	var k Key
	err := s.changeKey(ctx, actor, "access.edit_key", id, func(ctx context.Context, tx *database.Tx, before Key) (string, map[string]any, error) {
		k = before.apply(c)
		if err := checkKey(k, c.ExpiresAt != nil); err != nil {
			return "", nil, err
		}
		k.Label = strings.TrimSpace(k.Label)
		if err := s.checkGrant(ctx, tx, actor, before, k); err != nil {
			return "", nil, err
		}
		if k == before {
			return "", nil, nil
		}
		_, err := database.Exec(ctx, tx, `UPDATE keys SET label = $1, scopes = $2, rate_limit = $3, expires_at = $4 WHERE account_id = $5 AND id = $6`,
			k.Label, k.Scopes.String(), k.RateLimit, database.Millis(k.ExpiresAt), actor.AccountID, id)
		return "key.updated", k.described(), err
	})
	if err != nil {
		return Key{}, fmt.Errorf("edit key: %w", err)
	}
	return k, nil
}

// RotateKey gives a key of the actor's account a new secret, which it returns. The former one
// is valid for grace, and one before that no more. The key keeps its id, and so its sessions,
// its limits and what is counted of it. A key as the actor rotates only keys that have no more
// rights than it has, and not itself. If the actor's request has rotated the key before, that
// secret, which nobody has got, is replaced.
// Faults: Invalid; Forbidden, naming what the actor lacks; Conflict, if the key was revoked or
// has expired; NotFound.
func (s *Service) RotateKey(ctx context.Context, actor identity.Actor, id identity.KeyID, grace time.Duration) (Key, vault.Secret, error) {
	if grace < 0 || grace > MaxGrace {
		return Key{}, vault.Secret{}, fault.Fields{"grace": fmt.Sprintf("must be from 0 to %d days", MaxGrace/(24*time.Hour))}.Err()
	}
	secret := newSecret()
	var k Key
	err := s.changeKey(ctx, actor, "access.rotate_key", id, func(ctx context.Context, tx *database.Tx, before Key) (string, map[string]any, error) {
		if err := s.checkGrant(ctx, tx, actor, before); err != nil {
			return "", nil, err
		}
		if _, ok, err := s.events.Repeated(ctx, tx, actor); err != nil {
			return "", nil, err
		} else if ok {
			k, err = replaceSecret(ctx, tx, actor, id, secret)
			return "", nil, err
		}
		if ended(before.ExpiresAt, now()) {
			return "", nil, fault.New(fault.Conflict, "The key %q has expired. Change its expiry first, or create another key.", id)
		}
		if k = before; grace > 0 {
			k.PreviousUntil = now().Add(grace)
		} else {
			k.PreviousUntil = time.Time{}
		}
		k.Hint, k.number = hintOf(secret), before.number+1
		return "key.rotated", map[string]any{"label": k.Label, "graceSeconds": int64(grace / time.Second)}, rotate(ctx, tx, k, secret)
	})
	if err != nil {
		return Key{}, vault.Secret{}, fmt.Errorf("rotate key: %w", err)
	}
	return k, vault.NewSecret(secret), nil
}

// Key returns a key of an account. Faults: NotFound.
func (s *Service) Key(ctx context.Context, account identity.AccountID, id identity.KeyID) (Key, error) {
	return findKey(ctx, s.db, account, id)
}

// ListKeys returns a page of an account's keys, newest first, including revoked keys, and how
// many there are.
func (s *Service) ListKeys(ctx context.Context, account identity.AccountID, limit, offset int) (keys []Key, total int, err error) {
	if total, err = database.One(ctx, s.db, database.Scalar[int], `SELECT count(*) FROM keys WHERE account_id = $1`, account); err == nil {
		keys, err = database.AllReadable(ctx, s.db, scanKey, damagedKey,
			`SELECT `+keyColumns+` FROM keys WHERE account_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2 OFFSET $3`, account, limit, offset)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("list keys of account %s: %w", account, err)
	}
	return keys, total, nil
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

// CountKeys returns how many valid keys an account has.
func (s *Service) CountKeys(ctx context.Context, account identity.AccountID) (int, error) {
	return countKeys(ctx, s.db, account)
}

// RevokeKey revokes a key of the actor's account permanently. Every process refuses the
// next request with it. Revoking a revoked key succeeds and changes nothing. A key as the actor
// may revoke every key of its account.
// Faults: Forbidden, if the actor is a key without AccountAdmin; NotFound, if the account has no
// such key.
func (s *Service) RevokeKey(ctx context.Context, actor identity.Actor, key identity.KeyID) error {
	err := s.db.Tx(ctx, "access.revoke_key", func(ctx context.Context, tx *database.Tx) error {
		k, err := findKey(ctx, tx, actor.AccountID, key)
		if err != nil {
			return err
		}
		if _, err := s.grantor(ctx, tx, actor); err != nil {
			return err
		}
		if !k.RevokedAt.IsZero() {
			return nil
		}
		_, err = database.Exec(ctx, tx, `UPDATE keys SET revoked_at = $1, previous_lookup = '', previous_hash = x'', previous_until = 0 WHERE account_id = $2 AND id = $3`,
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

// changeKey calls change with a key of the actor's account that is not revoked, and appends
// the event that it returns; no kind means that nothing is to be recorded.
// Faults: Forbidden, if the actor is that key; Conflict, if it was revoked; NotFound.
func (s *Service) changeKey(ctx context.Context, actor identity.Actor, kind string, id identity.KeyID, change func(context.Context, *database.Tx, Key) (event string, data map[string]any, err error)) error {
	return s.db.Tx(ctx, kind, func(ctx context.Context, tx *database.Tx) error {
		if err := tx.Lock(ctx, database.LockKeys, string(actor.AccountID)); err != nil {
			return err
		}
		k, err := findKey(ctx, tx, actor.AccountID, id)
		if err != nil {
			return err
		}
		switch {
		case actor.Kind == identity.Key && actor.ID == string(id):
			return fault.New(fault.Forbidden, "An API key cannot change itself. Use another key that has the scope %s.", AccountAdmin)
		case !k.RevokedAt.IsZero():
			return fault.New(fault.Conflict, "The key %q was revoked, which is final. Create another key.", id)
		}
		happened, data, err := change(ctx, tx, k)
		if err != nil || happened == "" {
			return err
		}
		return s.appendEvent(ctx, tx, actor, keyTopic(id), happened, data)
	})
}

// checkGrant returns nil if the actor may give somebody a key with the rights of each of keys.
// Faults: Forbidden, naming what the actor lacks; Unauthorized, if it has ended meanwhile.
func (s *Service) checkGrant(ctx context.Context, tx *database.Tx, actor identity.Actor, keys ...Key) error {
	own, err := s.grantor(ctx, tx, actor)
	if own == nil || err != nil {
		return err
	}
	for _, k := range keys {
		if lacks := k.Scopes.Without(own.Scopes); !lacks.Empty() {
			return forbidden("scopes", "it lacks %s", lacks)
		}
		if k.RateLimit > own.RateLimit {
			return forbidden("rateLimit", "its own rate limit is %d", own.RateLimit)
		}
		if !own.ExpiresAt.IsZero() && (k.ExpiresAt.IsZero() || k.ExpiresAt.After(own.ExpiresAt)) {
			return forbidden("expiresAt", "it expires at %s itself", own.ExpiresAt.Format(time.RFC3339))
		}
	}
	return nil
}

func forbidden(field, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	return fault.New(fault.Forbidden, "This API key makes, changes and rotates only keys that have no more rights than it has: %s.", what).With(field, what)
}

// grantor returns the record of the key that the actor is, nil if it is none: others may give
// every right. Faults: Forbidden; Unauthorized, if the key has ended since it was authenticated.
func (s *Service) grantor(ctx context.Context, q database.Reader, actor identity.Actor) (*Key, error) {
	if actor.Kind != identity.Key {
		return nil, nil
	}
	own, err := findKey(ctx, q, actor.AccountID, identity.KeyID(actor.ID))
	if fault.Is(err, fault.NotFound) || err == nil && (!own.RevokedAt.IsZero() || ended(own.ExpiresAt, now())) {
		return nil, unauthorized()
	}
	if err != nil {
		return nil, err
	}
	return &own, Principal{Scopes: own.Scopes}.Require(AccountAdmin)
}

// KeyScopes returns the scopes that the key has which the actor is. Faults: Unauthorized, if the
// key has ended since it was authenticated; Forbidden, if it lacks AccountAdmin.
func (s *Service) KeyScopes(ctx context.Context, q database.Reader, actor identity.Actor) (Scopes, error) {
	own, err := s.grantor(ctx, q, actor)
	if err != nil {
		return Scopes{}, err
	}
	if own == nil {
		return Scopes{}, fault.New(fault.Forbidden, "Only an API key has scopes of its own.")
	}
	return own.Scopes, nil
}

// apply returns the key with the changes made.
func (k Key) apply(c KeyChanges) Key {
	if c.Label != nil {
		k.Label = *c.Label
	}
	if c.Scopes != nil {
		k.Scopes = *c.Scopes
	}
	if c.RateLimit != nil {
		k.RateLimit = *c.RateLimit
	}
	if c.ExpiresAt != nil {
		k.ExpiresAt = c.ExpiresAt.UTC().Truncate(time.Millisecond)
	}
	return k
}

// described returns what the audit log says of a key.
func (k Key) described() map[string]any {
	data := map[string]any{"label": k.Label, "scopes": k.Scopes.Names(), "rateLimit": k.RateLimit}
	if !k.ExpiresAt.IsZero() {
		data["expiresAt"] = k.ExpiresAt.Format(time.RFC3339)
	}
	return data
}

// keyTopicPrefix begins the topics of keys.
const keyTopicPrefix = "key/"

func keyTopic(key identity.KeyID) event.Topic { return event.Topic(keyTopicPrefix + key) }

func newSecret() string {
	var b [secretBytes]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return SecretPrefix + hex.EncodeToString(b[:])
}

func hintOf(secret string) string { return secret[secretLength-4:] }

// checkKey checks a key that is to be stored, and its expiry if that is new.
func checkKey(k Key, expiry bool) error {
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
	if (k.RateLimit < 1 || k.RateLimit > MaxRateLimit) && k.RateLimit != Unlimited {
		wrong.Add("rateLimit", "must be from 1 to %d, or %d for none", MaxRateLimit, Unlimited)
	}
	if expiry && ended(k.ExpiresAt, now()) {
		wrong.Add("expiresAt", "must be in the future")
	}
	return wrong.Err()
}

const keyColumns = `id, account_id, label, hint, scopes, rate_limit, created_at, expires_at, used_at, revoked_at, previous_until, secret_number`

func scanKey(r database.Row) (Key, error) {
	var k Key
	var scopes string
	var created, expires, used, revoked, until int64
	err := r.Scan(&k.ID, &k.AccountID, &k.Label, &k.Hint, &scopes, &k.RateLimit, &created, &expires, &used, &revoked, &until, &k.number)
	k.Scopes = parseStoredScopes(scopes)
	k.CreatedAt, k.ExpiresAt, k.UsedAt, k.RevokedAt = database.Time(created), database.Time(expires), database.Time(used), database.Time(revoked)
	k.PreviousUntil = database.Time(until)
	return k, err
}

// damagedKey keeps a key some of whose columns cannot be decoded: it can be revoked.
func damagedKey(k *Key, _ error) (row string, keep bool) { return "key " + string(k.ID), true }

// findKey returns a key of an account. Faults: NotFound.
func findKey(ctx context.Context, q database.Reader, account identity.AccountID, id identity.KeyID) (Key, error) {
	k, err := database.OneReadable(ctx, q, scanKey, damagedKey, `SELECT `+keyColumns+` FROM keys WHERE account_id = $1 AND id = $2`, account, id)
	if errors.Is(err, sql.ErrNoRows) {
		return Key{}, fault.New(fault.NotFound, "There is no key %q in this account.", id)
	}
	if err != nil {
		return Key{}, fmt.Errorf("find key %s: %w", id, err)
	}
	return k, nil
}

func countKeys(ctx context.Context, q database.Reader, account identity.AccountID) (int, error) {
	n, err := database.One(ctx, q, database.Scalar[int],
		`SELECT count(*) FROM keys WHERE account_id = $1 AND revoked_at = 0 AND (expires_at = 0 OR expires_at > $2)`, account, database.Millis(now()))
	if err != nil {
		return 0, fmt.Errorf("count the keys of account %s: %w", account, err)
	}
	return n, nil
}

// insertKey inserts the key. Faults: NotFound, if its account does not exist; Conflict, if the
// account has MaxKeys.
func insertKey(ctx context.Context, tx *database.Tx, k Key, hash [sha256.Size]byte) error {
	count, err := countKeys(ctx, tx, k.AccountID)
	if err != nil {
		return err
	}
	if count >= MaxKeys {
		return fault.New(fault.Conflict, "The account has %d keys already, the most it may have. Revoke one first.", count)
	}
	n, err := database.Exec(ctx, tx,
		`INSERT INTO keys (id, account_id, label, lookup, hash, hint, scopes, rate_limit, created_at, expires_at)
		SELECT $1, id, $3, $4, $5, $6, $7, $8, $9, $10 FROM accounts WHERE id = $2 AND deleted_at = 0`,
		k.ID, k.AccountID, k.Label, lookup(hash), hash[:], k.Hint, k.Scopes.String(), k.RateLimit, database.Millis(k.CreatedAt), database.Millis(k.ExpiresAt))
	if err == nil && n == 0 {
		return accountNotFound(string(k.AccountID))
	}
	return err
}

// rotate stores a new secret of a key, which becomes k. The present one becomes the previous,
// until k.PreviousUntil.
func rotate(ctx context.Context, tx *database.Tx, k Key, secret string) error {
	hash := sha256.Sum256([]byte(secret))
	_, err := database.Exec(ctx, tx, `UPDATE keys SET lookup = $1, hash = $2, hint = $3, secret_number = $4,
		previous_lookup = CASE WHEN $5 > 0 THEN lookup ELSE '' END, previous_hash = CASE WHEN $5 > 0 THEN hash ELSE x'' END, previous_until = $5
		WHERE account_id = $6 AND id = $7`,
		lookup(hash), hash[:], k.Hint, k.number, database.Millis(k.PreviousUntil), k.AccountID, k.ID)
	return err
}

// replaceSecret stores another present secret of a key, in place of one that nobody has got.
func replaceSecret(ctx context.Context, tx *database.Tx, actor identity.Actor, id identity.KeyID, secret string) (Key, error) {
	hash := sha256.Sum256([]byte(secret))
	_, err := database.Exec(ctx, tx, `UPDATE keys SET lookup = $1, hash = $2, hint = $3 WHERE account_id = $4 AND id = $5`,
		lookup(hash), hash[:], hintOf(secret), actor.AccountID, id)
	if err != nil {
		return Key{}, err
	}
	return findKey(ctx, tx, actor.AccountID, id)
}

// lookup returns the half of a hash by which the database finds a key. The other half
// is compared in constant time.
func lookup(hash [sha256.Size]byte) string { return hex.EncodeToString(hash[:sha256.Size/2]) }
