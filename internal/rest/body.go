package rest

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"agento.host/agento/internal/fault"
)

// bodyStallTime is how long a client may send nothing of a body. After the first bytes,
// budget.Timed moves the deadline.
const bodyStallTime = 30 * time.Second

// maxUnusedBody is how much is read of a body that the route does not take;
// net/http reads no more either.
const maxUnusedBody = 256 << 10

// discardBody reads a body that the route does not take.
func discardBody(r *http.Request) {
	if r.Body != nil {
		_, _ = io.CopyN(io.Discard, r.Body, maxUnusedBody) // a broken body is not the route's concern
	}
}

// Checked is a body that the route's Check checks after the schema, so that one
// response names everything that is wrong with the request.
type Checked[T any] struct{ Value T }

// Check checks a decoded body by rules that no schema can state. It returns nil or
// an Invalid fault that names the fields; other errors are ignored, since they
// occur again when the request is handled.
type Check func(ctx context.Context, body any) error

// CheckBody returns a Check of bodies of type Checked[T].
func CheckBody[T any](check func(context.Context, T) error) Check {
	return func(ctx context.Context, body any) error { return check(ctx, *body.(*T)) }
}

// checkKey is where the metadata of an operation hold the route's Check.
const checkKey = "check"

// checkable is implemented by every Checked.
type checkable interface {
	Resolve(ctx huma.Context) []error
}

// Resolve implements huma.Resolver: huma calls it after it has validated the body,
// whether or not it found mistakes, and reports both together.
func (c *Checked[T]) Resolve(ctx huma.Context) []error {
	check, ok := ctx.Operation().Metadata[checkKey].(Check)
	if !ok {
		return nil
	}
	return fieldErrors(check(ctx.Context(), &c.Value))
}

// Schema implements huma.SchemaProvider: a checked body is described as its value.
func (c *Checked[T]) Schema(schemas huma.Registry) *huma.Schema { return schemaOf[T](schemas) }

// UnmarshalJSON implements json.Unmarshaler.
func (c *Checked[T]) UnmarshalJSON(b []byte) error { return decodeJSON(b, &c.Value) }

// fieldErrors returns the fields of an Invalid fault, as huma collects them.
func fieldErrors(err error) []error {
	if err == nil || !fault.Is(err, fault.Invalid) {
		return nil
	}
	var all []error
	for field, problem := range fault.From(err).Details {
		all = append(all, fieldError{field, problem})
	}
	return all
}

// fieldError is what a Check finds wrong with a field.
type fieldError struct{ field, problem string }

// Error implements error.
func (e fieldError) Error() string { return e.field + " " + e.problem }

// writeJSON returns the encoder of bodies.
func writeJSON(appendJSON func([]byte, any) ([]byte, bool)) func(io.Writer, any) error {
	if appendJSON == nil {
		return huma.DefaultJSONFormat.Marshal
	}
	return func(w io.Writer, body any) error {
		if b, ok := appendJSON(nil, body); ok {
			_, err := w.Write(append(b, '\n'))
			return err
		}
		return huma.DefaultJSONFormat.Marshal(w, body)
	}
}
