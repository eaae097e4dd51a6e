package access

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/fault"
)

// unknown makes a well-formed key that nobody has.
func unknown(i int) string {
	sum := sha256.Sum256(fmt.Append(nil, i))
	return secretPrefix + hex.EncodeToString(sum[:secretBytes])
}

func TestAuthenticateSaysWhoCalls(t *testing.T) {
	s := newTestService(t)
	a := newAccount(t, s, "a")
	k, secret, err := s.CreateKey(t.Context(), a.ID, "", NewScopes(Chat, SwarmsRead), 7, operator)
	if err != nil {
		t.Fatal(err)
	}
	want := Principal{AccountID: a.ID, KeyID: k.ID, PlanID: a.PlanID, Scopes: k.Scopes, RateLimit: 7}
	for range 3 {
		if got, err := s.Authenticate(t.Context(), secret.Reveal(), home()); err != nil || got != want {
			t.Fatalf("%+v %v", got, err)
		}
	}
}

func TestWhatIsNoKeyIsUnauthorizedAndDoesNotCount(t *testing.T) {
	s := newTestService(t)
	a := newAccount(t, s, "a")
	_, secret := newKey(t, s, a.ID, Chat)
	for _, presented := range []string{
		"", "ak_live_", secret + "0", secret[:39], strings.ToUpper(secret), " " + secret, secret[:39] + "g", "ak_test_" + secret[8:],
		strings.Repeat("0", 1<<20), "ak_live_\x00" + secret[9:],
	} {
		for range maxFailures {
			_, err := s.Authenticate(t.Context(), presented, home())
			if f := wantFault(t, err, fault.Unauthorized); f.Message != "Invalid or missing API key" {
				t.Error(f.Message)
			}
		}
	}
	if _, err := s.Authenticate(t.Context(), secret, home()); err != nil {
		t.Error(err)
	}
}

func TestARevocationByAnotherProcessHoldsAtOnce(t *testing.T) {
	s, path := newFile(t)
	a := newAccount(t, s, "a")
	k, secret := newKey(t, s, a.ID, Chat)
	if _, err := s.Authenticate(t.Context(), secret, home()); err != nil {
		t.Fatal(err)
	}
	if err := newService(t, open(t, path)).RevokeKey(t.Context(), a.ID, k.ID, operator); err != nil {
		t.Fatal(err)
	}
	_, err := s.Authenticate(t.Context(), secret, home())
	wantFault(t, err, fault.Unauthorized)
}

