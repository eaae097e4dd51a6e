package access

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// unknown returns a well-formed key that does not exist.
func unknown(i int) string {
	sum := sha256.Sum256(fmt.Append(nil, i))
	return SecretPrefix + hex.EncodeToString(sum[:secretBytes])
}

func TestAuthenticateReturnsThePrincipal(t *testing.T) {
	s := newTestService(t)
	a := newAccount(t, s, "a")
	k, secret, err := s.CreateKey(t.Context(), operatorOf(a.ID), NewKey{Label: "", Scopes: NewScopes(Chat, SwarmsRead), RateLimit: 7})
	if err != nil {
		t.Fatal(err)
	}
	want := Principal{AccountID: a.ID, KeyID: k.ID, PlanID: a.PlanID, Scopes: k.Scopes, RateLimit: 7, SecretNumber: 1}
	for range 3 {
		if got, err := s.Authenticate(t.Context(), secret.Reveal(), clientAddr()); err != nil || got != want {
			t.Fatalf("%+v %v", got, err)
		}
	}
}

func TestMalformedKeysAreUnauthorizedAndDoNotCount(t *testing.T) {
	s := newTestService(t)
	a := newAccount(t, s, "a")
	_, secret := newKey(t, s, a.ID, Chat)
	for _, presented := range []string{
		"", "ak_live_", secret + "0", secret[:39], strings.ToUpper(secret), " " + secret, secret[:39] + "g", "ak_test_" + secret[8:],
		strings.Repeat("0", 1<<20), "ak_live_\x00" + secret[9:],
	} {
		for range maxFailures {
			_, err := s.Authenticate(t.Context(), presented, clientAddr())
			if f := wantFault(t, err, fault.Unauthorized); f.Message != "Invalid or missing API key" {
				t.Error(f.Message)
			}
		}
	}
	if _, err := s.Authenticate(t.Context(), secret, clientAddr()); err != nil {
		t.Error(err)
	}
}

func TestKeyRevokedByAnotherProcessIsRefusedAtOnce(t *testing.T) {
	s, path := newServiceOnFile(t)
	a := newAccount(t, s, "a")
	k, secret := newKey(t, s, a.ID, Chat)
	if _, err := s.Authenticate(t.Context(), secret, clientAddr()); err != nil {
		t.Fatal(err)
	}
	if err := newService(t, open(t, path)).RevokeKey(t.Context(), operatorOf(a.ID), k.ID); err != nil {
		t.Fatal(err)
	}
	_, err := s.Authenticate(t.Context(), secret, clientAddr())
	wantFault(t, err, fault.Unauthorized)
}

