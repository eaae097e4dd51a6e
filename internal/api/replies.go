package api

import (
	"strconv"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
)

// reply is a response with one value.
type reply[T any] struct{ Body client.Data[T] }

func one[T any](v T) *reply[T] { return &reply[T]{Body: client.Data[T]{Data: v}} }

// listReply is a response with a list, or one page of it, that has a known length.
type listReply[T any] struct{ Body client.List[T] }

// page returns one page of a list of total rows.
func page[T any](rows []T, total, limit, offset int) *listReply[T] {
	return &listReply[T]{Body: client.List[T]{Data: rows, Pagination: client.Pagination{Total: total, Limit: limit, Offset: offset, HasMore: offset+len(rows) < total}}}
}

// whole returns a list that is not paged.
func whole[T any](rows []T) *listReply[T] { return page(rows, len(rows), lengthAsLimit(rows), 0) }

// lengthAsLimit returns the limit of a list that has all rows. It is never 0: clients
// divide by it.
func lengthAsLimit[T any](rows []T) int { return max(len(rows), 1) }

// cursorReply is a response with one page of a list that is paged by a cursor.
type cursorReply[T any] struct{ Body client.CursorList[T] }

// cursorPage returns one page. next is the cursor of the following page; empty at
// the end of the list.
func cursorPage[T any](rows []T, next string) *cursorReply[T] {
	return &cursorReply[T]{Body: client.CursorList[T]{Data: rows, Pagination: client.Cursor{NextOffset: orNull(next), HasMore: next != ""}}}
}

// cursor returns the cursor of the page that begins at a number; 0 means none.
func cursor(next int64) string {
	if next <= 0 {
		return ""
	}
	return strconv.FormatInt(next, 10)
}

// parseCursor parses a cursor. An empty one is the beginning of the list.
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

// orNull returns nil, which JSON shows as null, for an empty text.
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// orEmpty returns an empty list for a nil one, which JSON would show as null.
func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
