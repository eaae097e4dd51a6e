package dashboard

import (
	"encoding/base32"
	"encoding/base64"
	"html/template"

	"rsc.io/qr"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/user"
	"agento.host/agento/internal/vault"
)

// profilePage is the data of the page of a person's own sign-in.
type profilePage struct {
	Person   user.Person
	Name     *form
	Password *form
	Sessions []user.Session
	Current  identity.SignInID
	Codes    int // recovery codes that are left

	OpenID     string // the name of the OpenID provider; empty: there is none
	Identities []user.Identity
}

func (s *Server) profile(v *visit) error {
	return s.showProfile(v, newForm("name", v.Name), newForm())
}

func (s *Server) showProfile(v *visit, name, password *form) error {
	data := profilePage{Person: v.session.Person, Name: name, Password: password, Current: v.session.ID}
	data.OpenID = s.openIDName()
	var err error
	if data.Identities, err = s.people.Identities(v.Context(), v.ID); err != nil {
		return err
	}
	if data.Sessions, err = s.people.Sessions(v.Context(), v.ID); err != nil {
		return err
	}
	if data.Person.TOTP {
		if data.Codes, err = s.people.RecoveryCodesLeft(v.Context(), v.session); err != nil {
			return err
		}
	}
	if !name.Valid() || !password.Valid() {
		return v.RenderRefused("profile", "Profile", data)
	}
	return v.Render("profile", "Profile", data)
}

func (s *Server) rename(v *visit) error {
	f := v.Form()
	err := s.people.Rename(v.Context(), v.session, f.Value("name"))
	if f.Refused(err) {
		return s.showProfile(v, f, newForm())
	}
	if err != nil {
		return err
	}
	return v.Redirect("/profile", good("Your name is changed."))
}

func (s *Server) changePassword(v *visit) error {
	f := v.Form()
	err := s.people.ChangePassword(v.Context(), v.session, f.secret("present"), f.secret("password"))
	if f.Refused(err) {
		return s.showProfile(v, newForm("name", v.Name), f)
	}
	if err != nil {
		return err
	}
	return v.Redirect("/profile", good("Your password is changed. Your other sessions have ended."))
}

func (s *Server) endSession(v *visit) error {
	id := identity.SignInID(v.Arg("session"))
	if id == v.session.ID {
		return s.signOut(v)
	}
	if err := s.people.EndSession(v.Context(), v.session, id); err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	return v.Redirect("/profile", good("The session is ended."))
}

func (s *Server) endOtherSessions(v *visit) error {
	if _, err := s.people.EndOtherSessions(v.Context(), v.session); err != nil {
		return err
	}
	return v.Redirect("/profile", good("Your other sessions are ended."))
}

// factorPage is the data of the pages of the second factor.
type factorPage struct {
	Person user.Person
	Must   bool // nothing else can be done before
	Form   *form
	Secret string       // of the setup; empty: it has not begun
	QR     template.URL // that, as an image
	Codes  []string     // recovery codes, shown once
}

func (s *Server) secondFactor(v *visit) error {
	if v.session.Person.TOTP {
		return v.Redirect("/profile", silent())
	}
	return v.Render("secondfactor", "Second factor", factorPage{Person: v.session.Person, Must: v.session.Person.MustSetUpTOTP(), Form: newForm()})
}

func (s *Server) beginSecondFactor(v *visit) error {
	f := v.Form()
	data := factorPage{Person: v.session.Person, Must: v.session.Person.MustSetUpTOTP(), Form: f}
	setup, err := s.people.BeginTOTP(v.Context(), v.session, f.secret("present"))
	if f.Refused(err) {
		return v.RenderRefused("secondfactor", "Second factor", data)
	}
	if err != nil {
		return err
	}
	data.Secret, data.Form = setup.Secret.Reveal(), newForm()
	if data.QR, err = qrImage(setup.URL.Reveal()); err != nil {
		return err
	}
	return v.Render("secondfactor", "Second factor", data)
}

func (s *Server) confirmSecondFactor(v *visit) error {
	f := v.Form()
	codes, err := s.people.ConfirmTOTP(v.Context(), v.session, f.Value("code"))
	if f.Refused(err) {
		data := factorPage{Person: v.session.Person, Must: v.session.Person.MustSetUpTOTP(), Form: f}
		// The page shows again what it has shown: nobody else can have sent this form.
		if _, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(f.Value("secret")); err == nil && f.Value("secret") != "" {
			data.Secret = f.Value("secret")
			if data.QR, err = qrImage(user.TOTPAddress(v.Email, data.Secret)); err != nil {
				return err
			}
		}
		f.Forget("code")
		return v.RenderRefused("secondfactor", "Second factor", data)
	}
	if err != nil {
		return err
	}
	return v.Render("secondfactor", "Recovery codes", factorPage{Person: v.session.Person, Codes: reveal(codes), Form: newForm()})
}

func (s *Server) newRecoveryCodes(v *visit) error {
	codes, err := s.people.NewRecoveryCodes(v.Context(), v.session, v.Form().Value("code"))
	if f := v.Form(); f.Refused(err) {
		return v.Redirect("/profile", bad(f.Error))
	}
	if err != nil {
		return err
	}
	return v.Render("secondfactor", "Recovery codes", factorPage{Person: v.session.Person, Codes: reveal(codes), Form: newForm()})
}

func (s *Server) removeSecondFactor(v *visit) error {
	f := v.Form()
	err := s.people.RemoveTOTP(v.Context(), v.session, f.Value("code"))
	if f.Refused(err) {
		return v.Redirect("/profile", bad(f.Error))
	}
	if err != nil {
		return err
	}
	return v.Redirect("/profile", good("The second factor is removed. Your other sessions have ended."))
}

func reveal(codes []vault.Secret) []string {
	texts := make([]string, len(codes))
	for i, c := range codes {
		texts[i] = c.Reveal()
	}
	return texts
}

// qrImage returns a QR code as the address of an image, which is in the address.
func qrImage(text string) (template.URL, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return "", err
	}
	code.Scale = 6
	return template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(code.PNG())), nil //nolint:gosec // it is base64
}
