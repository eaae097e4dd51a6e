package apitest

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // TOTP is made with it: RFC 6238
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/user"
	"agento.host/agento/internal/vault"
)

// Password is that of every person of NewPerson.
const Password = "correct horse battery staple"

// NewPerson makes a person with a role in an account, who is signed in.
func (env *Env) NewPerson(account identity.AccountID, email string, role access.Role) user.SignedIn {
	env.T.Helper()
	_, link, err := env.People.Invite(env.T.Context(), identity.ByOperator(account), email, role)
	if err != nil {
		env.T.Fatal(err)
	}
	in, err := env.People.UseInvitation(env.T.Context(), link.Token.Reveal(), user.Session{}, user.NewPerson{Password: vault.NewSecret(Password)},
		user.Client{Address: netip.MustParseAddr("192.0.2.1"), Agent: "test"})
	if err != nil {
		env.T.Fatal(err)
	}
	return in
}

// TOTP returns the code of a secret in base32, some steps of 30 s from now.
func TOTP(t testing.TB, secret string, steps int64) string {
	t.Helper()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha1.New, key)
	_ = binary.Write(mac, binary.BigEndian, time.Now().Unix()/30+steps)
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 15
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[at:])&0x7fffffff)%1_000_000)
}
