package dashboard

import (
	"net/http"
	"strings"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/user"
)

// challengeCookie carries a sign-in to its second factor.
const challengeCookie = "agento_challenge"

// linkCookie remembers the one-time link of somebody who has to sign in first.
const linkCookie = "agento_link"

// shortly is how long these two last, in seconds.
const shortly = 600

// signInPage is the data of the sign-in pages.
type signInPage struct {
	Form   *form
	Next   string
	OpenID string // the name of the OpenID provider; empty: there is none
}

func (s *Server) signInForm(v *visit) error {
	if v.Email != "" {
		return v.Redirect(v.next(), silent())
	}
	return v.Render("signin", "Sign in", signInPage{Form: newForm(), Next: v.Query("next"), OpenID: s.openIDName()})
}

// next returns the page below /app that the person wanted to see.
func (v *visit) next() string {
	if next := v.Query("next"); strings.HasPrefix(next, "/") && !strings.ContainsFunc(next, func(r rune) bool { return r < ' ' || r == '\\' || r > '~' }) {
		return next
	}
	return "/"
}

func (s *Server) signInSend(v *visit) error {
	f := v.Form()
	in, err := s.people.SignIn(v.Context(), f.Value("email"), f.secret("password"), v.client())
	if f.Refused(err) {
		f.Forget("password")
		return v.RenderRefused("signin", "Sign in", signInPage{Form: f, Next: v.Query("next"), OpenID: s.openIDName()})
	}
	if err != nil {
		return err
	}
	return v.signedIn(in)
}

// signedIn continues a sign-in: with the second factor, or where the person wanted to go.
func (v *visit) signedIn(in user.SignedIn) error {
	if in.NeedsCode() {
		http.SetCookie(v.w, v.server.cookie(v.r, challengeCookie, in.Challenge.Reveal(), shortly))
		return v.Redirect("/sign-in/code"+v.keepNext(), silent())
	}
	v.signIn(in)
	if c, err := v.r.Cookie(linkCookie); err == nil {
		v.dropCookie(linkCookie)
		for _, kind := range []user.LinkKind{user.First, user.Invite} {
			if token, ok := strings.CutPrefix(c.Value, string(kind)+" "); ok {
				return v.Redirect(linkPath(kind, token), silent())
			}
		}
	}
	return v.Redirect(v.next(), silent())
}

func (v *visit) keepNext() string {
	if v.r.URL.RawQuery == "" || v.next() == "/" {
		return ""
	}
	return "?" + encodeQuery("next", v.next())
}

func (s *Server) codeForm(v *visit) error {
	if v.Email != "" {
		return v.Redirect(v.next(), silent())
	}
	if _, err := v.r.Cookie(challengeCookie); err != nil {
		return v.Redirect("/sign-in"+v.keepNext(), silent())
	}
	return v.Render("signincode", "Second factor", signInPage{Form: newForm(), Next: v.Query("next")})
}

func (s *Server) codeSend(v *visit) error {
	c, err := v.r.Cookie(challengeCookie)
	if err != nil {
		return v.Redirect("/sign-in"+v.keepNext(), bad("The sign-in has taken too long. Begin again."))
	}
	f := v.Form()
	in, err := s.people.SignInWithCode(v.Context(), c.Value, f.Value("code"), v.client())
	if f.Refused(err) {
		f.Forget("code")
		return v.RenderRefused("signincode", "Second factor", signInPage{Form: f, Next: v.Query("next")})
	}
	if err != nil {
		return err
	}
	return v.signedIn(in)
}

func (s *Server) signOut(v *visit) error {
	if err := s.people.SignOut(v.Context(), v.session); err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	v.forgetSession()
	return v.Redirect("/sign-in", good("You are signed out."))
}

// accountsPage is the data of the page on which a person chooses an account.
type accountsPage struct {
	Accounts []user.Membership
	Current  string
}

func (s *Server) chooseAccount(v *visit) error {
	all, err := s.people.Memberships(v.Context(), v.ID)
	if err != nil {
		return err
	}
	return v.Render("accounts", "Choose an account", accountsPage{all, v.Account})
}

func (s *Server) switchAccount(v *visit) error {
	if _, err := s.people.SwitchAccount(v.Context(), v.session, accountID(v.Arg("account"))); err != nil {
		return err
	}
	return v.Redirect("/", silent())
}
