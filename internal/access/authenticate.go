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

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
)

// Authenticate returns the caller to whom the presented key belongs. It reads the
// database on every call, so a key that any process revokes is refused from the next
// request on. Unknown keys are rate-limited per client IP, after the key was looked up: no
// number of them makes a valid key fail, and keys of 128 random bits cannot be guessed at
// any rate. Text that cannot be a key is refused without a query and does not count.
// Faults: Unauthorized; RateLimited, for a key that is not valid, if the address presented
// too many of them.
func (s *Service) Authenticate(ctx context.Context, presented string, addr netip.Addr) (Principal, error) {
	if !wellFormed(presented) {
		return Principal{}, unauthorized()
	}
	who, err := s.identify(ctx, sha256.Sum256([]byte(presented)))
	if fault.Is(err, fault.Unauthorized) {
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

// Allows returns nil if the caller's plan has the feature. It does not read the
// database: the plan was read together with the key.
// Faults: PlanLimit.
func (s *Service) Allows(who Principal, feature string) error {
	plan, err := s.plans.Get(who.PlanID)
	if err != nil {
		return err
	}
	return plan.Allows(feature)
}

// identify finds the key with this hash. Its query is the only one without an account
// in its condition, because it finds out which account is calling.
func (s *Service) identify(ctx context.Context, hash [sha256.Size]byte) (Principal, error) {
	c, err := database.OneReadable(ctx, s.db, scanCandidate, damagedCandidate,
		`SELECT `+candidateColumns+` FROM keys k JOIN accounts a ON a.id = k.account_id WHERE k.lookup = $1`, lookup(hash))
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return Principal{}, fmt.Errorf("find key: %w", err)
	}
	if err != nil || subtle.ConstantTimeCompare(c.hash, hash[:]) != 1 || c.revoked {
		return Principal{}, unauthorized()
	}
	s.lastUses.add(keyUse{c.who.AccountID, c.who.KeyID}, now())
	return c.who, nil
}

// wellFormed reports whether text has the form of a key. The form is public, so the
// time that the check takes reveals nothing.
func wellFormed(presented string) bool {
	rest, ok := strings.CutPrefix(presented, secretPrefix)
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

// unauthorized returns the same fault for every failure, which does not reveal whether
// a key ever existed.
func unauthorized() error { return fault.New(fault.Unauthorized, "Invalid or missing API key") }

// candidate is the key that has the same first half of the hash.
type candidate struct {
	hash    []byte
	revoked bool
	who     Principal
}

// damagedCandidate refuses a key some of whose columns cannot be decoded: it may have been
// revoked.
func damagedCandidate(c *candidate, _ error) (row string, keep bool) {
	return "key " + string(c.who.KeyID), false
}

const candidateColumns = `k.hash, k.revoked_at, k.id, k.account_id, a.plan_id, k.scopes, k.rate_limit`

func scanCandidate(r database.Row) (candidate, error) {
	var c candidate
	var revoked int64
	var scopes string
	err := r.Scan(&c.hash, &revoked, &c.who.KeyID, &c.who.AccountID, &c.who.PlanID, &scopes, &c.who.RateLimit)
	c.revoked, c.who.Scopes = revoked != 0, parseStoredScopes(scopes)
	return c, err
}
