package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
)

// The exit codes of every command; docs/cli.md lists them for users.
const (
	exitFailed      = 1
	exitUsage       = 2 // the command line, or what it gives to the server, is wrong
	exitNotFound    = 3 // the data directory, the agent or whatever else is named is not there
	exitRefused     = 4 // the key, the plan or the state does not allow it, or the user did not confirm it
	exitInterrupted = 130
)

// failure is an error of the command line itself, with its exit code.
type failure struct {
	code    int
	message string
}

// Error implements error.
func (f *failure) Error() string { return f.message }

func usageError(format string, args ...any) error {
	return &failure{exitUsage, fmt.Sprintf(format, args...)}
}

func notFoundError(format string, args ...any) error {
	return &failure{exitNotFound, fmt.Sprintf(format, args...)}
}

func refusedError(format string, args ...any) error {
	return &failure{exitRefused, fmt.Sprintf(format, args...)}
}

// exitCodes has the exit codes of the codes that a server answers; others are failures.
var exitCodes = map[fault.Code]int{
	fault.Invalid: exitUsage, fault.TooLarge: exitUsage, fault.UnsupportedType: exitUsage,
	fault.NotFound:     exitNotFound,
	fault.Unauthorized: exitRefused, fault.Forbidden: exitRefused, fault.PlanLimit: exitRefused, "budget_exceeded": exitRefused,
	fault.Conflict: exitRefused, fault.KeyReused: exitRefused, fault.NotRunning: exitRefused,
}

// names of the exit codes, for errors without a code of the server.
var exitNames = map[int]fault.Code{
	exitFailed: "failed", exitUsage: "usage", exitNotFound: fault.NotFound, exitRefused: "refused", exitInterrupted: "interrupted",
}

// report is what a command prints of an error.
type report struct {
	exit int

	Code      fault.Code        `json:"code"`
	Message   string            `json:"message"`
	RequestID string            `json:"requestId,omitempty"`
	Details   map[string]string `json:"details,omitempty"`
}

// reportOf returns what to print of an error, in the words of the command line.
func reportOf(err error) report {
	var (
		answered *client.Error
		f        *fault.Fault
		own      *failure
		syntax   *kong.ParseError
		call     *url.Error
	)
	r := report{exit: exitFailed, Message: err.Error()}
	switch {
	case errors.Is(err, context.Canceled):
		r.exit, r.Message = exitInterrupted, "interrupted"
	case errors.As(err, &answered):
		r.Code, r.Message, r.RequestID, r.Details = fault.Code(answered.Code), answered.Message, answered.RequestID, answered.Details
	case errors.As(err, &f) && f.Code != fault.Internal:
		r.Code, r.Message, r.Details = f.Code, f.Message, f.Details
	case errors.As(err, &own):
		r.exit = own.code
	case errors.As(err, &syntax):
		r.exit, r.Message = exitUsage, syntaxMessage(syntax)
	case errors.As(err, &call):
		r.Message = fmt.Sprintf("the agento server does not answer: %v. Start it with agento serve, or name another one with --url or AGENTO_URL", call.Err)
	case errors.Is(err, fs.ErrNotExist):
		r.exit = exitNotFound
	case errors.Is(err, io.ErrUnexpectedEOF):
		r.Message = "the connection to the agento server broke before its answer was complete: try again"
	}
	if exit, ok := exitCodes[r.Code]; ok {
		r.exit = exit
	}
	if r.Code == "" {
		r.Code = exitNames[r.exit]
	}
	r.Message = commandWords(r.Message)
	r.Details = maps.Clone(r.Details)
	for name, text := range r.Details {
		r.Details[name] = commandWords(text)
	}
	return r
}

func syntaxMessage(err *kong.ParseError) string {
	help := "agento help"
	if c := err.Context; c != nil && c.Selected() != nil {
		help += " " + c.Selected().Path()
	}
	return err.Error() + "\n" + help + " shows what there is."
}

// print writes the report for a person, or as JSON.
func (r report) print(t *terminal) {
	if t.json {
		_ = writeJSON(t.err, map[string]any{"error": r}) // there is nowhere to report a failure
		return
	}
	text := "agento: " + r.Message
	for _, name := range slices.Sorted(maps.Keys(r.Details)) {
		if what := r.Details[name]; !strings.Contains(r.Message, what) {
			text += fmt.Sprintf("\n  %s: %s", name, what)
		}
	}
	if r.RequestID != "" {
		text += "\n  request id: " + r.RequestID
	}
	_, _ = fmt.Fprintln(t.err, escapeText(text))
}

// writeJSON writes v, indented. Characters that control a terminal are escaped, which
// encoding/json does only for those of ASCII.
func writeJSON(w io.Writer, v any) error {
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(w, escapeJSON(text.String()))
	return err
}
