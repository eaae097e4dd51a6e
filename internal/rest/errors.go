package rest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strconv"
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
	case fault.Conflict, fault.NotRunning, fault.KeyReused:
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

// writeError logs an error and writes the contract's error body, or that of the foreign API.
func (a *API) writeError(w http.ResponseWriter, r *http.Request, err error) {
	f := a.logError(r.Context(), err)
	a.writeFault(w, r, statusOf(f.Code), f)
}

// logError logs an error and returns what the caller is shown of it. What only the operator
// can repair is a warning, and what nobody foresaw an error.
func (a *API) logError(ctx context.Context, err error) *fault.Fault {
	f := faultOf(ctx, a.explain(err))
	level := slog.LevelDebug
	switch {
	case f.Code == fault.Internal:
		level = slog.LevelError
	case f.NeedsOperator() && a.draining.Err() == nil:
		level = slog.LevelWarn
	}
	a.log.Log(ctx, level, "a request failed", "request", RequestID(ctx), "code", f.Code, "error", err)
	return f
}

// faultOf returns the fault of an error. It also knows the errors of an interrupted
// wait.
func faultOf(ctx context.Context, err error) *fault.Fault {
	f := fault.From(err)
	if f.Code != fault.Internal {
		return f
	}
	switch {
	case ctx.Err() != nil: // the client does not read it, and the server did not fail
		return fault.New(fault.Unavailable, "The client disconnected before the response.").Because(err).Expected()
	case errors.Is(err, context.DeadlineExceeded):
		return fault.New(fault.UpstreamTimeout, "The agent took too long. Try again.").Because(err)
	case errors.Is(err, context.Canceled):
		return fault.New(fault.Unavailable, "The server is shutting down. Try again in a moment.").Because(err).Expected()
	}
	return f
}

func (a *API) writeFault(w http.ResponseWriter, r *http.Request, status int, f *fault.Fault) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if after := retryAfter(f); after != "" {
		h.Set("Retry-After", after)
	}
	if foreign := a.foreignOf(r); foreign != nil {
		foreign.Fail(w, f, status)
		return
	}
	w.WriteHeader(status)
	encode(w, errorBody(f, RequestID(r.Context())))
}

// retryAfter returns the value of the Retry-After header; empty means no header.
func retryAfter(f *fault.Fault) string {
	if f.RetryAfter <= 0 {
		return ""
	}
	return strconv.FormatInt(int64(math.Ceil(f.RetryAfter.Seconds())), 10)
}

func errorBody(f *fault.Fault, request string) client.ErrorEnvelope {
	return client.ErrorEnvelope{Error: &client.Error{Code: string(f.Code), Message: f.Message, RequestID: request, Details: f.Details}}
}

// encode writes JSON. It ignores write errors: the client has disconnected.
func encode(w io.Writer, body any) {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(body)
}

// humaError is a fault in the form that huma writes.
type humaError struct {
	client.ErrorEnvelope
	status     int
	retryAfter string
}

// Error implements error.
func (e *humaError) Error() string { return e.ErrorEnvelope.Error.Message }

// GetStatus implements huma.StatusError.
func (e *humaError) GetStatus() int { return e.status }

// GetHeaders implements huma.HeadersError.
func (e *humaError) GetHeaders() http.Header {
	h := http.Header{}
	if e.retryAfter != "" {
		h.Set("Retry-After", e.retryAfter)
	}
	return h
}

// MarshalJSON implements json.Marshaler.
func (e *humaError) MarshalJSON() ([]byte, error) { return json.Marshal(&e.ErrorEnvelope) }

// errorResponse logs an error of a handler and returns it in the form that huma writes.
func (a *API) errorResponse(ctx context.Context, err error) error {
	f := a.logError(ctx, err)
	return &humaError{ErrorEnvelope: errorBody(f, RequestID(ctx)), status: statusOf(f.Code), retryAfter: retryAfter(f)}
}

var humaConfigured sync.Once

// configureHuma makes huma write the contract's error body, and take neither a name in
// another case nor null for a list. huma keeps this in variables of its package, so it is
// done once for the process.
func configureHuma() {
	humaConfigured.Do(func() {
		huma.ValidateStrictCasing = true
		huma.DefaultArrayNullable = false
		huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
			return translate(status, message, "", errs)
		}
		huma.NewErrorWithContext = func(ctx huma.Context, status int, message string, errs ...error) huma.StatusError {
			if ctx == nil {
				return translate(status, message, "", errs)
			}
			return translate(status, message, RequestID(ctx.Context()), errs)
		}
	})
}
