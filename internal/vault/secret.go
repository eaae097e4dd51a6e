package vault

import (
	"fmt"
	"log/slog"

	"agento.host/agento/internal/provider"
)

// hidden is printed in place of the value of a Secret.
const hidden = "[secret]"

// Secret is a value that must not be printed. It prints as [secret] in logs, JSON and
// with every fmt verb; only Reveal returns it.
type Secret struct {
	value  string
	origin provider.Origin
}

// NewSecret returns a Secret with a value.
func NewSecret(value string) Secret { return Secret{value: value} }

// For returns the secret as a credential that may be sent to an origin.
func (s Secret) For(o provider.Origin) Secret { return Secret{s.value, o} }

// Origin returns the only origin that the secret may be sent to as a credential. It is
// empty for a secret that is none.
func (s Secret) Origin() provider.Origin { return s.origin }

// Reveal returns the value. Call it only where the value is used.
func (s Secret) Reveal() string { return s.value }

// Empty reports whether the value is empty.
func (s Secret) Empty() bool { return s.value == "" }

// String implements fmt.Stringer.
func (Secret) String() string { return hidden }

// Format implements fmt.Formatter, so that %x, %q and %#v hide it too.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hidden)) }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText implements encoding.TextMarshaler, which JSON uses too.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }
