package dashboard

import (
	"fmt"
	"net/http"
	urlpath "path"
	"slices"
	"strings"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/user"
)

// routes returns every page and form of the dashboard. TestRolesOfPages walks it.
func (s *Server) routes() []route {
	return []route{
		// Signing in.
		page("GET /sign-in", anybody(), s.signInForm),
		page("POST /sign-in", anybody(), s.signInSend),
		page("GET /sign-in/code", anybody(), s.codeForm),
		page("POST /sign-in/code", anybody(), s.codeSend),
		page("POST /sign-out", signedIn(), s.signOut),
		page("GET /first", anybody(), s.linkForm(user.First)),
		page("POST /first", anybody(), s.useLink(user.First)),
		page("GET /invitation", anybody(), s.linkForm(user.Invite)),
		page("POST /invitation", anybody(), s.useLink(user.Invite)),
		page("GET /reset", anybody(), s.linkForm(user.Reset)),
		page("POST /reset", anybody(), s.useLink(user.Reset)),

		// The person.
		page("GET /accounts", signedIn(), s.chooseAccount),
		page("POST /accounts/{account}", signedIn(), s.switchAccount),
		page("GET /profile", signedIn(), s.profile),
		page("POST /profile/name", signedIn(), s.rename),
		page("POST /profile/password", signedIn(), s.changePassword),
		page("POST /profile/sessions/{session}/end", signedIn(), s.endSession),
		page("POST /profile/sessions/end-others", signedIn(), s.endOtherSessions),
		page("GET /profile/second-factor", signedIn(), s.secondFactor),
		page("POST /profile/second-factor", signedIn(), s.beginSecondFactor),
		page("POST /profile/second-factor/confirm", signedIn(), s.confirmSecondFactor),
		page("POST /profile/second-factor/codes", signedIn(), s.newRecoveryCodes),
		page("POST /profile/second-factor/remove", signedIn(), s.removeSecondFactor),

		// Of every page.
		page("GET /live", follower(), s.live),
		page("GET /palette", member(), s.palette),

		// Agents.
		page("GET /agents", has(access.AgentsRead), s.agentList),
		page("POST /agents", has(access.AgentsWrite), s.changeAgents),
		page("GET /agents/new", has(access.AgentsWrite), s.newAgent),
		page("POST /agents/new", has(access.AgentsWrite), s.createAgent),
		page("GET /agents/{id}", has(access.AgentsRead), s.agentOverview),
		page("POST /agents/{id}/start", has(access.AgentsWrite), s.startAgent),
		page("POST /agents/{id}/restart", has(access.AgentsWrite), s.restartAgent),
		page("POST /agents/{id}/stop", has(access.AgentsWrite), s.stopAgent),
		page("POST /agents/{id}/delete", has(access.AgentsWrite), s.deleteAgent),
		page("GET /agents/{id}/chat", has(access.Chat), s.agentChat),
		page("POST /agents/{id}/chat", has(access.Chat), s.sendChat),
		page("POST /agents/{id}/chat/{session}/name", has(access.Chat), s.renameSession),
		page("GET /agents/{id}/logs", has(access.Logs), s.agentLogs),
		page("GET /agents/{id}/logs.txt", has(access.Logs), s.downloadLogs),

		// Chat widgets.
		page("GET /widgets", has(access.AgentsRead), s.widgetList),
		page("GET /widgets/new", has(access.AgentsWrite), s.newWidget),
		page("POST /widgets/new", has(access.AgentsWrite), s.createWidget),
		page("GET /widgets/{id}", has(access.AgentsRead), s.showWidget),
		page("POST /widgets/{id}", has(access.AgentsWrite), s.changeWidget),
		page("POST /widgets/{id}/enable", has(access.AgentsWrite), s.enableWidget),
		page("POST /widgets/{id}/disable", has(access.AgentsWrite), s.disableWidget),
		page("POST /widgets/{id}/rotate", has(access.AgentsWrite), s.rotateWidgetKey),
		page("POST /widgets/{id}/secret", has(access.AgentsWrite), s.rotateWidgetSecret),
		page("POST /widgets/{id}/delete", has(access.AgentsWrite), s.deleteWidget),

		// The installation.
		page("GET /operator", operator(), s.operatorOverview),
		page("GET /operator/accounts", operator(), s.operatorAccounts),
		page("GET /operator/gateways", operator(), s.operatorGateways),
		page("GET /operator/servers", operator(), s.operatorServers),

		// API keys.
		page("GET /keys", has(access.AccountAdmin), s.keyList),
		page("GET /keys/new", has(access.AccountAdmin), s.newKey),
		page("POST /keys/new", has(access.AccountAdmin), s.createKey),
		page("GET /keys/{id}", has(access.AccountAdmin), s.showKey),
		page("POST /keys/{id}", has(access.AccountAdmin), s.changeKey),
		page("POST /keys/{id}/rotate", has(access.AccountAdmin), s.rotateKey),
		page("POST /keys/{id}/revoke", has(access.AccountAdmin), s.revokeKey),
	}
}

