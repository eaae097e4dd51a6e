package api

import "agento.host/agento/internal/access"

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
