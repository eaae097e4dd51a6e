package access

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// accepts reports whether a secret is accepted as that of a key.
func accepts(t testing.TB, s *Service, secret string, key identity.KeyID) bool {
	t.Helper()
	who, err := s.Authenticate(t.Context(), secret, clientAddr())
	if err != nil {
		wantFault(t, err, fault.Unauthorized)
		return false
	}
	if who.KeyID != key {
		t.Fatalf("the secret of %s is that of %s", key, who.KeyID)
	}
	return true
}

// makeKey makes a key as an actor.
func makeKey(t testing.TB, s *Service, actor identity.Actor, in NewKey) (Key, string) {
	t.Helper()
	k, secret, err := s.CreateKey(t.Context(), actor, in)
	if err != nil {
		t.Fatal(err)
	}
	return k, secret.Reveal()
}

func TestRotatedKeyKeepsItsIDAndTheFormerSecretForItsGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestService(t)
		a := newAccount(t, s, "a")
		k, first := newKey(t, s, a.ID, Chat)
		rotated, second, err := s.RotateKey(t.Context(), operatorOf(a.ID), k.ID, time.Hour)
		if err != nil || rotated.ID != k.ID || rotated.Hint == k.Hint && second.Reveal() == first || !strings.HasSuffix(second.Reveal(), rotated.Hint) {
			t.Fatal(rotated, err)
		}
		if !accepts(t, s, first, k.ID) || !accepts(t, s, second.Reveal(), k.ID) {
			t.Error("one of the two secrets is refused")
		}
		time.Sleep(time.Hour - time.Millisecond)
		if !accepts(t, s, first, k.ID) {
			t.Error("the former secret ends early")
		}
		time.Sleep(time.Millisecond)
		if accepts(t, s, first, k.ID) || !accepts(t, s, second.Reveal(), k.ID) {
			t.Error("after the grace the former secret is valid, or the new one is not")
		}

		_, third, err := s.RotateKey(t.Context(), operatorOf(a.ID), k.ID, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		_, fourth, err := s.RotateKey(t.Context(), operatorOf(a.ID), k.ID, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if accepts(t, s, second.Reveal(), k.ID) || !accepts(t, s, third.Reveal(), k.ID) || !accepts(t, s, fourth.Reveal(), k.ID) {
			t.Error("two secrets are valid: the present one and the one before")
		}
		_, fifth, err := s.RotateKey(t.Context(), operatorOf(a.ID), k.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		if accepts(t, s, fourth.Reveal(), k.ID) || !accepts(t, s, fifth.Reveal(), k.ID) {
			t.Error("without a grace the former secret is valid")
		}
		if got := eventKinds(t, s, a.ID)[0]; got != "key.rotated" {
			t.Error(got)
		}
	})
}

func TestRotationIsRefusedForEndedKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestService(t)
		a := newAccount(t, s, "a")
		actor := operatorOf(a.ID)
		k, first := makeKey(t, s, actor, NewKey{Scopes: NewScopes(Chat), RateLimit: 5, ExpiresAt: time.Now().Add(time.Hour)})
		for _, grace := range []time.Duration{-1, MaxGrace + 1} {
			_, _, err := s.RotateKey(t.Context(), actor, k.ID, grace)
			wantFault(t, err, fault.Invalid)
		}
		time.Sleep(time.Hour)
		_, _, err := s.RotateKey(t.Context(), actor, k.ID, 0)
		wantFault(t, err, fault.Conflict)
		never := time.Time{}
		if _, err := s.EditKey(t.Context(), actor, k.ID, KeyChanges{ExpiresAt: &never}); err != nil || !accepts(t, s, first, k.ID) {
			t.Error(err)
		}
		_, second, err := s.RotateKey(t.Context(), actor, k.ID, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.RevokeKey(t.Context(), actor, k.ID); err != nil {
			t.Fatal(err)
		}
		if accepts(t, s, first, k.ID) || accepts(t, s, second.Reveal(), k.ID) {
			t.Error("a secret of a revoked key is accepted")
		}
		_, _, err = s.RotateKey(t.Context(), actor, k.ID, 0)
		wantFault(t, err, fault.Conflict)
		_, err = s.EditKey(t.Context(), actor, k.ID, KeyChanges{})
		wantFault(t, err, fault.Conflict)
		_, _, err = s.RotateKey(t.Context(), actor, "key_none", 0)
		wantFault(t, err, fault.NotFound)
	})
}

func TestKeyEndsWhenItExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestService(t)
		a := newAccount(t, s, "a")
		k, secret := makeKey(t, s, operatorOf(a.ID), NewKey{Scopes: NewScopes(Chat), RateLimit: 5, ExpiresAt: time.Now().Add(time.Hour)})
		time.Sleep(time.Hour - time.Millisecond)
		if !accepts(t, s, secret, k.ID) {
			t.Error("refused early")
		}
		if ended, err := s.EndedKeys(t.Context(), []identity.KeyID{k.ID}); err != nil || len(ended) != 0 {
			t.Error(ended, err)
		}
		time.Sleep(time.Millisecond)
		if accepts(t, s, secret, k.ID) {
			t.Error("an expired key is accepted")
		}
		if ended, err := s.EndedKeys(t.Context(), []identity.KeyID{k.ID}); err != nil || len(ended) != 1 {
			t.Error(ended, err)
		}
		_, _, err := s.CreateKey(t.Context(), operatorOf(a.ID), NewKey{Scopes: NewScopes(Chat), RateLimit: 5, ExpiresAt: time.Now()})
		if wantFault(t, err, fault.Invalid).Details["expiresAt"] == "" {
			t.Error(err)
		}
	})
}

// TestStreamsOfARotatedKeyEnd: those that were opened with the secret that is not valid any
// more, and no others.
func TestStreamsOfARotatedKeyEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestService(t)
		go func() { _ = s.Run(t.Context()) }()
		a := newAccount(t, s, "a")
		k, first := newKey(t, s, a.ID, Chat)
		open := func(secret string) func() bool {
			who, err := s.Authenticate(t.Context(), secret, clientAddr())
			if err != nil {
				t.Fatal(err)
			}
			ctx, end := s.WhileValid(t.Context(), who)
			t.Cleanup(end)
			return func() bool {
				time.Sleep(3 * checkInterval)
				return ctx.Err() == nil
			}
		}
		old := open(first)
		_, second, err := s.RotateKey(t.Context(), operatorOf(a.ID), k.ID, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		late, present := open(first), open(second.Reveal())
		if !old() || !late() || !present() {
			t.Error("a stream ended within the grace")
		}
		time.Sleep(time.Hour)
		if old() || late() || !present() {
			t.Error("after the grace a stream of the former secret is open, or one of the new secret is not")
		}
		if _, _, err := s.RotateKey(t.Context(), operatorOf(a.ID), k.ID, 0); err != nil {
			t.Fatal(err)
		}
		if present() {
			t.Error("a stream of a secret without a grace is open")
		}
	})
}

func TestEditedKey(t *testing.T) {
	s := newTestService(t)
	a := newAccount(t, s, "a")
	k, secret := newKey(t, s, a.ID, Chat)
	label, scopes, limit := " new ", NewScopes(Chat, Logs), Unlimited
	edited, err := s.EditKey(t.Context(), operatorOf(a.ID), k.ID, KeyChanges{Label: &label, Scopes: &scopes, RateLimit: &limit})
	if err != nil || edited.Label != "new" || edited.Scopes != scopes || edited.RateLimit != Unlimited || edited.ID != k.ID {
		t.Fatal(edited, err)
	}
	if who, err := s.Authenticate(t.Context(), secret, clientAddr()); err != nil || who.Scopes != scopes || who.RateLimit != Unlimited {
		t.Error(who, err)
	}
	if found, err := s.Key(t.Context(), a.ID, k.ID); err != nil || found != edited {
		t.Error(found, err)
	}
	if _, err := s.EditKey(t.Context(), operatorOf(a.ID), k.ID, KeyChanges{Label: &label}); err != nil {
		t.Error(err)
	}
	if got := eventKinds(t, s, a.ID); !slices.Equal(got, []string{"key.updated", "key.created", "account.created"}) {
		t.Error(got)
	}
	for _, rate := range []int{0, -1, MaxRateLimit + 1} {
		_, err := s.EditKey(t.Context(), operatorOf(a.ID), k.ID, KeyChanges{RateLimit: &rate})
		if wantFault(t, err, fault.Invalid).Details["rateLimit"] == "" {
			t.Error(rate, err)
		}
	}
	blank := "\u3000"
	_, err = s.EditKey(t.Context(), operatorOf(a.ID), k.ID, KeyChanges{Label: &blank})
	wantFault(t, err, fault.Invalid)
	none := Scopes{}
	_, err = s.EditKey(t.Context(), operatorOf(a.ID), k.ID, KeyChanges{Scopes: &none})
	wantFault(t, err, fault.Invalid)
}

