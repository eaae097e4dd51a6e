package dashboard

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
)

// notice is what a page says about the form that led to it.
type notice struct {
	Kind string `json:"k"` // good, warn or bad
	Text string `json:"t"`
}

// good, warn and bad return notices for Redirect.
func good(text string) notice { return notice{"good", text} }
func warn(text string) notice { return notice{"warn", text} }
func bad(text string) notice  { return notice{"bad", text} }

// silent is for a Redirect to a page that says enough.
func silent() notice { return notice{} }

// noticeCookie carries a notice from a form to the page that it leads to.
const noticeCookie = "agento_notice"

// maxNotice keeps the cookie below what browsers take.
const maxNotice = 1000

func (v *visit) setNotice(n notice) {
	if len(n.Text) > maxNotice {
		n.Text = n.Text[:maxNotice]
	}
	text, err := json.Marshal(n)
	if err != nil {
		return // two strings can always be encoded
	}
	http.SetCookie(v.w, v.server.cookie(v.r, noticeCookie, base64.RawURLEncoding.EncodeToString(text), 60))
}

// takeNotice returns the notice of the form that led here, once.
func (v *visit) takeNotice() *notice {
	c, err := v.r.Cookie(noticeCookie)
	if err != nil {
		return nil
	}
	http.SetCookie(v.w, v.server.cookie(v.r, noticeCookie, "", -1))
	text, err := base64.RawURLEncoding.DecodeString(c.Value)
	var n notice
	if err != nil || json.Unmarshal(text, &n) != nil || n.Text == "" {
		return nil
	}
	return &n
}

// cookie returns a cookie of the dashboard, which ends after seconds.
func (s *Server) cookie(r *http.Request, name, value string, seconds int) *http.Cookie {
	return &http.Cookie{Name: name, Value: value, Path: s.outside.path(""), MaxAge: seconds, HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: s.outside.isSecure(r)} //nolint:gosec // it is secure behind TLS
}
