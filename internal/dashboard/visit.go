package dashboard

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/inprocess"
)

// visit is one request of a person.
type visit struct {
	Visitor

	// API is the Go client of the public API, as the person, in the account of the session.
	// It repeats nothing. A POST that it makes for a form has an Idempotency-Key of that form.
	API *client.Client

	server *Server
	row    route
	w      http.ResponseWriter
	r      *http.Request
	once   string // of the form that was sent
	moment string // which the page shows; see live.go
}

// accountField and onceField are the fields of view.Hidden.
const (
	accountField = "account"
	onceField    = "once"
)

// accountHeader names the account of the page that a script belongs to.
const accountHeader = "X-Agento-Account"

func (s *Server) newVisit(w http.ResponseWriter, r *http.Request, row route) (*visit, error) {
	v := &visit{server: s, row: row, w: w, r: r}
	who, err := s.visitorOf(r)
	v.Visitor = who
	if who.Account != "" {
		v.moment = s.activity.moment(identity.AccountID(who.Account)) // before anything is read
	}
	if who.Email != "" {
		v.API = &client.Client{URL: "http://agento", Retries: -1, HTTP: &http.Client{Transport: formTransport{v, inprocess.Transport{Handler: s.asPerson}}}}
	}
	return v, err
}

// maxForm is the size of a form without files.
const maxForm = 1 << 20

// allowed returns nil if the person may use the route, in the account that the form belongs to.
// Faults: Unauthorized, Forbidden; Conflict, if the session is in another account by now.
func (v *visit) allowed() error {
	if v.row.need.who != everybody && v.Email == "" {
		return fault.New(fault.Unauthorized, "Sign in first.")
	}
	if n := v.row.need.who; (n == members || n == operators) && v.session.Person.MustSetUpTOTP() {
		return errSecondFactor
	}
	if err := v.readForm(); err != nil {
		return err
	}
	if !v.row.need.met(v.Visitor) {
		return v.lacks()
	}
	return nil
}

// readForm reads what was sent to a route that changes something.
// Faults: Invalid; Conflict, if the page was made for another account.
func (v *visit) readForm() error {
	if v.r.Method == http.MethodGet || v.r.Method == http.MethodHead {
		return nil
	}
	if strings.HasPrefix(v.r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxForm)
		if err := v.r.ParseForm(); err != nil {
			return fault.New(fault.Invalid, "The form could not be read. It may be larger than 1 MB.").Because(err)
		}
	}
	v.once = v.hidden(onceField)
	if v.row.need.who == members && v.Account != "" {
		return sameAccount(v.Visitor, v.hidden(accountField))
	}
	return nil
}

// The faults that lead to the page where they are repaired.
var (
	errSecondFactor = fault.New(fault.Forbidden, "Operators need a second factor: set it up first.")
	errNoAccount    = fault.New(fault.Forbidden, "Choose an account first.")
	errNoPage       = fault.New(fault.NotFound, "There is no such page.")
)

// lacks returns the fault of a person whose role does not have what the route needs.
func (v *visit) lacks() error {
	switch {
	case v.row.need.who == operators:
		return fault.New(fault.NotFound, "There is no such page.")
	case v.Account == "":
		return errNoAccount
	}
	return fault.New(fault.Forbidden, "Your role in this account, %s, does not include this. An owner or admin of the account can change your role.", v.Role)
}

// hidden returns a field of view.Hidden or view.Query.
func (v *visit) hidden(name string) string {
	if value := v.r.PostForm.Get(name); value != "" {
		return value
	}
	return v.r.URL.Query().Get(name)
}

// sameAccount returns nil if a page was made for the account of the session.
func sameAccount(who Visitor, account string) error {
	switch account {
	case who.Account:
		return nil
	case "":
		return fault.New(fault.Invalid, "The request does not name the account that its page was made for. Load the page again.")
	}
	return fault.New(fault.Conflict, "You have changed to the account %s meanwhile, in another tab. Nothing was done. Load the page again, or go back to the other account.", who.AccountName)
}

// Context returns the context of the request.
func (v *visit) Context() context.Context { return v.r.Context() }

// Arg returns a part of the path, such as id of /agents/{id}.
func (v *visit) Arg(name string) string { return v.r.PathValue(name) }

// Query returns a parameter of the address.
func (v *visit) Query(name string) string { return v.r.URL.Query().Get(name) }

// Can reports whether the person's role gives the scope. It decides what is shown; what may
// be done is decided by the API.
func (v *visit) Can(scope access.Scope) bool { return v.Account != "" && v.Scopes.Has(scope) }

// Form returns the form that was sent.
func (v *visit) Form() *form { return &form{values: v.r.PostForm, errors: map[string]string{}} }

// path returns the path of a page, as Redirect takes it. The arguments are parts of it.
func path(format string, args ...string) string {
	escaped := make([]any, len(args))
	for i, a := range args {
		escaped[i] = url.PathEscape(a)
	}
	return fmt.Sprintf(format, escaped...)
}

// fetched is the header of a form that app.js has sent.
const fetched = "X-Agento-Form"

// Redirect ends a form: it leads to another page, below /app, which shows the notice, unless
// that is empty.
func (v *visit) Redirect(to string, n notice) error {
	if n.Text != "" {
		v.setNotice(n)
	}
	address := v.server.outside.path(to)
	if v.r.Header.Get(fetched) != "" {
		v.w.Header().Set("X-Agento-Location", address)
		v.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	v.w.Header().Set("Location", address)
	v.w.WriteHeader(http.StatusSeeOther)
	return nil
}

// formTransport names the Idempotency-Key of each POST that a form causes: one that is sent
// twice, by a double click or a browser that repeats it, is done once.
type formTransport struct {
	v    *visit
	next http.RoundTripper
}

func (t formTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.WithContext(context.WithValue(r.Context(), sessionKey{}, t.v.session))
	if r.Method != http.MethodPost || t.v.once == "" || r.Header.Get("Idempotency-Key") != "" {
		return t.next.RoundTrip(r)
	}
	sum := sha256.New()
	_, _ = io.WriteString(sum, t.v.once+" "+r.URL.RequestURI()+"\n") // never fails
	if r.GetBody != nil {
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		if _, err := io.Copy(sum, body); err != nil {
			return nil, err
		}
	}
	r = r.Clone(r.Context())
	r.Header.Set("Idempotency-Key", "form-"+hex.EncodeToString(sum.Sum(nil)[:16]))
	return t.next.RoundTrip(r)
}

func newOnce() string { return rand.Text() }

// passThrough serves the public API for the scripts of pages, as the person.
func (s *Server) passThrough(w http.ResponseWriter, r *http.Request) {
	who, err := s.visitorOf(r)
	if err == nil && who.Email == "" {
		err = fault.New(fault.Unauthorized, "Sign in first.")
	}
	to := r.Clone(context.WithValue(r.Context(), sessionKey{}, who.session))
	account := r.Header.Get(accountHeader)
	if query := r.URL.Query(); account == "" && r.Method == http.MethodGet { // a link has no headers, such as to a download
		account = query.Get(accountField)
		query.Del(accountField)
		to.URL.RawQuery = query.Encode()
	}
	if err == nil {
		err = sameAccount(who, account)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	to.URL.Path, to.URL.RawPath = strings.TrimPrefix(r.URL.Path, "/api"), strings.TrimPrefix(r.URL.RawPath, "/api")
	to.Header.Del("Cookie")
	to.Header.Del(accountHeader)
	w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
	s.asPerson.ServeHTTP(w, to)
}
