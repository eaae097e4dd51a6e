package client

import (
	"bytes"
	"encoding/json"
)

// Optional is a field of a PATCH body that is absent (not Set), null (Set and Null) or
// a value. The zero Optional is absent. Its field needs the tag `json:",omitzero"`.
type Optional[T any] struct {
	Set, Null bool
	Value     T
}

// Some returns a field with a value.
func Some[T any](v T) Optional[T] { return Optional[T]{Set: true, Value: v} }

// Null returns a field that is null, which clears it.
func Null[T any]() Optional[T] { return Optional[T]{Set: true, Null: true} }

// UnmarshalJSON implements json.Unmarshaler.
func (o *Optional[T]) UnmarshalJSON(b []byte) error {
	*o = Optional[T]{Set: true}
	if bytes.Equal(bytes.TrimSpace(b), []byte("null")) {
		o.Null = true
		return nil
	}
	return json.Unmarshal(b, &o.Value)
}

// MarshalJSON implements json.Marshaler.
func (o Optional[T]) MarshalJSON() ([]byte, error) {
	if !o.Set || o.Null {
		return []byte("null"), nil
	}
	return json.Marshal(o.Value)
}

// IsZero reports whether the field is absent, so that omitzero omits it.
func (o Optional[T]) IsZero() bool { return !o.Set }
