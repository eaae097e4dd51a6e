package access

import (
	"net/netip"
	"path/filepath"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// operator is the actor of these tests.
var operator = identity.ByOperator("")

func operatorOf(account identity.AccountID) identity.Actor { return identity.ByOperator(account) }

func clientAddr() netip.Addr { return netip.MustParseAddr("192.0.2.1") }

func newService(t testing.TB, db *database.DB) *Service {
	t.Helper()
	return New(Settings{DB: db, Events: event.NewLog(db)})
}

// newServiceOnFile returns a service and the path of its database, which another
// service can open too.
func newServiceOnFile(t testing.TB) (*Service, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agento.db")
	return newService(t, open(t, path)), path
}

func open(t testing.TB, path string) *database.DB {
	t.Helper()
	db := databasetest.Open(t, path)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func newAccount(t testing.TB, s *Service, name string) Account {
	t.Helper()
	a, err := s.CreateAccount(t.Context(), operator, name, "")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func newKey(t testing.TB, s *Service, account identity.AccountID, scopes ...Scope) (Key, string) {
	t.Helper()
	k, secret, err := s.CreateKey(t.Context(), operatorOf(account), NewKey{Label: "test", Scopes: NewScopes(scopes...), RateLimit: DefaultRateLimit})
	if err != nil {
		t.Fatal(err)
	}
	return k, secret.Reveal()
}

func wantFault(t testing.TB, err error, code fault.Code) *fault.Fault {
	t.Helper()
	if !fault.Is(err, code) {
		t.Fatalf("got %v, want %s", err, code)
	}
	return fault.From(err)
}

func eventKinds(t testing.TB, s *Service, account identity.AccountID) []string {
	t.Helper()
	events, err := s.events.List(t.Context(), account, event.Filter{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range events {
		if e.Actor != operatorOf(account) {
			t.Errorf("%s has the actor %v", e.Kind, e.Actor)
		}
		all = append(all, e.Kind)
	}
	return all
}

func newTestService(t testing.TB) *Service {
	t.Helper()
	return newService(t, databasetest.New(t))
}
