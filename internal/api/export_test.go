package api

import (
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/reference"
	"agento.host/agento/internal/rest"
)

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

// Described returns the patterns that docs has.
func Described() map[string]rest.Doc { return docs() }

// ChatEvents returns the described events of an answer.
func ChatEvents() []any { return chatEvents() }

// Example is what the reference shows of a row.
type Example struct {
	Row
	ID      string
	Request reference.Request
	Answer  string
	Text    string
}

// Examples returns the examples of all rows, in order.
func (s *Server) Examples() []Example {
	routes := s.restRoutes()
	shown := map[string]reference.Operation{}
	for _, g := range s.http.Site(routes).Groups {
		for _, op := range g.Operations {
			shown[op.Method+" "+op.Path] = op
		}
	}
	var all []Example
	for i, row := range s.Table() {
		op := shown[row.Method+" "+row.Path]
		all = append(all, Example{row, routes[i].Doc.ID, op.Request, op.Example, routes[i].Doc.Text})
	}
	return all
}
