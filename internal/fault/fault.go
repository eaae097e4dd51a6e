// Package fault defines the failures of requests. Every failure that a caller can act on
// is a *Fault. Any other error is internal: the caller sees only a request id.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Code is the stable, machine-readable name of a failure.
type Code string

// The codes. docs/errors.md lists them with their status.
const (
	Invalid         Code = "invalid_request"
	Unauthorized    Code = "unauthorized"
	Forbidden       Code = "forbidden"
	PlanLimit       Code = "plan_limit"
	NotFound        Code = "not_found"
	Conflict        Code = "conflict"
	KeyReused       Code = "idempotency_conflict"
	NotRunning      Code = "agent_not_running"
	TooLarge        Code = "payload_too_large"
	UnsupportedType Code = "unsupported_media_type"
	RateLimited     Code = "rate_limited"
	Internal        Code = "internal_error"
	Upstream        Code = "upstream_error"
	UpstreamTimeout Code = "upstream_timeout"
	Unavailable     Code = "unavailable"
)

// Fault is a failure that is reported to the caller. Message is a sentence that tells
// what to do. Details has an entry for each invalid field, or what the caller needs to
// try again.
type Fault struct {
	Code       Code
	Message    string
	Details    map[string]string
	RetryAfter time.Duration // 0: unknown
	expected   bool
	cause      error
}

// New returns a fault with a formatted message.
func New(code Code, format string, args ...any) *Fault {
	return &Fault{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error implements error.
func (f *Fault) Error() string {
	if f.cause != nil {
		return fmt.Sprintf("%s: %s: %v", f.Code, f.Message, f.cause)
	}
	return fmt.Sprintf("%s: %s", f.Code, f.Message)
}

// Unwrap returns the cause, which is logged and never sent to the caller.
func (f *Fault) Unwrap() error { return f.cause }

// Because returns a copy of f with a cause for the log.
func (f *Fault) Because(err error) *Fault {
	c := *f
	c.cause = err
	return &c
}

// With returns a copy of f with one more detail.
func (f *Fault) With(name, value string) *Fault {
	c := *f
	c.Details = make(map[string]string, len(f.Details)+1)
	for k, v := range f.Details {
		c.Details[k] = v
	}
	c.Details[name] = value
	return &c
}

// Expected returns a copy of f whose failure leaves the operator of the installation nothing
// to repair, such as that of a model provider which an account has chosen, or of a request
// that its client has left.
func (f *Fault) Expected() *Fault {
	c := *f
	c.expected = true
	return &c
}

// NeedsOperator reports whether only the operator of the installation can repair the
// failure: the server or what it depends on has failed, such as the disk, a registry or the
// embedding service.
func (f *Fault) NeedsOperator() bool {
	switch f.Code {
	case Internal, Upstream, UpstreamTimeout, Unavailable:
		return !f.expected
	}
	return false
}

// From returns the fault in err's chain, or an Internal one that wraps err.
func From(err error) *Fault {
	var f *Fault
	if errors.As(err, &f) {
		return f
	}
	return New(Internal, "Something failed inside agento. Give the request id to the operator.").Because(err)
}

// Is reports whether err is, or wraps, a fault with that code.
func Is(err error, code Code) bool {
	var f *Fault
	return errors.As(err, &f) && f.Code == code
}

// Fields collects what is wrong with the fields of an input, so that one fault names
// every invalid field.
type Fields map[string]string

// Add records what is wrong with a field. It ignores further problems of the same field.
func (f Fields) Add(field, format string, args ...any) {
	if _, ok := f[field]; !ok {
		f[field] = fmt.Sprintf(format, args...)
	}
}

// Err returns nil if nothing was added, and otherwise an Invalid fault.
func (f Fields) Err() error {
	if len(f) == 0 {
		return nil
	}
	message := "The request is invalid; details names each field."
	if len(f) == 1 {
		for k, v := range f {
			message = k + " " + v
		}
	}
	return &Fault{Code: Invalid, Message: message, Details: f}
}
