package access

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"agento.host/agento/internal/fault"
)

func TestAccountIsFoundByIDAndName(t *testing.T) {
	s := newTestService(t)
	a, err := s.CreateAccount(t.Context(), operator, "  Müller & Söhne ", "")
	if err != nil {
		t.Fatal(err)
	}
	if a.Name != "Müller & Söhne" || !strings.HasPrefix(string(a.ID), "acct_") || a.PlanID != "plan_self_hosted" {
		t.Fatalf("%+v", a)
	}
	for _, by := range []string{string(a.ID), a.Name} {
		if got, err := s.Account(t.Context(), by); err != nil || got != a {
			t.Errorf("by %s: %+v %v", by, got, err)
		}
	}
	_, err = s.Account(t.Context(), "acct_none")
	wantFault(t, err, fault.NotFound)
	if got := eventKinds(t, s, a.ID); !slices.Equal(got, []string{"account.created"}) {
		t.Error(got)
	}
}

func TestAccountsAreNewestFirst(t *testing.T) {
	s := newTestService(t)
	if none, err := s.Accounts(t.Context()); err != nil || len(none) != 0 {
		t.Fatalf("%v %v", none, err)
	}
	for _, name := range []string{"a", "b", "c"} {
		newAccount(t, s, name)
	}
	all, err := s.Accounts(t.Context())
	if err != nil || len(all) != 3 {
		t.Fatalf("%v %v", all, err)
	}
	if !slices.IsSortedFunc(all, func(a, b Account) int { return b.CreatedAt.Compare(a.CreatedAt) }) {
		t.Error(all)
	}
}

func TestAccountNamesAreUniqueUnderConcurrency(t *testing.T) {
	s := newTestService(t)
	var created, refused int
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			_, err := s.CreateAccount(t.Context(), operator, "same", "")
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				created++
			case fault.Is(err, fault.Conflict):
				refused++
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if created != 1 || refused != 7 {
		t.Errorf("%d created, %d refused", created, refused)
	}
}

func TestCreateAccountValidatesInput(t *testing.T) {
	s := newTestService(t)
	for name, field := range map[string]string{
		"": "name", " \t": "name", "acct_x": "name", "a\x00b": "name", "\xff": "name", strings.Repeat("é", 101): "name",
	} {
		_, err := s.CreateAccount(t.Context(), operator, name, "")
		if wantFault(t, err, fault.Invalid).Details[field] == "" {
			t.Errorf("%q: %v", name, err)
		}
	}
	_, err := s.CreateAccount(t.Context(), operator, strings.Repeat("é", 100), "plan_none")
	if got := wantFault(t, err, fault.Invalid).Details["planId"]; !strings.Contains(got, "plan_self_hosted") {
		t.Error(got)
	}
}

func TestRenameKeepsTheIDAndFreesTheName(t *testing.T) {
	s := newTestService(t)
	a, b := newAccount(t, s, "a"), newAccount(t, s, "b")
	wantFault(t, s.Rename(t.Context(), operatorOf(a.ID), "b"), fault.Conflict)
	wantFault(t, s.Rename(t.Context(), operatorOf(a.ID), "acct_x"), fault.Invalid)
	wantFault(t, s.Rename(t.Context(), operatorOf("acct_none"), "c"), fault.NotFound)
	for range 2 {
		if err := s.Rename(t.Context(), operatorOf(a.ID), " c "); err != nil {
			t.Fatal(err)
		}
	}
	if found, err := s.Account(t.Context(), "c"); err != nil || found.ID != a.ID {
		t.Error(found, err)
	}
	if err := s.Rename(t.Context(), operatorOf(b.ID), "a"); err != nil {
		t.Error(err)
	}
	if got := eventKinds(t, s, a.ID); !slices.Equal(got, []string{"account.renamed", "account.created"}) {
		t.Error(got)
	}
}
