// Package reference renders the reference of the API and the guides of docs/ as one set of
// pages without inline scripts and styles. What it shows of the API is a Site, which package
// rest makes of the OpenAPI document.
package reference

import "strings"

// Site is what the pages show of an API.
type Site struct {
	Title, Version string
	Groups         []Group
}

// Group is a page: the operations of one kind.
type Group struct {
	Name, Text string
	Operations []Operation
}

// Operation is one request of the API.
type Operation struct {
	ID, Method, Path, Summary string
	Text                      string // what it does and when it is answered, as Markdown
	Parameters                []Field
	Body                      []Field
	Answers                   []Answer
	Errors                    []Error
	Request                   Request
	Example                   string // the body of the response to Request; empty: it has no text
}

// Field is a parameter, or a field of a body.
type Field struct {
	Name, In, Type, Text string
	Required             bool
	Fields               []Field // of the object, or of each object of the list
}

// Answer is what a successful response has. Name is its status, or the name of an event of
// a stream.
type Answer struct {
	Name, Text string
	Fields     []Field
}

// Error is an error that can come: its status, its code and what it means.
type Error struct {
	Status, Code, Text string
}

// Request is an example.
type Request struct {
	Method, Path    string // with its query
	Header, Value   string // one header; empty: none
	Body            string // JSON
	Stream, IsLines bool   // it answers with events of JSON, or of lines of text, which do not end
	Download        string // the name of the file that it answers with
	Upload          string // the name of the file that it sends
	UploadType      string // the media type of that
}

// anchor returns a group's name as the last part of its address.
func (g Group) anchor() string { return strings.ToLower(strings.ReplaceAll(g.Name, " ", "-")) }

// Address returns the address of the group's page.
func (g Group) Address() string { return "/docs/api/" + g.anchor() }
