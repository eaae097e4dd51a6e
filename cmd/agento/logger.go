package main

import (
	"context"
	"log/slog"

	"agento.host/agento/internal/rest"
)

func logger(t *terminal, level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil { // the enum of the flag prevents it
		l = slog.LevelInfo
	}
	return slog.New(requestHandler{slog.NewTextHandler(t.err, &slog.HandlerOptions{Level: l})})
}

// requestHandler adds the id of the request that caused a line.
type requestHandler struct{ slog.Handler }

// Handle implements slog.Handler.
func (h requestHandler) Handle(ctx context.Context, r slog.Record) error {
	id := rest.RequestID(ctx)
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "request" {
			id = "" // the line has it
		}
		return true
	})
	if id != "" {
		r = r.Clone()
		r.AddAttrs(slog.String("request", id))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h requestHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return requestHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h requestHandler) WithGroup(name string) slog.Handler {
	return requestHandler{h.Handler.WithGroup(name)}
}
