package client

import (
	"fmt"
	"strings"
	"time"
)

// timeLayout is RFC 3339 with milliseconds and Z.
const timeLayout = "2006-01-02T15:04:05.000Z"

// Time is a time in the form of the API: RFC 3339, UTC, with milliseconds.
type Time struct{ time.Time }

// NewTime returns t as a Time. For the zero time it returns nil, which JSON shows as
// null.
func NewTime(t time.Time) *Time {
	if t.IsZero() {
		return nil
	}
	return &Time{t}
}

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	return t.AppendJSON(make([]byte, 0, len(timeLayout)+2)), nil
}

// AppendJSON appends the JSON form of t to b.
func (t Time) AppendJSON(b []byte) []byte {
	u := t.UTC()
	b = u.AppendFormat(append(b, '"'), time.RFC3339) // package time has a fast path for this layout
	ms := u.Nanosecond() / int(time.Millisecond)
	return append(b[:len(b)-1], '.', '0'+byte(ms/100), '0'+byte(ms/10%10), '0'+byte(ms%10), 'Z', '"')
}

// UnmarshalJSON implements json.Unmarshaler. It accepts any RFC 3339 time.
func (t *Time) UnmarshalJSON(b []byte) error {
	v, err := time.Parse(time.RFC3339Nano, strings.Trim(string(b), `"`))
	if err != nil {
		return fmt.Errorf("not an RFC 3339 time: %s", b)
	}
	t.Time = v
	return nil
}
