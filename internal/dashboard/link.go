package dashboard

import (
	"net/http"
	"net/url"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/user"
)

// linkPage is the data of the page of a one-time link.
type linkPage struct {
	Form     *form
	Kind     user.LinkKind
	Info     user.LinkInfo
	SignedIn bool // the person joins as who is signed in
	Other    bool // somebody else is signed in than the invited person
	Action   string

	OpenID       string // the name of the OpenID provider; empty: there is none
	OpenIDAction string
}

func linkPath(kind user.LinkKind, token string) string {
	return "/" + string(kind) + "?" + encodeQuery("token", token)
}

func encodeQuery(name, value string) string { return url.Values{name: {value}}.Encode() }

func accountID(id string) identity.AccountID { return identity.AccountID(id) }

// linkForm returns the page of links of a kind. It uses nothing up: programs that look at links,
// for a preview or a virus, get the same page.
func (s *Server) linkForm(kind user.LinkKind) func(*visit) error {
	return func(v *visit) error { return s.showLink(v, kind, v.Query("token"), newForm()) }
}

func (s *Server) showLink(v *visit, kind user.LinkKind, token string, f *form) error {
	v.w.Header().Set("Referrer-Policy", "no-referrer")
	info, err := s.people.Inspect(v.Context(), kind, token)
	if err != nil {
		return err
	}
	data := linkPage{Form: f, Kind: kind, Info: info, SignedIn: v.Email != "", Action: linkPath(kind, token), OpenID: s.openIDName(), OpenIDAction: "/oidc" + linkPath(kind, token)}
	data.Other = kind == user.Invite && data.SignedIn && v.Email != info.Email
	if !data.SignedIn && info.Exists && kind == user.Invite {
		http.SetCookie(v.w, s.cookie(v.r, linkCookie, string(kind)+" "+token, shortly))
	}
	title := map[user.LinkKind]string{user.First: "The first owner", user.Invite: "Invitation", user.Reset: "New password"}[kind]
	if !f.Valid() {
		return v.RenderRefused("link", title, data)
	}
	return v.Render("link", title, data)
}

// useLink uses a link up, when its button was pressed.
func (s *Server) useLink(kind user.LinkKind) func(*visit) error {
	return func(v *visit) error {
		v.w.Header().Set("Referrer-Policy", "no-referrer")
		f, token := v.Form(), v.Query("token")
		var in user.SignedIn
		var err error
		switch kind {
		case user.Reset:
			err = s.people.UseReset(v.Context(), token, f.secret("password"))
		case user.First:
			in, err = s.people.UseFirst(v.Context(), token, v.session, f.newPerson(), v.client())
		case user.Invite:
			in, err = s.people.UseInvitation(v.Context(), token, v.session, f.newPerson(), v.client())
		}
		if fault.Is(err, fault.NotFound) {
			return err
		}
		if f.Refused(err) {
			f.Forget("password")
			return s.showLink(v, kind, token, f)
		}
		if err != nil {
			return err
		}
		v.dropCookie(linkCookie)
		if kind == user.Reset {
			return v.Redirect("/sign-in", good("The new password is set, and all sessions have ended. Sign in with it."))
		}
		if !in.Token.Empty() {
			v.signIn(in)
		}
		return v.Redirect("/", good("You are in the account "+in.Session.Account+" as "+string(in.Session.Role)+"."))
	}
}

func (f *form) newPerson() user.NewPerson {
	return user.NewPerson{Email: f.Value("email"), Name: f.Value("name"), Password: f.secret("password")}
}
