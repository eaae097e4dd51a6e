package client

import (
	"bytes"
	"encoding/json"
)

// Optional tells three things apart in a PATCH body: a field that is absent (not
// Set), null (Set and Null), or a value. The zero Optional is absent; give its
// field the tag `json:",omitzero"`.
type Optional[T any] struct {
	Set, Null bool
	Value     T
}

// Some is a field with a value.
func Some[T any](v T) Optional[T] { return Optional[T]{Set: true, Value: v} }

// Null is a field that is to be cleared.
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

// IsZero makes omitzero leave an absent field out.
func (o Optional[T]) IsZero() bool { return !o.Set }
