package api

import (
	"time"

	"github.com/danielgtaylor/huma/v2"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
)

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

// details turns an Invalid fault into what huma collects with its own findings.
func details(err error) []error {
	if err == nil || !fault.Is(err, fault.Invalid) {
		return nil // any other failure comes again when the request is served
	}
	var all []error
	for field, what := range fault.From(err).Details {
		all = append(all, &huma.ErrorDetail{Location: "body." + field, Message: what})
	}
	return all
}
