package dashboard

import (
	"context"
	"net/http"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/user"
	"agento.host/agento/internal/vault"
)

// Visitor is who a request comes from. The zero Visitor is nobody.
type Visitor struct {
	ID          identity.UserID
	Name, Email string
	Account     string // the id of the account of the session; empty: in none
	AccountName string
	Role        access.Role // in the account
	Scopes      access.Scopes
	Operator    bool // of the installation

	session user.Session
}

// Label returns what to call the person.
func (v Visitor) Label() string { return v.session.Person.Label() }

// newVisitor returns the person of a session.
func newVisitor(session user.Session) Visitor {
	p := session.Person
	return Visitor{
		ID: p.ID, Name: p.Name, Email: p.Email, Account: string(session.AccountID), AccountName: session.Account,
		Role: session.Role, Scopes: session.Role.Scopes(), Operator: p.Operator, session: session,
	}
}

// visitorOf returns who a request comes from: nobody, if it has no session that is valid.
func (s *Server) visitorOf(r *http.Request) (Visitor, error) {
	c, err := r.Cookie(s.sessionCookie(r))
	if err != nil {
		return Visitor{}, nil //nolint:nilerr // there is none
	}
	session, err := s.people.Session(r.Context(), c.Value)
	if fault.Is(err, fault.Unauthorized) {
		return Visitor{}, nil
	}
	if err != nil {
		return Visitor{}, err
	}
	return newVisitor(session), nil
}

// sessionKey is the context key of the session that a request to the API is made with.
type sessionKey struct{}

// caller returns the caller of a request to the API.
func (s *Server) caller(ctx context.Context) (access.Principal, error) {
	session, _ := ctx.Value(sessionKey{}).(user.Session)
	return s.people.Principal(ctx, session)
}

// sessionCookie returns the name of the cookie of sessions. With TLS it is one that only this
// host can set, for all of its paths.
func (s *Server) sessionCookie(r *http.Request) string {
	if s.outside.isSecure(r) {
		return "__Host-agento_session"
	}
	return "agento_session"
}

// signIn gives the browser a session, which replaces the one that it has.
func (v *visit) signIn(in user.SignedIn) {
	c := v.server.cookie(v.r, v.server.sessionCookie(v.r), in.Token.Reveal(), int(user.SessionLifetime.Seconds())) //nolint:gosec // it is secure behind TLS
	if c.Secure {
		c.Path = "/"
	}
	http.SetCookie(v.w, c)
	v.dropCookie(challengeCookie)
}

// forgetSession removes the cookie of the session.
func (v *visit) forgetSession() {
	c := v.server.cookie(v.r, v.server.sessionCookie(v.r), "", -1) //nolint:gosec // as above
	if c.Secure {
		c.Path = "/"
	}
	http.SetCookie(v.w, c)
}

func (v *visit) dropCookie(name string) {
	if _, err := v.r.Cookie(name); err == nil {
		http.SetCookie(v.w, v.server.cookie(v.r, name, "", -1))
	}
}

// client returns where the person signs in from.
func (v *visit) client() user.Client {
	return user.Client{Address: v.server.api.ClientAddress(v.r), Agent: v.r.UserAgent()}
}

// secret returns a field of a form that is a secret.
func (f *form) secret(name string) vault.Secret { return vault.NewSecret(f.Raw(name)) }

// whileValid returns a context that ends when the person's session, role or membership changes.
func (v *visit) whileValid() (context.Context, context.CancelFunc) {
	return v.server.people.WhileSignedIn(v.Context(), v.session)
}
