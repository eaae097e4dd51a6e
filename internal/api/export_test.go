package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"agento.host/agento/internal/access"
)

// Row is a row of the table, as tests walk it.
type Row struct {
	Method, Path string
	Scope        access.Scope
	Stream       bool
}

// Table is the whole table, in order.
func (s *Server) Table() []Row {
	routes := s.routes()
	rows := make([]Row, len(routes))
	for i, r := range routes {
		rows[i] = Row{Method: r.method, Path: r.path, Scope: r.scope, Stream: r.example != ""}
	}
	return rows
}

// Stream adds a route that no key is needed for, whose stream is what serve does.
func (s *Server) Stream(path string, serve func(context.Context) error) {
	s.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
		reply := s.streaming(func(ctx context.Context, _ *stream) error { return serve(ctx) }, func(*stream, error) {})
		reply.Body(humago.NewContext(nil, r, w))
	})
}
