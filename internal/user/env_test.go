package user

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"net/netip"
	"testing"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// env is a Service on a real database, with its accounts.
type env struct {
	*Service
	t       *testing.T
	account identity.AccountID
}

func newEnv(t *testing.T) *env {
	t.Helper()
	db := databasetest.New(t)
	master := make([]byte, 32)
	_, _ = rand.Read(master)
	v, err := vault.New(master)
	if err != nil {
		t.Fatal(err)
	}
	events := event.NewLog(db)
	e := &env{t: t, Service: New(Settings{
		DB: db, Events: events, Vault: v, Access: access.New(access.Settings{DB: db, Events: events}), PublicURL: "https://agents.example.com/",
	})}
	e.hasher = newHasher(64) // KiB: tests make many
	e.account = e.newAccount("main")
	return e
}

func (e *env) newAccount(name string) identity.AccountID {
	e.t.Helper()
	return must(e.access.CreateAccount(e.t.Context(), identity.ByOperator(""), name, ""))(e.t).ID
}

const password = "correct horse battery staple"

func client() Client {
	return Client{Address: netip.MustParseAddr("192.0.2.1"), Agent: "Firefox\x00 on a\nmachine"}
}

func (e *env) operator() identity.Actor { return identity.ByOperator(e.account) }

// join makes a person with a role in an account.
func (e *env) join(account identity.AccountID, email string, role access.Role) SignedIn {
	e.t.Helper()
	_, link, err := e.Invite(e.t.Context(), identity.ByOperator(account), email, role)
	if err != nil {
		e.t.Fatal(err)
	}
	return must(e.UseInvitation(e.t.Context(), link.Token.Reveal(), Session{}, NewPerson{Name: "Ada", Password: vault.NewSecret(password)}, client()))(e.t)
}

// signIn signs a person in without a second factor.
func (e *env) signIn(email string) SignedIn {
	e.t.Helper()
	in := must(e.SignIn(e.t.Context(), email, vault.NewSecret(password), client()))(e.t)
	if in.NeedsCode() {
		e.t.Fatal("a code is needed")
	}
	return in
}

// setUpTOTP gives a person a second factor and returns its key and recovery codes.
func (e *env) setUpTOTP(s Session) (key []byte, recovery []vault.Secret) {
	e.t.Helper()
	setup := must(e.BeginTOTP(e.t.Context(), s, vault.NewSecret(password)))(e.t)
	key = must(base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(setup.Secret.Reveal()))(e.t)
	recovery = must(e.ConfirmTOTP(e.t.Context(), s, codeAt(key, time.Now().Unix()/totpPeriod-1)))(e.t) // so that the present code is not used
	return key, recovery
}

func (e *env) exec(query string, args ...any) {
	e.t.Helper()
	err := e.db.Tx(e.t.Context(), "user.test", func(ctx context.Context, tx *database.Tx) error {
		_, err := database.Exec(ctx, tx, query, args...)
		return err
	})
	if err != nil {
		e.t.Fatal(err)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantFault(t testing.TB, err error, code fault.Code) {
	t.Helper()
	if !fault.Is(err, code) {
		t.Fatalf("%v, want %s", err, code)
	}
}
