package access

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

func TestDisabledAccountsKeysAreRefusedUntilItIsEnabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestService(t)
		go func() { _ = s.Run(t.Context()) }()
		a, b := newAccount(t, s, "a"), newAccount(t, s, "b")
		k, secret := newKey(t, s, a.ID, Chat)
		other, otherSecret := newKey(t, s, b.ID, Chat)
		who, err := s.Authenticate(t.Context(), secret, clientAddr())
		if err != nil {
			t.Fatal(err)
		}
		stream, end := s.WhileValid(t.Context(), who)
		defer end()
		for range 2 {
			if err := s.Disable(t.Context(), operatorOf(a.ID)); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 * maxFailures { // they do not count as unknown keys
			if accepts(t, s, secret, k.ID) {
				t.Fatal("a key of a disabled account is accepted")
			}
		}
		if !accepts(t, s, otherSecret, other.ID) {
			t.Error("a key of another account is refused")
		}
		synctest.Wait()
		if stream.Err() == nil {
			t.Error("a stream of a disabled account is open")
		}
		if ended, err := s.EndedKeys(t.Context(), []identity.KeyID{k.ID, other.ID}); err != nil || !slices.Equal(ended, []identity.KeyID{k.ID}) {
			t.Error(ended, err)
		}
		wantFault(t, s.CheckActive(t.Context(), s.db, a.ID), fault.Unauthorized)
		if closed, err := s.ClosedAccounts(t.Context()); err != nil || len(closed) != 1 || closed[0].State() != AccountDisabled {
			t.Error(closed, err)
		}
		for range 2 {
			if err := s.Enable(t.Context(), operatorOf(a.ID)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.CheckActive(t.Context(), s.db, a.ID); err != nil || !accepts(t, s, secret, k.ID) {
			t.Error(err)
		}
		if got := eventKinds(t, s, a.ID); !slices.Equal(got[:2], []string{"account.enabled", "account.disabled"}) || len(got) != 4 {
			t.Error(got)
		}
		time.Sleep(time.Second)
	})
}

func TestDeletedAccountIsGone(t *testing.T) {
	s := newTestService(t)
	a := newAccount(t, s, "a")
	k, secret := newKey(t, s, a.ID, Chat)
	if f := wantFault(t, s.DeleteAccount(t.Context(), operatorOf(a.ID), "A"), fault.Invalid); f.Details["name"] == "" {
		t.Error(f)
	}
	if !accepts(t, s, secret, k.ID) {
		t.Error("refused")
	}
	if err := s.DeleteAccount(t.Context(), operatorOf(a.ID), "a"); err != nil {
		t.Fatal(err)
	}
	if accepts(t, s, secret, k.ID) {
		t.Error("a key of a deleted account is accepted")
	}
	for _, name := range []string{"a", string(a.ID)} {
		_, err := s.Account(t.Context(), name)
		wantFault(t, err, fault.NotFound)
	}
	wantFault(t, s.DeleteAccount(t.Context(), operatorOf(a.ID), "a"), fault.NotFound)
	wantFault(t, s.Enable(t.Context(), operatorOf(a.ID)), fault.NotFound)
	_, _, err := s.CreateKey(t.Context(), operatorOf(a.ID), NewKey{Scopes: NewScopes(Chat), RateLimit: 1})
	wantFault(t, err, fault.NotFound)
	wantFault(t, s.CheckActive(t.Context(), s.db, a.ID), fault.Unauthorized)
	newAccount(t, s, "a")
	if all, err := s.Accounts(t.Context()); err != nil || len(all) != 2 {
		t.Error(all, err)
	}
	if err := s.MarkRemoved(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	if all, err := s.Accounts(t.Context()); err != nil || len(all) != 1 {
		t.Error(all, err)
	}
	if closed, err := s.ClosedAccounts(t.Context()); err != nil || len(closed) != 0 {
		t.Error(closed, err)
	}
}