// A key with account:admin makes, changes and rotates only keys with no more rights than it
// has; it revokes any, and does not change itself.
func TestKeyGivesNoMoreRightsThanItHas(t *testing.T) {
	s := newTestService(t)
	a := newAccount(t, s, "a")
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
	own := NewKey{Scopes: NewScopes(AccountAdmin, Chat, Logs), RateLimit: 100, ExpiresAt: expires}
	admin, _ := makeKey(t, s, operatorOf(a.ID), own)
	actor := identity.ByKey(a.ID, admin.ID)
	never, later := time.Time{}, expires.Add(time.Millisecond)

	equal, _ := makeKey(t, s, actor, own)
	less, _ := makeKey(t, s, actor, NewKey{Scopes: NewScopes(Chat), RateLimit: 1, ExpiresAt: expires.Add(-time.Minute)})
	if _, err := s.EditKey(t.Context(), actor, less.ID, KeyChanges{Scopes: &own.Scopes, RateLimit: &own.RateLimit, ExpiresAt: &expires}); err != nil {
		t.Error(err)
	}
	for _, id := range []identity.KeyID{equal.ID, less.ID} {
		if _, _, err := s.RotateKey(t.Context(), actor, id, time.Minute); err != nil {
			t.Error(err)
		}
	}

	more := map[string]NewKey{
		"scopes":    {Scopes: NewScopes(Chat, Skills), RateLimit: 100, ExpiresAt: expires},
		"rateLimit": {Scopes: NewScopes(Chat), RateLimit: 101, ExpiresAt: expires},
		"expiresAt": {Scopes: NewScopes(Chat), RateLimit: 100, ExpiresAt: later},
	}
	more["rateLimit "] = NewKey{Scopes: NewScopes(Chat), RateLimit: Unlimited, ExpiresAt: expires}
	more["expiresAt "] = NewKey{Scopes: NewScopes(Chat), RateLimit: 100}
	more["scopes "] = NewKey{Scopes: NewScopes(Chat, ChatOwner), RateLimit: 100, ExpiresAt: expires}
	for field, in := range more {
		field = strings.TrimSpace(field)
		refused := func(err error) {
			t.Helper()
			if f := wantFault(t, err, fault.Forbidden); f.Details[field] == "" {
				t.Errorf("%s is not named: %v", field, f.Details)
			}
		}
		_, _, err := s.CreateKey(t.Context(), actor, in)
		refused(err)
		_, err = s.EditKey(t.Context(), actor, less.ID, KeyChanges{Scopes: &in.Scopes, RateLimit: &in.RateLimit, ExpiresAt: &in.ExpiresAt})
		refused(err)
		strong, _ := makeKey(t, s, operatorOf(a.ID), in)
		_, err = s.EditKey(t.Context(), actor, strong.ID, KeyChanges{Scopes: &own.Scopes, RateLimit: &own.RateLimit, ExpiresAt: &expires})
		refused(err)
		_, _, err = s.RotateKey(t.Context(), actor, strong.ID, 0)
		refused(err)
		if err := s.RevokeKey(t.Context(), actor, strong.ID); err != nil {
			t.Error(err)
		}
	}

	_, err := s.EditKey(t.Context(), actor, admin.ID, KeyChanges{ExpiresAt: &never})
	wantFault(t, err, fault.Forbidden)
	_, _, err = s.RotateKey(t.Context(), actor, admin.ID, 0)
	wantFault(t, err, fault.Forbidden)

	// What the key has at that moment counts, not what it had when it was authenticated.
	weaker := NewScopes(AccountAdmin, Chat)
	if _, err := s.EditKey(t.Context(), operatorOf(a.ID), admin.ID, KeyChanges{Scopes: &weaker}); err != nil {
		t.Fatal(err)
	}
	_, _, err = s.RotateKey(t.Context(), actor, equal.ID, 0)
	wantFault(t, err, fault.Forbidden)
	weaker = NewScopes(Chat)
	if _, err := s.EditKey(t.Context(), operatorOf(a.ID), admin.ID, KeyChanges{Scopes: &weaker}); err != nil {
		t.Fatal(err)
	}
	if f := wantFault(t, s.RevokeKey(t.Context(), actor, equal.ID), fault.Forbidden); f.Details["scope"] != string(AccountAdmin) {
		t.Error(f)
	}
	if err := s.RevokeKey(t.Context(), operatorOf(a.ID), admin.ID); err != nil {
		t.Fatal(err)
	}
	wantFault(t, s.RevokeKey(t.Context(), actor, equal.ID), fault.Unauthorized)
}

