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

// Authenticate says whose key was presented from addr. The database is asked
// every time, so a revocation by any process holds from the next request on. A
// key not lately seen good is first held against the failures of its address;
// text that cannot be a key costs nothing and does not count.
// Faults: Unauthorized; RateLimited, if the address presented too many unknown keys.
func (s *Service) Authenticate(ctx context.Context, presented string, addr netip.Addr) (Principal, error) {
	if !wellFormed(presented) {
		return Principal{}, unauthorized()
	}
	hash := sha256.Sum256([]byte(presented))
	if s.known.has(hash) {
		return s.identify(ctx, hash)
	}
	turn, err := s.strangers.wait(ctx, addr)
	if err != nil {
		return Principal{}, err
	}
	defer turn.done()
	// One who waited behind the same good key need not be a stranger any more.
	if !s.known.has(hash) {
		if err := turn.allowed(); err != nil {
			return Principal{}, err
		}
	}
	who, err := s.identify(ctx, hash)
	if fault.Is(err, fault.Unauthorized) {
		turn.failed()
	}
	return who, err
}

// Allows returns nil if the caller's plan has the feature, without asking the
// database: the plan was read with the key.
// Faults: PlanLimit.
func (s *Service) Allows(who Principal, feature string) error {
	plan, err := s.plans.Get(who.PlanID)
	if err != nil {
		return err
	}
	return plan.Allows(feature)
}

// identify finds the key of a hash. Its query names no account: it is what says
// which account is calling.
func (s *Service) identify(ctx context.Context, hash [sha256.Size]byte) (Principal, error) {
	c, err := database.One(ctx, s.db, scanCandidate,
		`SELECT k.hash, k.revoked_at, k.id, k.account_id, a.plan_id, k.scopes, k.rate_limit
		FROM keys k JOIN accounts a ON a.id = k.account_id WHERE k.lookup = $1`, lookup(hash))
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return Principal{}, fmt.Errorf("find key: %w", err)
	}
	if err != nil || subtle.ConstantTimeCompare(c.hash, hash[:]) != 1 || c.revoked {
		s.known.forget(hash)
		return Principal{}, unauthorized()
	}
	s.known.remember(hash)
	s.uses.note(c.who, now())
	return c.who, nil
}

// recall remembers the keys last used, so that a restart treats no customer as a
// stranger.
func (s *Service) recall(ctx context.Context) error {
	hashes, err := database.All(ctx, s.db, database.Scalar[[]byte],
		`SELECT hash FROM keys WHERE used_at > 0 AND revoked_at = 0 ORDER BY used_at DESC LIMIT $1`, maxKnown)
	for _, h := range hashes {
		if len(h) == sha256.Size {
			s.known.remember([sha256.Size]byte(h))
		}
	}
	return err
}

// wellFormed says whether text has the shape of a key: it is public knowledge,
// so the time this takes gives nothing away.
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

// unauthorized is one answer for every failure: it does not say which keys existed.
func unauthorized() error { return fault.New(fault.Unauthorized, "Invalid or missing API key") }

// candidate is the key found by half of its hash.
type candidate struct {
	hash    []byte
	revoked bool
	who     Principal
}

func scanCandidate(r database.Row) (candidate, error) {
	var c candidate
	var revoked int64
	var scopes string
	err := r.Scan(&c.hash, &revoked, &c.who.KeyID, &c.who.AccountID, &c.who.PlanID, &scopes, &c.who.RateLimit)
	c.revoked, c.who.Scopes = revoked != 0, storedScopes(scopes)
	return c, err
}