// A key that shares the half by which it is found is told apart by the whole.
func TestHalfAHashIsNotEnough(t *testing.T) {
	s := newTestService(t)
	a := newAccount(t, s, "a")
	_, secret := newKey(t, s, a.ID, Chat)
	hash := sha256.Sum256([]byte(secret))
	hash[sha256.Size-1] ^= 1
	err := s.db.Tx(t.Context(), func(tx *database.Tx) error {
		_, err := tx.ExecContext(t.Context(), `UPDATE keys SET hash = $1`, hash[:])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Authenticate(t.Context(), secret, home())
	wantFault(t, err, fault.Unauthorized)
}

func TestUnknownKeysAreLimitedByAddressAndKnownOnesPass(t *testing.T) {
	s := newTestService(t)
	a := newAccount(t, s, "a")
	_, good := newKey(t, s, a.ID, Chat)
	_, fresh := newKey(t, s, a.ID, Chat)
	if _, err := s.Authenticate(t.Context(), good, home()); err != nil {
		t.Fatal(err)
	}
	for i := range maxFailures {
		_, err := s.Authenticate(t.Context(), unknown(i), home())
		wantFault(t, err, fault.Unauthorized)
	}
	_, err := s.Authenticate(t.Context(), unknown(0), home())
	if f := wantFault(t, err, fault.RateLimited); f.RetryAfter <= 0 || f.RetryAfter > Window {
		t.Error(f.RetryAfter)
	}
	_, err = s.Authenticate(t.Context(), fresh, home())
	wantFault(t, err, fault.RateLimited)
	if _, err := s.Authenticate(t.Context(), good, home()); err != nil {
		t.Error("a key seen good was refused:", err)
	}
	if _, err := s.Authenticate(t.Context(), fresh, netip.MustParseAddr("192.0.2.2")); err != nil {
		t.Error("another address was refused:", err)
	}
	if _, err := s.Authenticate(t.Context(), fresh, home()); err != nil {
		t.Error("a key seen good elsewhere was refused:", err)
	}
}

// A revoked key is a stranger's: remembering it would open the database to floods.
func TestARevokedKeyCountsAsUnknown(t *testing.T) {
	s := newTestService(t)
	a := newAccount(t, s, "a")
	k, secret := newKey(t, s, a.ID, Chat)
	if _, err := s.Authenticate(t.Context(), secret, home()); err != nil {
		t.Fatal(err)
	}
	if err := s.RevokeKey(t.Context(), a.ID, k.ID, operator); err != nil {
		t.Fatal(err)
	}
	for range maxFailures + 1 {
		_, err := s.Authenticate(t.Context(), secret, home())
		wantFault(t, err, fault.Unauthorized)
	}
	_, err := s.Authenticate(t.Context(), secret, home())
	wantFault(t, err, fault.RateLimited)
}

func TestAnIPv6NetworkIsOneClient(t *testing.T) {
	for one, other := range map[string]string{
		"2001:db8::1": "2001:db8::ffff:1", "::ffff:192.0.2.9": "192.0.2.9", "fe80::1%eth0": "fe80::2%eth1",
	} {
		if network(netip.MustParseAddr(one)) != network(netip.MustParseAddr(other)) {
			t.Errorf("%s and %s are two clients", one, other)
		}
	}
	if network(netip.MustParseAddr("2001:db8:0:1::1")) == network(netip.MustParseAddr("2001:db8:0:2::1")) {
		t.Error("two networks are one client")
	}
	if network(netip.Addr{}) != (netip.Addr{}) {
		t.Error("no address became one")
	}
}

func TestAddressesLeaveTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStrangers()
		fail := func() error {
			turn, err := s.wait(t.Context(), home())
			if err != nil {
				t.Fatal(err)
			}
			defer turn.done()
			if err := turn.allowed(); err != nil {
				return err
			}
			turn.failed()
			return nil
		}
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

// However many come at once, the database is asked no more often than that.
func TestABurstOfUnknownKeysDoesNotSlipThrough(t *testing.T) {
	s := newTestService(t)
	var refused, limited atomic.Int64
	var all sync.WaitGroup
	for i := range 300 {
		all.Go(func() {
			_, err := s.Authenticate(context.Background(), unknown(i), home())
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
		t.Errorf("%d reached the database, %d were limited", refused.Load(), limited.Load())
	}
}

// After a restart a busy customer comes back with everything at once.
func TestABurstWithAGoodKeyIsNoAttack(t *testing.T) {
	s := newTestService(t)
	a := newAccount(t, s, "a")
	_, secret := newKey(t, s, a.ID, Chat)
	var all sync.WaitGroup
	for range 300 {
		all.Go(func() {
			if _, err := s.Authenticate(context.Background(), secret, home()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestWaitingForATurnEndsWithTheRequest(t *testing.T) {
	s := newStrangers()
	first, err := s.wait(t.Context(), home())
	if err != nil {
		t.Fatal(err)
	}
	defer first.done()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.wait(ctx, home()); err == nil {
		t.Error("two had the turn of one address")
	}
}

func TestStrangersAreBoundedAndLoseNoCount(t *testing.T) {
	s := newStrangers()
	for i := range 30_000 {
		turn, err := s.wait(t.Context(), netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
		if err != nil {
			t.Fatal(err)
		}
		if turn.allowed() == nil {
			turn.failed()
		}
		turn.done()
	}
	kept := 0
	for i := range s.stripes {
		kept += len(s.stripes[i].windows)
	}
	if kept > strangerStripes*maxAddresses {
		t.Errorf("%d addresses kept", kept)
	}
	turn, err := s.wait(t.Context(), netip.MustParseAddr("198.51.100.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer turn.done()
	wantFault(t, turn.allowed(), fault.RateLimited)
}

func TestKnownForgetsTheLongUnseen(t *testing.T) {
	var k known
	hash := func(i int) [sha256.Size]byte { return sha256.Sum256(fmt.Append(nil, i)) }
	for i := range maxKnown * 2 {
		k.remember(hash(i))
		k.remember(hash(0))
	}
	if len(k.young)+len(k.old) > maxKnown || !k.has(hash(0)) || !k.has(hash(maxKnown*2-1)) || k.has(hash(1)) {
		t.Errorf("%d young, %d old", len(k.young), len(k.old))
	}
	k.forget(hash(0))
	if k.has(hash(0)) {
		t.Error("still known")
	}
}

func TestLastUseIsWrittenLateAndAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, databasetest.New(t))
		a := newAccount(t, s, "a")
		k, secret := newKey(t, s, a.ID, Chat)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		use := func() time.Time {
			if _, err := s.Authenticate(t.Context(), secret, home()); err != nil {
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
		time.Sleep(flushEvery)
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

func TestALastUseThatCannotBeWrittenWaits(t *testing.T) {
	s := newTestService(t)
	a := newAccount(t, s, "a")
	_, secret := newKey(t, s, a.ID, Chat)
	if _, err := s.Authenticate(t.Context(), secret, home()); err != nil {
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

// Keys in use before a restart are no strangers after it, whatever their address did.
func TestRunRecallsKeysInUse(t *testing.T) {
	s, path := newFile(t)
	a := newAccount(t, s, "a")
	_, used := newKey(t, s, a.ID, Chat)
	_, unused := newKey(t, s, a.ID, Chat)
	if _, err := s.Authenticate(t.Context(), used, home()); err != nil {
		t.Fatal(err)
	}
	s.flush(t.Context())
	again := newService(t, open(t, path))
	if err := again.recall(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range maxFailures {
		_, err := again.Authenticate(t.Context(), unknown(i), home())
		wantFault(t, err, fault.Unauthorized)
	}
	if _, err := again.Authenticate(t.Context(), used, home()); err != nil {
		t.Error(err)
	}
	_, err := again.Authenticate(t.Context(), unused, home())
	wantFault(t, err, fault.RateLimited)
}

func BenchmarkAuthenticate(b *testing.B) {
	s := newTestService(b)
	a := newAccount(b, s, "a")
	_, secret := newKey(b, s, a.ID, Chat)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Authenticate(context.Background(), secret, home()); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
