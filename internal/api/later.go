package api

import (
	"net/http"
	"strings"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/fault"
)

// later is a route of the contract whose room is not built yet. Who may call it,
// and whose agent it is about, is checked already.
func later(pattern string, scope access.Scope, summary string) route {
	r := route{scope: scope, summary: summary, register: func(s *Server, r route) {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, req *http.Request) { s.fail(w, req, s.notYet(req, r)) })
	}}
	r.method, r.path, _ = strings.Cut(pattern, " ")
	return r
}

// when leaves a route to a later version while its room is missing.
func (r route) when(built bool) route {
	if built {
		return r
	}
	return later(r.method+" "+r.path, r.scope, r.summary)
}

func (s *Server) notYet(req *http.Request, r route) error {
	who := callerOf(req.Context())
	if err := s.allow(who, r.scope); err != nil {
		return err
	}
	if strings.HasPrefix(r.path, "/v1/agents/{id}") {
		if _, err := s.Agents.Find(req.Context(), who, req.PathValue("id")); err != nil {
			return err
		}
	}
	return fault.New(fault.NotImplemented, "This server cannot do that yet: %s. Ask the operator for a newer version.", r.summary)
}