// The database finds a key by the first half of its hash; both halves must match.
func TestKeyMustMatchTheWholeHash(t *testing.T) {
	s := newTestService(t)
	a := newAccount(t, s, "a")
	_, secret := newKey(t, s, a.ID, Chat)
	hash := sha256.Sum256([]byte(secret))
	hash[sha256.Size-1] ^= 1
	err := s.db.Tx(t.Context(), "access.test", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(t.Context(), `UPDATE keys SET hash = $1`, hash[:])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Authenticate(t.Context(), secret, clientAddr())
	wantFault(t, err, fault.Unauthorized)
}

func TestUnknownKeysAreLimitedByAddress(t *testing.T) {
	s := newTestService(t)
	for i := range maxFailures {
		_, err := s.Authenticate(t.Context(), unknown(i), clientAddr())
		wantFault(t, err, fault.Unauthorized)
	}
	_, err := s.Authenticate(t.Context(), unknown(0), clientAddr())
	if f := wantFault(t, err, fault.RateLimited); f.RetryAfter <= 0 || f.RetryAfter > Window {
		t.Error(f.RetryAfter)
	}
	_, err = s.Authenticate(t.Context(), unknown(0), netip.MustParseAddr("192.0.2.2"))
	wantFault(t, err, fault.Unauthorized)
}

// However many unknown keys come from its address, also at the same time, a valid key
// passes: the first time, after a restart, and in a burst.
func TestUnknownKeysDoNotMakeAValidKeyFail(t *testing.T) {
	s, path := newServiceOnFile(t)
	a := newAccount(t, s, "a")
	_, secret := newKey(t, s, a.ID, Chat)
	for _, s := range []*Service{s, newService(t, open(t, path))} {
		for i := range 2 * maxFailures {
			_, _ = s.Authenticate(t.Context(), unknown(i), clientAddr())
		}
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				if _, err := s.Authenticate(context.Background(), secret, clientAddr()); err != nil {
					t.Error(err)
				}
				if _, err := s.Authenticate(context.Background(), unknown(i), clientAddr()); !fault.Is(err, fault.RateLimited) {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
}

// A revoked key counts as unknown, from its first use after the revocation on.
func TestRevokedKeyCountsAsUnknown(t *testing.T) {
	s := newTestService(t)
	a := newAccount(t, s, "a")
	k, secret := newKey(t, s, a.ID, Chat)
	if _, err := s.Authenticate(t.Context(), secret, clientAddr()); err != nil {
		t.Fatal(err)
	}
	if err := s.RevokeKey(t.Context(), operatorOf(a.ID), k.ID); err != nil {
		t.Fatal(err)
	}
	for range maxFailures {
		_, err := s.Authenticate(t.Context(), secret, clientAddr())
		wantFault(t, err, fault.Unauthorized)
	}
	_, err := s.Authenticate(t.Context(), secret, clientAddr())
	wantFault(t, err, fault.RateLimited)
}

func TestIPv6NetworkIsOneClient(t *testing.T) {
	for one, other := range map[string]string{
		"2001:db8::1": "2001:db8::ffff:1", "::ffff:192.0.2.9": "192.0.2.9", "fe80::1%eth0": "fe80::2%eth1",
	} {
		if clientNetwork(netip.MustParseAddr(one)) != clientNetwork(netip.MustParseAddr(other)) {
			t.Errorf("%s and %s are two clients", one, other)
		}
	}
	if clientNetwork(netip.MustParseAddr("2001:db8:0:1::1")) == clientNetwork(netip.MustParseAddr("2001:db8:0:2::1")) {
		t.Error("two networks are one client")
	}
	if clientNetwork(netip.Addr{}) != (netip.Addr{}) {
		t.Error("no address became one")
	}
}

func TestFailuresExpireAfterTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newUnknownKeyLimiter()
		fail := func() error { return s.count(clientAddr()) }
		for range maxFailures {
			if err := fail(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		f := wantFault(t, fail(), fault.RateLimited)
		if f.RetryAfter != 30*time.Second {
			t.Error(f.RetryAfter)
		}
		time.Sleep(f.RetryAfter - 1)
		wantFault(t, fail(), fault.RateLimited)
		time.Sleep(time.Nanosecond)
		if err := fail(); err != nil {
			t.Error(err)
		}
		wantFault(t, fail(), fault.RateLimited)
	})
}

func TestConcurrentUnknownKeysDoNotExceedTheLimit(t *testing.T) {
	s := newTestService(t)
	var refused, limited atomic.Int64
	var all sync.WaitGroup
	for i := range 300 {
		all.Go(func() {
			_, err := s.Authenticate(context.Background(), unknown(i), clientAddr())
			switch {
			case fault.Is(err, fault.Unauthorized):
				refused.Add(1)
			case fault.Is(err, fault.RateLimited):
				limited.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if refused.Load() != maxFailures || limited.Load() != 300-maxFailures {
		t.Errorf("%d were unauthorized, %d were limited", refused.Load(), limited.Load())
	}
}

func TestUnknownKeyLimiterIsBoundedAndCountsEveryFailure(t *testing.T) {
	s := newUnknownKeyLimiter()
	for i := range 30_000 {
		_ = s.count(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	kept := 0
	for i := range s.shards {
		kept += len(s.shards[i].windows)
	}
	if kept > addressShards*maxAddresses {
		t.Errorf("%d addresses kept", kept)
	}
	wantFault(t, s.count(netip.MustParseAddr("198.51.100.1")), fault.RateLimited)
}

func TestRunWritesTheLastUseEveryMinuteAndAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, databasetest.New(t))
		a := newAccount(t, s, "a")
		k, secret := newKey(t, s, a.ID, Chat)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		use := func() time.Time {
			if _, err := s.Authenticate(t.Context(), secret, clientAddr()); err != nil {
				t.Fatal(err)
			}
			return now()
		}
		used := func() time.Time {
			all, err := s.Keys(t.Context(), a.ID)
			if err != nil || len(all) != 1 || all[0].ID != k.ID {
				t.Fatalf("%v %v", all, err)
			}
			return all[0].UsedAt
		}
		use()
		time.Sleep(10 * time.Second)
		at := use()
		if !used().IsZero() {
			t.Error("written at once")
		}
		time.Sleep(flushInterval)
		synctest.Wait()
		if got := used(); !got.Equal(at) {
			t.Errorf("used at %v, want %v", got, at)
		}
		at = use()
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := used(); !got.Equal(at) {
			t.Errorf("at the end used at %v, want %v", got, at)
		}
	})
}

func TestLastUseIsWrittenByTheNextFlushAfterAFailure(t *testing.T) {
	s := newTestService(t)
	a := newAccount(t, s, "a")
	_, secret := newKey(t, s, a.ID, Chat)
	if _, err := s.Authenticate(t.Context(), secret, clientAddr()); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	s.flush(ended)
	s.flush(t.Context())
	all, err := s.Keys(t.Context(), a.ID)
	if err != nil || all[0].UsedAt.IsZero() {
		t.Errorf("%v %v", all, err)
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	s := newTestService(b)
	a := newAccount(b, s, "a")
	_, secret := newKey(b, s, a.ID, Chat)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Authenticate(context.Background(), secret, clientAddr()); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func TestEndedKeysAreTheRevokedAndTheUnknown(t *testing.T) {
	s := newTestService(t)
	a := newAccount(t, s, "a")
	good, _ := newKey(t, s, a.ID, Chat)
	revoked, _ := newKey(t, s, a.ID, Chat)
	if err := s.RevokeKey(t.Context(), operatorOf(a.ID), revoked.ID); err != nil {
		t.Fatal(err)
	}
	asked := []identity.KeyID{good.ID, revoked.ID}
	for i := range checkBatch {
		asked = append(asked, identity.KeyID(fmt.Sprint("key_", i)))
	}
	ended, err := s.EndedKeys(t.Context(), asked)
	if err != nil || len(ended) != len(asked)-1 || slices.Contains(ended, good.ID) || len(asked) != checkBatch+2 {
		t.Errorf("%d of %d keys have ended: %v", len(ended), len(asked), err)
	}
}
