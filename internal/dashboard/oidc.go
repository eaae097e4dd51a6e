package dashboard

import (
	"errors"
	"net/http"
	"net/url"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/oidc"
	"agento.host/agento/internal/user"
	"agento.host/agento/internal/vault"
)

// oidcCookie binds a visit to the OpenID provider to the browser that has begun it.
const oidcCookie = "agento_oidc"

// OpenIDCallback is the path below the public URL that the provider leads back to.
const OpenIDCallback = root + "/oidc/callback"

// oidcRoutes are the routes of sign-in by an OpenID provider, if there is one.
func (s *Server) oidcRoutes() []route {
	if s.openID == nil {
		return nil
	}
	return []route{
		page("GET /oidc/start", anybody(), s.oidcStart),
		page("GET /oidc/callback", anybody(), s.oidcCallback),
		page("POST /oidc/invitation", anybody(), s.oidcJoin(user.Invite, oidc.Invitation)),
		page("POST /oidc/first", anybody(), s.oidcJoin(user.First, oidc.First)),
		page("POST /oidc/link", signedIn(), s.oidcLink),
		page("POST /oidc/{identity}/remove", signedIn(), s.oidcRemove),
	}
}

// openIDName returns what people call the provider; empty, if there is none.
func (s *Server) openIDName() string {
	if s.openID == nil {
		return ""
	}
	return s.openID.Name()
}

// oidcStart leads to the provider, to sign in.
func (s *Server) oidcStart(v *visit) error {
	if v.Email != "" {
		return v.Redirect(v.next(), silent())
	}
	begun, err := v.beginVisit(oidc.Visit{Purpose: oidc.SignIn, Next: v.next()})
	if err != nil {
		return v.notSignedIn(err)
	}
	v.w.Header().Set("Location", begun.URL)
	v.w.WriteHeader(http.StatusSeeOther)
	return nil
}

// beginVisit begins a visit to the provider, and binds it to the browser.
func (v *visit) beginVisit(visit oidc.Visit) (oidc.Begun, error) {
	s := v.server
	if err := s.people.AllowAddress(v.client()); err != nil {
		return oidc.Begun{}, err
	}
	begun, err := s.openID.Begin(v.Context(), visit)
	if err == nil {
		http.SetCookie(v.w, s.cookie(v.r, oidcCookie, begun.Cookie.Reveal(), int(oidc.VisitLifetime.Seconds())))
	}
	return begun, err
}

// continuePage is the data of the page that leads to the provider after a form. A form cannot do
// so itself: the Content-Security-Policy keeps what is typed on these pages.
type continuePage struct {
	Name string
	URL  string
}

func (v *visit) continueAt(begun oidc.Begun) error {
	v.w.Header().Set("Referrer-Policy", "no-referrer")
	name := v.server.openIDName()
	return v.Render("oidccontinue", "Continue to "+name, continuePage{Name: name, URL: begun.URL})
}

// oidcLink begins to link an identity to the person who is signed in.
func (s *Server) oidcLink(v *visit) error {
	f := v.Form()
	err := s.people.CheckPresent(v.Context(), v.session, f.secret("present"))
	if f.Refused(err) {
		return v.Redirect("/profile", bad(f.Error))
	}
	if err != nil {
		return err
	}
	begun, err := v.beginVisit(oidc.Visit{Purpose: oidc.Link, Session: v.session.ID})
	if words, ok := wordsOf(err); ok {
		return v.Redirect("/profile", bad(words))
	}
	if err != nil {
		return err
	}
	return v.continueAt(begun)
}

// oidcJoin begins to use a link of a kind by an identity.
func (s *Server) oidcJoin(kind user.LinkKind, purpose oidc.Purpose) func(*visit) error {
	return func(v *visit) error {
		token, email := v.Query("token"), v.Form().Value("email")
		if _, err := s.people.Inspect(v.Context(), kind, token); err != nil {
			return err
		}
		if v.Email != "" {
			return v.Redirect(linkPath(kind, token), silent())
		}
		if _, err := user.NormalizeEmail(email); kind == user.First && err != nil {
			return v.Redirect(linkPath(kind, token), bad("Type your e-mail address first, such as ada@example.com."))
		}
		begun, err := v.beginVisit(oidc.Visit{Purpose: purpose, Token: vault.NewSecret(token), Email: email})
		if words, ok := wordsOf(err); ok {
			return v.Redirect(linkPath(kind, token), bad(words))
		}
		if err != nil {
			return err
		}
		return v.continueAt(begun)
	}
}

