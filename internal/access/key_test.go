package access

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"agento.host/agento/internal/fault"
)

func TestKeyIsStoredAsAHash(t *testing.T) {
	s, path := newServiceOnFile(t)
	a := newAccount(t, s, "a")
	k, secret, err := s.CreateKey(t.Context(), operatorOf(a.ID), NewKey{Label: " site ", Scopes: NewScopes(Chat, Logs), RateLimit: DefaultRateLimit})
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^ak_live_[0-9a-f]{32}$`).MatchString(secret.Reveal()) || fmt.Sprint(secret) != "[secret]" {
		t.Error("the secret does not have the documented form, or is printed")
	}
	if k.Label != "site" || k.RateLimit != 120 || !strings.HasPrefix(string(k.ID), "key_") || !strings.HasSuffix(secret.Reveal(), k.Hint) || len(k.Hint) != 4 {
		t.Errorf("%+v", k)
	}
	all, err := s.Keys(t.Context(), a.ID)
	if err != nil || len(all) != 1 || all[0] != k {
		t.Errorf("%+v %v", all, err)
	}
	for _, suffix := range []string{"", "-wal"} {
		stored, err := os.ReadFile(filepath.Clean(path + suffix))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(stored, []byte(secret.Reveal()[8:])) {
			t.Error("the secret is in the database file")
		}
	}
}

func TestKeysOfTwoAccountsAreSeparate(t *testing.T) {
	s := newTestService(t)
	a, b := newAccount(t, s, "a"), newAccount(t, s, "b")
	k, secret := newKey(t, s, a.ID, Chat)
	if got, err := s.Keys(t.Context(), b.ID); err != nil || len(got) != 0 {
		t.Errorf("%v %v", got, err)
	}
	wantFault(t, s.RevokeKey(t.Context(), operatorOf(b.ID), k.ID), fault.NotFound)
	if _, err := s.Authenticate(t.Context(), secret, clientAddr()); err != nil {
		t.Error(err)
	}
}

func TestRevokingTwiceChangesNothing(t *testing.T) {
	s := newTestService(t)
	a := newAccount(t, s, "a")
	k, _ := newKey(t, s, a.ID, Chat)
	for range 2 {
		if err := s.RevokeKey(t.Context(), operatorOf(a.ID), k.ID); err != nil {
			t.Fatal(err)
		}
	}
	if got := eventKinds(t, s, a.ID); !slices.Equal(got, []string{"key.revoked", "key.created", "account.created"}) {
		t.Error(got)
	}
	all, err := s.Keys(t.Context(), a.ID)
	if err != nil || len(all) != 1 || all[0].RevokedAt.IsZero() {
		t.Errorf("%+v %v", all, err)
	}
	wantFault(t, s.RevokeKey(t.Context(), operatorOf(a.ID), "key_none"), fault.NotFound)
}

func TestCreateKeyValidatesInput(t *testing.T) {
	s := newTestService(t)
	a := newAccount(t, s, "a")
	_, _, err := s.CreateKey(t.Context(), operatorOf(a.ID), NewKey{Label: strings.Repeat("x", 101), Scopes: Scopes{}, RateLimit: -1})
	details := wantFault(t, err, fault.Invalid).Details
	for _, field := range []string{"label", "scopes", "rateLimit"} {
		if details[field] == "" {
			t.Errorf("%s is not named: %v", field, details)
		}
	}
	for _, blank := range []string{" ", "\u3000\u200b"} {
		_, _, err = s.CreateKey(t.Context(), operatorOf(a.ID), NewKey{Label: blank, Scopes: AllScopes(), RateLimit: 1})
		wantFault(t, err, fault.Invalid)
		_, err = s.CreateAccount(t.Context(), operator, blank, "")
		wantFault(t, err, fault.Invalid)
		wantFault(t, s.Rename(t.Context(), operatorOf(a.ID), blank), fault.Invalid)
	}
	_, _, err = s.CreateKey(t.Context(), operatorOf(a.ID), NewKey{Label: "", Scopes: AllScopes(), RateLimit: MaxRateLimit + 1})
	wantFault(t, err, fault.Invalid)
	_, _, err = s.CreateKey(t.Context(), operatorOf("acct_none"), NewKey{Label: "", Scopes: AllScopes(), RateLimit: DefaultRateLimit})
	wantFault(t, err, fault.NotFound)
}

func TestKeyWithChatOwnerNeedsChat(t *testing.T) {
	s := newTestService(t)
	a := newAccount(t, s, "a")
	_, _, err := s.CreateKey(t.Context(), operatorOf(a.ID), NewKey{Label: "", Scopes: NewScopes(ChatOwner), RateLimit: DefaultRateLimit})
	if details := wantFault(t, err, fault.Invalid).Details; details["scopes"] == "" {
		t.Errorf("the scopes are not named: %v", details)
	}
	newKey(t, s, a.ID, Chat, ChatOwner)
}
