package api

import "agento.host/agento/internal/access"

// Row is a row of the table, for tests that iterate over it.
type Row struct {
	Method, Path string
	Scope        access.Scope
	Feature      string
	Stream       bool
	Download     bool
}

// Table returns the whole table, in order.
func (s *Server) Table() []Row {
	routes := s.routes()
	rows := make([]Row, len(routes))
	for i, r := range routes {
		rows[i] = Row{Method: r.Method, Path: r.Path, Scope: r.scope, Feature: r.feature, Stream: r.IsStream(), Download: r.IsDownload()}
	}
	return rows
}