// oidcCallback is where the provider leads back to.
func (s *Server) oidcCallback(v *visit) error {
	v.w.Header().Set("Referrer-Policy", "no-referrer") // the address has the code
	cookie := ""
	if c, err := v.r.Cookie(oidcCookie); err == nil {
		cookie = c.Value
	}
	visit, who, err := s.openID.Finish(v.Context(), cookie, v.r.URL.Query())
	v.dropCookie(oidcCookie)
	v.r.URL.RawQuery = ""
	if visit.Next != "" {
		v.r.URL.RawQuery = url.Values{"next": {visit.Next}}.Encode()
	}
	switch {
	case err != nil:
		return v.notSignedIn(err)
	case visit.Purpose == oidc.Link:
		return s.oidcLinked(v, visit, who)
	case visit.Purpose == oidc.Invitation:
		return s.oidcJoined(v, user.Invite, visit, who)
	case visit.Purpose == oidc.First:
		return s.oidcJoined(v, user.First, visit, who)
	}
	in, err := s.people.SignInExternal(v.Context(), who, v.client())
	if err != nil {
		return v.notSignedIn(err)
	}
	return v.signedIn(in)
}

// oidcLinked links an identity, if the person is still signed in by the session that has asked for it.
func (s *Server) oidcLinked(v *visit, visit oidc.Visit, who user.External) error {
	if v.session.ID == "" || v.session.ID != visit.Session {
		return v.notSignedIn(fault.New(fault.Forbidden, "You have signed out meanwhile, so nothing was linked. Sign in, and link it again."))
	}
	err := s.people.Link(v.Context(), v.session, who)
	if words, ok := wordsOf(err); ok {
		return v.Redirect("/profile", bad(words))
	}
	if err != nil {
		return err
	}
	return v.Redirect("/profile", good("From now on you can also sign in with "+s.openIDName()+"."))
}

// oidcJoined makes a new person of an identity, or signs in the one that it belongs to, who then
// uses the link.
func (s *Server) oidcJoined(v *visit, kind user.LinkKind, visit oidc.Visit, who user.External) error {
	token := visit.Token.Reveal()
	in, err := s.people.SignInExternal(v.Context(), who, v.client())
	if err == nil {
		if in.NeedsCode() {
			http.SetCookie(v.w, s.cookie(v.r, linkCookie, string(kind)+" "+token, shortly))
			return v.signedIn(in)
		}
		v.signIn(in)
		return v.Redirect(linkPath(kind, token), silent())
	}
	if !fault.Is(err, fault.Forbidden) {
		return v.notSignedIn(err)
	}
	if kind == user.First {
		in, err = s.people.UseFirstExternal(v.Context(), token, visit.Email, who, v.client())
	} else {
		in, err = s.people.UseInvitationExternal(v.Context(), token, who, v.client())
	}
	if fault.Is(err, fault.NotFound) {
		return err
	}
	if words, ok := wordsOf(err); ok {
		return v.Redirect(linkPath(kind, token), bad(words))
	}
	if err != nil {
		return err
	}
	v.signIn(in)
	return v.Redirect("/", good("You are in the account "+in.Session.Account+" as "+string(in.Session.Role)+"."))
}

// oidcRemove removes an identity.
func (s *Server) oidcRemove(v *visit) error {
	err := s.people.Unlink(v.Context(), v.session, v.Arg("identity"))
	if words, ok := wordsOf(err); ok {
		return v.Redirect("/profile", bad(words))
	}
	if err != nil {
		return err
	}
	return v.Redirect("/profile", good("The identity is removed. Sessions that were begun by it have ended."))
}

// notSignedIn leads to the sign-in page, which says why; for who is signed in, to the first one.
func (v *visit) notSignedIn(err error) error {
	words, ok := wordsOf(err)
	switch {
	case !ok:
		return err
	case v.Email != "":
		return v.Redirect("/profile", bad(words))
	}
	return v.Redirect("/sign-in"+v.keepNext(), bad(words))
}

// wordsOf returns the words of a fault that somebody can do something about.
func wordsOf(err error) (string, bool) {
	var f *fault.Fault
	if !errors.As(err, &f) || f.Code == fault.Internal {
		return "", false
	}
	return f.Message, true
}