func TestAccountAdminMustBeNamed(t *testing.T) {
	if AllScopes().Has(AccountAdmin) || NewScopes(AccountAdmin).bits != 1<<10 {
		t.Error(AllScopes(), NewScopes(AccountAdmin).bits)
	}
	if set, err := ParseScopes([]string{"all", "account:admin"}); err != nil || !set.Has(AccountAdmin) || set.Without(AllScopes()) != NewScopes(AccountAdmin) {
		t.Error(set, err)
	}
}

// A request that is executed again after a crash has one key, with the secret of the response.
func TestRepeatedRequestsMakeOneKey(t *testing.T) {
	s := newTestService(t)
	a := newAccount(t, s, "a")
	admin, _ := makeKey(t, s, operatorOf(a.ID), NewKey{Scopes: NewScopes(AccountAdmin, Chat), RateLimit: 9})
	actor := identity.ByKey(a.ID, admin.ID)
	actor.Request = "idem_create"
	in := NewKey{Scopes: NewScopes(Chat), RateLimit: 9}
	first, lost := makeKey(t, s, actor, in)
	again, secret := makeKey(t, s, actor, in)
	if first.ID != again.ID || accepts(t, s, lost, first.ID) || !accepts(t, s, secret, first.ID) {
		t.Error(first, again)
	}
	actor.Request = "idem_rotate"
	_, lostSecret, err := s.RotateKey(t.Context(), actor, first.ID, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	_, present, err := s.RotateKey(t.Context(), actor, first.ID, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if !accepts(t, s, secret, first.ID) || accepts(t, s, lostSecret.Reveal(), first.ID) || !accepts(t, s, present.Reveal(), first.ID) {
		t.Error("after a repeated rotation the secrets are not the one that was got and the new one")
	}
	keys, total, err := s.ListKeys(t.Context(), a.ID, 3, 0)
	if err != nil || total != 2 || len(keys) != 2 || !slices.ContainsFunc(keys, func(k Key) bool { return k.ID == first.ID }) {
		t.Error(keys, total, err)
	}
}

func TestKeysOfAnAccountAreBounded(t *testing.T) {
	s := newTestService(t)
	a := newAccount(t, s, "a")
	for range MaxKeys {
		newKey(t, s, a.ID, Chat)
	}
	_, _, err := s.CreateKey(t.Context(), operatorOf(a.ID), NewKey{Scopes: NewScopes(Chat), RateLimit: 1})
	wantFault(t, err, fault.Conflict)
	keys, err := s.Keys(t.Context(), a.ID)
	if err != nil || len(keys) != MaxKeys {
		t.Fatal(len(keys), err)
	}
	if err := s.RevokeKey(t.Context(), operatorOf(a.ID), keys[0].ID); err != nil {
		t.Fatal(err)
	}
	newKey(t, s, a.ID, Chat)
}
