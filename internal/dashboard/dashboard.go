// Package dashboard is the dashboard: the pages at /app for people who are signed in. They
// are rendered on the server, work without their scripts, and do everything through the
// public API, in process and as the person, so that there is one set of rules.
//
// # How to add a page
//
//  1. A row in the table of route.go: the pattern below /app, what the person needs for it,
//     and the handler. The menu (menu.go) shows an entry, or a tab of an agent, once its route
//     is in the table. TestRolesOfPages walks the table.
//
//  2. A file with the handlers of the subject, such as agents.go: methods
//     func (s *Server) agentList(v *visit) error. A handler reads the request through the
//     visit, calls v.API (the Go client, as the person, in the account of the session), and
//     ends with v.Render, v.RenderAgent or v.Redirect. It returns every error that it cannot
//     explain better: the page of the error, with the API's own words, is made of it
//     (problem.go). It decides nothing that the API decides: v.Can is only for what is shown.
//
//  3. A template of the page's name, such as templates/agents.html, which defines "content".
//     Its dot is a view (view.go): .Data is what the handler passed, .Can, .Link and .Hidden
//     are methods. The partial templates are in parts.html, the functions in funcs.go, the
//     classes are listed on top of assets/style.css. There are no inline scripts, styles or
//     style attributes: the Content-Security-Policy refuses them. Every text of people,
//     agents, peers and models goes through html/template; nothing makes template.HTML of data.
//
//  4. Forms are <form method="post"> with {{.Hidden}} inside ({{$.Hidden}} in a range), which
//     names the account that the page was made for and makes a repeated submission the same
//     request. Forms with files have the attribute enctype and {{.Query}} in their action
//     instead. A handler that is refused renders its page again with the form, whose Refused
//     keeps what was typed and shows what is wrong at each field; otherwise it redirects, with
//     a notice. What cannot be undone is in {{template "confirm"}}, which says what will
//     happen.
//
//  5. What changes by itself is in <section id="…" data-live="TOPIC …">, which live.js
//     replaces when one of its topics changes: it fetches the same address and takes the
//     section of that id. A topic is that of the event log: agent/ID, swarm/ID, or a kind,
//     such as agent, for all of the account. Focus, open details and what was typed stay.
//
//  6. A script, if the page needs one, is assets/NAME.js, and the template defines "scripts":
//     <script src="{{asset "NAME.js"}}" defer></script>. It gets the functions of app.js as
//     agento.…, calls the API with agento.api(path, options) (which is fetch of /app/api/v1/…
//     with the account of the page), and builds elements with agento.element: never
//     innerHTML with data. The scripts of a page are at most 40 KB together, transferred.
//
//  7. A test beside it, over newEnv (env_test.go): env.as(role).get("/agents") and what the
//     page says.
package dashboard

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/oidc"
	"agento.host/agento/internal/user"
)

// Settings of a Server.
type Settings struct {
	API    API // what the pages do everything through
	People *user.Service
	OpenID *oidc.Provider // by which people sign in, too; nil: there is none
	Events *event.Log
	// OwnerOf returns the account of an agent, or an error.
	OwnerOf func(context.Context, identity.AgentID) (identity.AccountID, error)
	// Regions returns the regions that an agent can be in. Nil: eu and us.
	Regions func(context.Context) ([]string, error)
	// Installation reads what operators see; nil: there are no pages for them.
	Installation func(context.Context) (Installation, error)
	// OperatorNeeds reads what waits for operators; set if Installation is.
	OperatorNeeds func(context.Context) ([]OperatorNeed, error)

	PublicURL      string         // the address that people use; empty: not known
	TrustedProxies []netip.Prefix // whose X-Forwarded-For and X-Forwarded-Proto are believed
	Version        string
	Log            *slog.Logger
}

// API is the public API.
type API interface {
	// For returns it for callers that are authenticated otherwise than by a key.
	For(caller func(context.Context) (access.Principal, error)) http.Handler
	// ClientAddress returns where a request comes from.
	ClientAddress(*http.Request) netip.Addr
}

// Server serves the dashboard. It is an http.Handler for the paths from /app on, with or
// without the path of the public URL before them.
type Server struct {
	api          API
	asPerson     http.Handler // the API, for the person of the session in the request's context
	people       *user.Service
	openID       *oidc.Provider                          // nil: there is none
	regions      func(context.Context) ([]string, error) // nil: eu and us
	installation func(context.Context) (Installation, error)
	waiting      func(context.Context) ([]OperatorNeed, error)
	version      string
	log          *slog.Logger
	outside      outside
	pages        pages
	activity     *activity
	streams      streams
	shelf        shelf
	table        []route
	mux          *http.ServeMux
	protected    http.Handler

	draining context.Context // ends when the server shuts down
	drain    context.CancelFunc
}

// New returns a Server.
func New(settings Settings) (*Server, error) {
	s := &Server{api: settings.API, people: settings.People, openID: settings.OpenID, regions: settings.Regions, installation: settings.Installation, waiting: settings.OperatorNeeds, version: settings.Version, log: settings.Log, activity: newActivity(settings.Events, settings.OwnerOf), streams: streams{open: map[string]int{}}}
	s.asPerson = s.api.For(s.caller)
	s.draining, s.drain = context.WithCancel(context.Background())
	var err error
	if s.outside, err = newOutside(settings.PublicURL, settings.TrustedProxies); err != nil {
		return nil, err
	}
	s.table = slices.Concat(s.routes(), s.needsRoutes(), s.contentRoutes(), s.documentRoutes(), s.setupRoutes(), s.auditRoutes(), s.accountRoutes(), s.oidcRoutes())
	s.pages = newPages(s)
	s.mux = s.newMux()
	s.protected, err = s.outside.protect(s.clean(s.mux), http.HandlerFunc(s.crossOrigin))
	return s, err
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setSecurityHeaders(w.Header())
	s.protected.ServeHTTP(w, s.outside.strip(r))
}

// Run follows what changes, for the pages that are open, until ctx ends.
func (s *Server) Run(ctx context.Context) error { return s.activity.run(ctx) }

// Drain ends every stream, so that a graceful shutdown does not wait for open pages.
func (s *Server) Drain() { s.drain() }

// contentSecurityPolicy allows what is served beside the pages, and nothing in them.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// pageHeader tells a script that an answer is the dashboard's, not that of a proxy: a form
// whose answer lacks it may have been done or not.
const pageHeader = "X-Agento-Page"

func setSecurityHeaders(h http.Header) {
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	h.Set(pageHeader, "1")
}

// Before returns a handler that serves the dashboard, and everything else by another one.
func (s *Server) Before(other http.Handler) http.Handler {
	own := budget.TimedHandler(s)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.outside.owns(r.URL.Path) {
			own.ServeHTTP(w, r)
			return
		}
		other.ServeHTTP(w, r)
	})
}
