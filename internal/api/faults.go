package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
)

// statusOf is the only map from a fault's code to an HTTP status.
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
	case fault.Conflict, fault.NotRunning:
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

// fail writes the contract's error envelope and logs what the caller is not shown.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	f := s.report(r.Context(), err)
	writeFault(w, statusOf(f.Code), f, requestOf(r.Context()))
}

// report logs a failure, once, and returns what the caller is told.
func (s *Server) report(ctx context.Context, err error) *fault.Fault {
	f := faultOf(ctx, err)
	level := slog.LevelDebug
	if f.Code == fault.Internal {
		level = slog.LevelError
	}
	s.Log.Log(ctx, level, "a request failed", "request", requestOf(ctx), "code", f.Code, "error", err)
	return f
}

// faultOf also knows the errors that a broken wait ends with.
func faultOf(ctx context.Context, err error) *fault.Fault {
	f := fault.From(err)
	if f.Code != fault.Internal {
		return f
	}
	switch {
	case ctx.Err() != nil: // nobody reads it, and it is no failure of ours
		return fault.New(fault.Unavailable, "The client went away before the answer.").Because(err)
	case errors.Is(err, context.DeadlineExceeded):
		return fault.New(fault.UpstreamTimeout, "The agent took too long. Try again.").Because(err)
	case errors.Is(err, context.Canceled) && ctx.Err() == nil:
		return fault.New(fault.Unavailable, "The server is shutting down. Try again in a moment.").Because(err)
	}
	return f
}

func writeFault(w http.ResponseWriter, status int, f *fault.Fault, request string) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if f.RetryAfter > 0 {
		h.Set("Retry-After", fmt.Sprint(int64(math.Ceil(f.RetryAfter.Seconds()))))
	}
	w.WriteHeader(status)
	encode(w, envelope(f, request))
}

func envelope(f *fault.Fault, request string) client.ErrorEnvelope {
	return client.ErrorEnvelope{Error: &client.Error{Code: string(f.Code), Message: f.Message, RequestID: request, Details: f.Details}}
}

// encode writes JSON; a reader that has gone is not an error of ours.
func encode(w io.Writer, body any) {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(body)
}

// refusal is a fault as huma writes it.
type refusal struct {
	client.ErrorEnvelope
	status int
	retry  string
}

// Error implements error.
func (r *refusal) Error() string { return r.ErrorEnvelope.Error.Message }

// GetStatus implements huma.StatusError.
func (r *refusal) GetStatus() int { return r.status }

// GetHeaders implements huma.HeadersError.
func (r *refusal) GetHeaders() http.Header {
	h := http.Header{}
	if r.retry != "" {
		h.Set("Retry-After", r.retry)
	}
	return h
}

// MarshalJSON implements json.Marshaler.
func (r *refusal) MarshalJSON() ([]byte, error) { return json.Marshal(&r.ErrorEnvelope) }

// refuse turns any error of a room into what huma writes.
func (s *Server) refuse(ctx context.Context, err error) error {
	f := s.report(ctx, err)
	r := &refusal{ErrorEnvelope: envelope(f, requestOf(ctx)), status: statusOf(f.Code)}
	if f.RetryAfter > 0 {
		r.retry = fmt.Sprint(int64(math.Ceil(f.RetryAfter.Seconds())))
	}
	return r
}

var errorsReplaced sync.Once

// replaceErrors makes huma speak the contract's envelope. huma keeps this in a
// variable of its package, so it is done once for the process.
func replaceErrors() {
	errorsReplaced.Do(func() {
		huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
			return badInput(status, message, "", errs)
		}
		huma.NewErrorWithContext = func(ctx huma.Context, status int, message string, errs ...error) huma.StatusError {
			if ctx == nil {
				return badInput(status, message, "", errs)
			}
			return badInput(status, message, requestOf(ctx.Context()), errs)
		}
	})
}

// maxDetails is how many wrong fields are named at once.
const maxDetails = 100

// badInput turns what huma found wrong with a request into a fault that names
// every field.
func badInput(status int, message, request string, errs []error) *refusal {
	code := fault.Invalid
	switch status {
	case http.StatusRequestEntityTooLarge:
		code, message = fault.TooLarge, "The body is too large for this request. Send less at once."
	case http.StatusUnsupportedMediaType:
		code, message = fault.UnsupportedType, "The body must be JSON: send Content-Type: application/json."
	case http.StatusRequestTimeout, http.StatusInternalServerError: // which is all that the second can mean: handlers fail by refuse
		message, errs = "The body did not come whole. Send it again.", nil
	}
	if len(errs) == 0 && message == "request body is required" {
		message = "The request needs a JSON body."
	}
	fields := fault.Fields{}
	for _, e := range errs {
		if len(fields) == maxDetails {
			break
		}
		field, what := fieldOf(e)
		fields.Add(field, "%s", what)
	}
	if what, broken := fields["body"]; broken { // then nothing else was understood
		fields = fault.Fields{"body": what}
	}
	f := fault.New(code, "%s", sentence(message))
	if code == fault.Invalid && len(fields) > 0 {
		f = fault.From(fields.Err())
	}
	if len(fields) == maxDetails {
		f.Message = fmt.Sprintf("The request is invalid; details names the first %d fields.", maxDetails)
	}
	return &refusal{ErrorEnvelope: envelope(f, request), status: statusOf(code)}
}

// fieldOf reads huma's word about a field. The value it found is never repeated:
// it may be a secret.
func fieldOf(err error) (field, what string) {
	var ours fieldError
	if errors.As(err, &ours) {
		return ours.field, ours.what
	}
	var d *huma.ErrorDetail
	if !errors.As(err, &d) {
		return "body", "is no JSON that this request takes"
	}
	field = d.Location
	for _, place := range []string{"body.", "query.", "path.", "header."} {
		field = strings.TrimPrefix(field, place)
	}
	if name, ok := strings.CutPrefix(d.Message, "expected required property "); ok {
		name = strings.TrimSuffix(name, " to be present")
		if field == "body" || field == "" {
			return name, "is required"
		}
		return field + "." + name, "is required"
	}
	if field == "body" {
		return field, "is no JSON that this request takes: " + d.Message
	}
	return field, inWords(d.Message)
}

// inWords turns huma's word about a value into one that says what to do.
func inWords(message string) string {
	switch message {
	case "unexpected property":
		return "is not a field of this request: remove it"
	case "required query parameter is missing", "required header parameter is missing":
		return "is required"
	case "unknown query parameter":
		return "is not a parameter of this request: remove it"
	case "expected boolean":
		return "must be true or false"
	case "expected integer", "invalid integer":
		return "must be a whole number"
	case "expected string", "expected object", "expected array", "expected number":
		return "must be of type " + strings.TrimPrefix(message, "expected ")
	}
	for _, w := range []struct{ theirs, ours string }{
		{"expected value to be ", "must be "},
		{"expected string to be ", "must be "},
		{"expected number ", "must be a number "},
		{"expected length ", "must have a length "},
		{"expected ", "must be "},
	} {
		if rest, ok := strings.CutPrefix(message, w.theirs); ok {
			return w.ours + rest
		}
	}
	return "is not understood: " + message
}

func sentence(message string) string {
	if message == "" {
		return "The request is invalid."
	}
	return strings.ToUpper(message[:1]) + strings.TrimSuffix(message[1:], ".") + "."
}
