// Package fault says how a request may fail. Every failure that a caller can act
// on is a *Fault; any other error is internal, and the caller is shown only a
// request id.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Code is the stable, machine-readable name of a failure.
type Code string

// The codes of the contract, and ours.
const (
	Invalid         Code = "invalid_request"
	Unauthorized    Code = "unauthorized"
	Forbidden       Code = "forbidden"
	PlanLimit       Code = "plan_limit"
	NotFound        Code = "not_found"
	Conflict        Code = "conflict"
	NotRunning      Code = "agent_not_running"
	TooLarge        Code = "payload_too_large"
	UnsupportedType Code = "unsupported_media_type"
	RateLimited     Code = "rate_limited"
	Internal        Code = "internal_error"
	Upstream        Code = "upstream_error"
	UpstreamTimeout Code = "upstream_timeout"
	Unavailable     Code = "unavailable"
)

// Fault is a failure that the caller is told about. Message is a sentence that
// says what to do; Details names each thing that is wrong, or what the caller
// needs to try again.
type Fault struct {
	Code       Code
	Message    string
	Details    map[string]string
	RetryAfter time.Duration // 0: not said
	cause      error
}

// New makes a fault with a formatted message.
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

// Unwrap returns the cause, which is logged and never shown.
func (f *Fault) Unwrap() error { return f.cause }

// Because returns a copy of f that remembers its cause for the log.
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

// From returns the fault in err's chain, or an Internal one that wraps err.
func From(err error) *Fault {
	var f *Fault
	if errors.As(err, &f) {
		return f
	}
	return New(Internal, "Something failed inside agento. Give the request id to the operator.").Because(err)
}

// Is says whether err is a fault of that code.
func Is(err error, code Code) bool {
	var f *Fault
	return errors.As(err, &f) && f.Code == code
}

// Fields collects what is wrong with an input, so that every broken field is
// named at once.
type Fields map[string]string

// Add notes what is wrong with a field; the first word on a field stands.
func (f Fields) Add(field, format string, args ...any) {
	if _, ok := f[field]; !ok {
		f[field] = fmt.Sprintf(format, args...)
	}
}

// Err returns nil if nothing was added, else an Invalid fault.
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
