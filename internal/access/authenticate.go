package access

import (
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
// request on. Unknown keys are rate-limited per client IP; recently used keys are not.
// Text that cannot be a key is refused without a query and does not count.
// Faults: Unauthorized; RateLimited, if the address presented too many unknown keys.
func (s *Service) Authenticate(ctx context.Context, presented string, addr netip.Addr) (Principal, error) {
	if !wellFormed(presented) {
		return Principal{}, unauthorized()
	}
	hash := sha256.Sum256([]byte(presented))
	if s.recent.has(hash) {
		return s.identify(ctx, hash)
	}
	slot, err := s.unknownKeys.acquire(ctx, addr)
	if err != nil {
		return Principal{}, err
	}
	defer slot.release()
	// Another request with the same valid key may have been identified while this one
	// waited for the slot.
	if !s.recent.has(hash) {
		if err := slot.check(); err != nil {
			return Principal{}, err
		}
	}
	who, err := s.identify(ctx, hash)
	if fault.Is(err, fault.Unauthorized) {
		slot.countFailure()
	}
	return who, err
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
		s.recent.remove(hash)
		return Principal{}, unauthorized()
	}
	s.recent.add(hash)
	s.lastUses.add(keyUse{c.who.AccountID, c.who.KeyID}, now())
	return c.who, nil
}

// loadRecentKeys reads which keys were used last, so that after a restart keys in use
// are not limited as unknown keys.
func (s *Service) loadRecentKeys(ctx context.Context) error {
	hashes, err := database.All(ctx, s.db, database.Scalar[[]byte],
		`SELECT hash FROM keys WHERE used_at > 0 AND revoked_at = 0 ORDER BY used_at DESC LIMIT $1`, maxRecentKeys)
	for _, h := range hashes {
		if len(h) == sha256.Size {
			s.recent.add([sha256.Size]byte(h))
		}
	}
	return err
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
