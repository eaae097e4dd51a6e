package dashboard

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
)

// problem is what the page of an error shows.
type problem struct {
	Status    int
	Title     string
	Message   string
	RequestID string
}

// fail renders the page of an error. Who is not signed in is led to the sign-in page, and back
// afterwards.
func (s *Server) fail(v *visit, err error) {
	if v.r.Context().Err() != nil {
		return // the browser has gone
	}
	switch {
	case errors.Is(err, errSecondFactor):
		_ = v.Redirect("/profile/second-factor", silent()) // never fails
		return
	case errors.Is(err, errNoAccount) && v.Operator && v.row.pattern == "GET /": // their first page
		_ = v.Redirect("/operator", silent()) // as above
		return
	case errors.Is(err, errNoAccount):
		_ = v.Redirect("/accounts", silent()) // as above
		return
	}
	p := problemOf(err)
	if p.Status == http.StatusInternalServerError {
		s.log.ErrorContext(v.r.Context(), "a page failed", "page", v.row.pattern, "error", err)
	}
	if p.Status == http.StatusUnauthorized {
		s.toSignIn(v, err)
		return
	}
	if err := v.render(p.Status, "problem", p.Title, p); err != nil {
		s.log.ErrorContext(v.r.Context(), "the page of an error failed", "error", err)
	}
}

// problemOf returns what people are told of an error.
func problemOf(err error) problem {
	p := problem{Status: http.StatusInternalServerError, Message: "Something failed inside agento. It is in the server's log."}
	var answered *client.Error
	var f *fault.Fault
	switch {
	case errors.As(err, &answered):
		p.Status, p.Message, p.RequestID = answered.Status, answered.Message, answered.RequestID
	case errors.As(err, &f):
		p.Status, p.Message = statusOf(f.Code), f.Message
	}
	p.Title = titleOf(p.Status)
	return p
}

func statusOf(code fault.Code) int {
	switch code {
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.Unauthorized:
		return http.StatusUnauthorized
	case fault.Forbidden, fault.PlanLimit:
		return http.StatusForbidden
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Conflict, fault.KeyReused, fault.NotRunning:
		return http.StatusConflict
	case fault.TooLarge:
		return http.StatusRequestEntityTooLarge
	case fault.UnsupportedType:
		return http.StatusUnsupportedMediaType
	case fault.RateLimited:
		return http.StatusTooManyRequests
	case fault.Upstream:
		return http.StatusBadGateway
	case fault.UpstreamTimeout:
		return http.StatusGatewayTimeout
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func titleOf(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "Sign in first"
	case http.StatusForbidden:
		return "Not allowed"
	case http.StatusNotFound:
		return "Not found"
	case http.StatusConflict:
		return "That does not fit any more"
	case http.StatusTooManyRequests:
		return "Too many requests"
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		return "Not possible right now"
	case http.StatusInternalServerError:
		return "Something failed"
	}
	return "That did not work"
}

// missing answers a path that is no page.
func (s *Server) missing(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		http.Redirect(w, r, s.outside.path("/agents"), http.StatusSeeOther)
		return
	}
	s.serve(w, r, page(r.Method+" "+r.URL.Path, need{who: everybody}, func(*visit) error {
		return fault.New(fault.NotFound, "There is no such page.")
	}))
}

// crossOrigin answers a form that a page of another origin has sent.
func (s *Server) crossOrigin(w http.ResponseWriter, r *http.Request) {
	s.serve(w, r, page("GET "+r.URL.Path, need{who: everybody}, func(*visit) error {
		return fault.New(fault.Forbidden, "The request came from a page of another site, so nothing was done. If this page is agento's own, the address in your browser differs from the one in --public-url.")
	}))
}

// writeError answers a script, in the form of the API's errors.
func writeError(w http.ResponseWriter, err error) {
	f := fault.From(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(statusOf(f.Code))
	_ = json.NewEncoder(w).Encode(client.ErrorEnvelope{Error: &client.Error{Code: string(f.Code), Message: f.Message, Details: f.Details}}) // fails if the client has gone
}

// toSignIn leads to the sign-in page, and back to this one afterwards. Scripts are told so.
func (s *Server) toSignIn(v *visit, err error) {
	if v.r.Header.Get(accountHeader) != "" || v.r.Header.Get("X-Agento-Live") != "" {
		writeError(v.w, err)
		return
	}
	to := "/sign-in"
	if v.r.Method == http.MethodGet && v.row.pattern != "GET /" {
		to += "?" + url.Values{"next": {v.r.URL.RequestURI()}}.Encode()
	}
	_ = v.Redirect(to, silent()) // never fails
}