// route is a page, or the target of a form.
type route struct {
	pattern string // method and path below /app
	need    need
	handle  func(*visit) error
}

func page(pattern string, n need, handle func(*visit) error) route { return route{pattern, n, handle} }

// need is what a person must be to use a route. The API has the last word: a need only saves
// people from pages that would be refused.
type need struct {
	who   audience
	scope access.Scope // that the person's role in the account gives
}

type audience int

const (
	everybody audience = iota // also who is not signed in
	people                    // who is signed in, in an account or not
	members                   // of an account, with the scope, if there is one
	followers                 // of an account, and operators
	operators                 // of the installation
)

func anybody() need               { return need{who: everybody} }
func signedIn() need              { return need{who: people} }
func member() need                { return need{who: members} }
func has(scope access.Scope) need { return need{who: members, scope: scope} }
func follower() need              { return need{who: followers} }
func operator() need              { return need{who: operators} }
func (n need) met(v Visitor) bool {
	switch n.who {
	case everybody:
		return true
	case people:
		return v.Email != ""
	case members:
		return v.Account != "" && (n.scope == "" || v.Scopes.Has(n.scope))
	case followers:
		return v.Account != "" || v.Operator
	case operators:
		return v.Operator
	}
	return false
}

func (s *Server) newMux() *http.ServeMux {
	mux := http.NewServeMux()
	for _, r := range s.table {
		method, path, _ := strings.Cut(r.pattern, " ")
		if strings.HasSuffix(path, "/") {
			path += "{$}"
		}
		mux.HandleFunc(method+" "+path, func(w http.ResponseWriter, req *http.Request) { s.serve(w, req, r) })
	}
	mux.Handle("GET /assets/{file}", http.HandlerFunc(s.pages.assets.serve))
	mux.HandleFunc("/api/v1/", s.passThrough)
	mux.HandleFunc("/", s.missing)
	return mux
}

// clean answers requests for paths such as //x itself: the mux would redirect them to an address
// without what is before the path here.
func (s *Server) clean(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.EscapedPath(); urlpath.Clean(p) != p && urlpath.Clean(p)+"/" != p {
			s.missing(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// has reports whether the table has a route.
func (s *Server) has(pattern string) bool {
	return slices.ContainsFunc(s.table, func(r route) bool { return r.pattern == pattern })
}

// needOf returns the need of a route of the table.
func (s *Server) needOf(pattern string) need {
	i := slices.IndexFunc(s.table, func(r route) bool { return r.pattern == pattern })
	if i < 0 {
		panic(fmt.Sprintf("the dashboard has no route %s", pattern))
	}
	return s.table[i].need
}

// serve takes every request to a page through: who is it, may they, is it the account that
// the page was made for, handle, report.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, row route) {
	v, err := s.newVisit(w, r, row)
	if err == nil {
		err = v.allowed()
	}
	if err == nil {
		err = row.handle(v)
	}
	if err != nil {
		s.fail(v, err)
	}
}
