package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
)

// maxValues is more than any request needs: 100 chunks of knowledge with 2,000
// values each.
const maxValues = 200_000

// readJSON decodes a body. Left to itself encoding/json would put a replacement
// character for what is no text, and make gigabytes of a few megabytes of [{},{},….
func readJSON(data []byte, v any) error {
	if !utf8.Valid(data) {
		return errors.New("it is not valid UTF-8")
	}
	if countValues(data) > maxValues {
		return fmt.Errorf("it has more than %d values", maxValues)
	}
	return json.Unmarshal(data, v)
}

// countValues counts, without decoding, what begins a value of a JSON text.
func countValues(data []byte) int {
	n, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case !inString && (c == ',' || c == '[' || c == '{'):
			n++
		}
	}
	return n
}

// parseTime reads an RFC 3339 time; an empty one is the zero time.
func parseTime(field, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, fault.Fields{field: "must be an RFC 3339 time such as 2026-02-10T14:00:00.000Z"}.Err()
	}
	return t, nil
}

// page is one part of a list that the database counts.
func page[T any](rows []T, total, limit, offset int) *listReply[T] {
	return &listReply[T]{Body: client.List[T]{Data: rows, Pagination: client.Pagination{Total: total, Limit: limit, Offset: offset}}}
}

// parseCursor reads where a list is to go on; nothing is its beginning.
func parseCursor(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	at, err := strconv.ParseInt(text, 10, 64)
	if err != nil || at < 1 {
		return 0, fault.Fields{"offset": "must be the nextOffset of the page before"}.Err()
	}
	return at, nil
}

// cursorPage is one part of a list that goes on at next; 0: it does not.
func cursorPage[T any](rows []T, next int64) *cursorReply[T] {
	c := client.Cursor{HasMore: next > 0}
	if c.HasMore {
		c.NextOffset = orNull(strconv.FormatInt(next, 10))
	}
	return &cursorReply[T]{Body: client.CursorList[T]{Data: rows, Pagination: c}}
}

type cursorReply[T any] struct{ Body client.CursorList[T] }

// details turns an Invalid fault into what huma collects with its own findings.
func details(err error) []error {
	if err == nil || !fault.Is(err, fault.Invalid) {
		return nil // any other failure comes again when the request is served
	}
	var all []error
	for field, what := range fault.From(err).Details {
		all = append(all, fieldError{field, what})
	}
	return all
}

// fieldError is what a room finds wrong with a field, in the words of the room.
type fieldError struct{ field, what string }

// Error implements error.
func (e fieldError) Error() string { return e.field + " " + e.what }
