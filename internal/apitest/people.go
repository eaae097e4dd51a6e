package apitest

import (
	"net/netip"

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
