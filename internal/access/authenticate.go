package access

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
)

// Authenticate returns the caller to whom the presented key belongs. It reads the
// database on every call, so a key that any process revokes is refused from the next
// request on. Unknown keys are rate-limited per client IP, after the key was looked up: no
// number of them makes a valid key fail, and keys of 128 random bits cannot be guessed at
// any rate. Text that cannot be a key is refused without a query and does not count, and
// neither does a key of a disabled account, which is always Unauthorized.
// Faults: Unauthorized; RateLimited, for a key that is not valid, if the address presented
// too many of them.
func (s *Service) Authenticate(ctx context.Context, presented string, addr netip.Addr) (Principal, error) {
	if !wellFormed(presented) {
		return Principal{}, unauthorized()
	}
	who, err := s.identify(ctx, sha256.Sum256([]byte(presented)))
	if fault.Is(err, fault.Unauthorized) && !errors.Is(err, errAccountClosed) {
		err = cmp.Or(s.unknownKeys.count(addr), err)
	}
	return who, err
}

// UnknownKeys returns how many unknown keys an address may still present within the Window,
// for the response to a request that Authenticate has refused.
func (s *Service) UnknownKeys(addr netip.Addr) Decision { return s.unknownKeys.state(addr) }

// OperatorOf returns the operator as the caller of a request for an account, which is
// named by its id or name. Without a name it is the only account.
// Faults: NotFound; Invalid, if there are several accounts and none is named.
func (s *Service) OperatorOf(ctx context.Context, account string) (Principal, error) {
	if account == "" {
		all, err := s.Accounts(ctx)
		if err != nil {
			return Principal{}, err
		}
		switch len(all) {
		case 0:
			return Principal{}, fault.New(fault.NotFound, "There is no account. Create one with agento accounts create.")
		case 1:
			account = string(all[0].ID)
		default:
			return Principal{}, fault.New(fault.Invalid, "There are %d accounts: name one with --account.", len(all))
		}
	}
	a, err := s.Account(ctx, account)
	return Principal{AccountID: a.ID, PlanID: a.PlanID, Scopes: operatorScopes(), Operator: true}, err
}

// operatorScopes returns every scope.
func operatorScopes() Scopes {
	all := scopeOrder()
	return NewScopes(all[:]...)
}

// Allows returns nil if the caller's plan has the feature. It reads the database only if the
// plan is in no plans file any more: its id was read together with the key.
// Faults: PlanLimit.
func (s *Service) Allows(ctx context.Context, who Principal, feature string) error {
	plan, err := s.plan(ctx, s.db, who.PlanID)
	if err != nil {
		return err
	}
	return plan.Allows(feature)
}

// identify finds the key with a secret of this hash: its present secret, or the one before it,
// while that is valid. Its queries are the only ones without an account in their condition,
// because they find out which account is calling.
func (s *Service) identify(ctx context.Context, hash [sha256.Size]byte) (Principal, error) {
	at := now()
	c, err := database.OneReadable(ctx, s.db, scanCandidate, damagedCandidate,
		`SELECT k.hash, `+candidateColumns+` WHERE k.lookup = $1`, lookup(hash))
	if errors.Is(err, sql.ErrNoRows) {
		c, err = database.OneReadable(ctx, s.db, scanCandidate, damagedCandidate,
			`SELECT k.previous_hash, `+candidateColumns+` WHERE k.previous_lookup = $1 AND k.previous_lookup <> '' AND k.previous_until > $2`, lookup(hash), database.Millis(at))
		c.who.SecretNumber--
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return Principal{}, fmt.Errorf("find key: %w", err)
	}
	if err != nil || subtle.ConstantTimeCompare(c.hash, hash[:]) != 1 || !c.valid(at) {
		return Principal{}, unauthorized()
	}
	if c.closed {
		return Principal{}, fault.From(unauthorized()).Because(errAccountClosed)
	}
	s.lastUses.add(keyUse{c.who.AccountID, c.who.KeyID}, at)
	return c.who, nil
}

// wellFormed reports whether text has the form of a key. The form is public, so the
// time that the check takes reveals nothing.
func wellFormed(presented string) bool {
	rest, ok := strings.CutPrefix(presented, SecretPrefix)
	if !ok || len(presented) != secretLength {
		return false
	}
	for _, c := range []byte(rest) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// errAccountClosed is why a key is refused whose account is disabled or deleted.
var errAccountClosed = errors.New("the account is disabled or deleted")

// unauthorized returns the same fault for every failure, which does not reveal whether
// a key ever existed.
func unauthorized() error { return fault.New(fault.Unauthorized, "Invalid or missing API key") }

// candidate is the key that has the same first half of the hash.
type candidate struct {
	hash          []byte
	previousUntil time.Time // when its secret before the present one ends
	expires       time.Time // zero: never
	revoked       bool
	closed        bool // its account is disabled or deleted
	who           Principal
}

// valid reports whether the key may be used at a time, with one of its secrets.
func (c candidate) valid(at time.Time) bool { return !c.revoked && !ended(c.expires, at) }

// ended reports whether what lasts until a time, or for ever if that is zero, has ended.
func ended(until, at time.Time) bool { return !until.IsZero() && !at.Before(until) }

// damagedCandidate refuses a key some of whose columns cannot be decoded: it may have been
// revoked.
func damagedCandidate(c *candidate, _ error) (row string, keep bool) {
	return "key " + string(c.who.KeyID), false
}

// candidateColumns follow the hash that is compared. An account whose state is damaged is closed.
const candidateColumns = `k.revoked_at, k.expires_at, k.previous_until, k.secret_number, a.disabled_at <> 0 OR a.deleted_at <> 0,
	k.id, k.account_id, a.plan_id, k.scopes, k.rate_limit FROM keys k JOIN accounts a ON a.id = k.account_id`

func scanCandidate(r database.Row) (candidate, error) {
	var c candidate
	var revoked, expires, until int64
	var scopes string
	err := r.Scan(&c.hash, &revoked, &expires, &until, &c.who.SecretNumber, &c.closed,
		&c.who.KeyID, &c.who.AccountID, &c.who.PlanID, &scopes, &c.who.RateLimit)
	c.revoked, c.expires, c.previousUntil, c.who.Scopes = revoked != 0, database.Time(expires), database.Time(until), parseStoredScopes(scopes)
	return c, err
}
