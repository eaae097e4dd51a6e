// Package accesslog writes a line for each request of the API.
package accesslog

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	// bufferSize is how many bytes wait to be written together: a system call for each
	// line would take longer than the line.
	bufferSize = 64 << 10
	// flushInterval is how long a line waits at most.
	flushInterval = 100 * time.Millisecond
)

// Line is what the log says of a request. It has no path, query, header or body: they may
// contain texts and secrets.
type Line struct {
	Method   string
	Route    string // the pattern of its path; empty if no route has the path
	Status   int    // 0, if the connection was broken before the response
	Duration time.Duration
	Account  string // empty: the caller is not known
	Key      string // id of the API key
	Request  string // id of the request
}

// Log writes lines. It is safe for concurrent use.
type Log struct {
	handler slog.Handler
	out     *buffer
}

// New returns a log that writes lines to w in a format: text (as slog writes it) or json.
func New(w io.Writer, format string) (*Log, error) {
	out := &buffer{out: w, w: bufio.NewWriterSize(w, bufferSize)}
	switch format {
	case "text":
		return &Log{slog.NewTextHandler(out, nil), out}, nil
	case "json":
		return &Log{slog.NewJSONHandler(out, nil), out}, nil
	}
	return nil, fmt.Errorf("the format of the access log is text or json, not %q", format)
}

// Write adds a line. It is written within 100 ms, or dropped if that fails: no request
// fails because its line cannot be written.
func (l *Log) Write(line Line) {
	r := slog.NewRecord(time.Now(), slog.LevelInfo, "request", 0)
	r.AddAttrs(
		slog.String("method", line.Method), slog.String("route", line.Route), slog.Int("status", line.Status),
		slog.Float64("ms", float64(line.Duration.Microseconds())/1000),
		slog.String("account", line.Account), slog.String("key", line.Key), slog.String("request", line.Request))
	_ = l.handler.Handle(context.Background(), r)
}

// Close writes the lines that wait.
func (l *Log) Close() error { return l.out.flush() }

// buffer is a writer that flushes some time after the first byte.
type buffer struct {
	out io.Writer
	mu  sync.Mutex
	w   *bufio.Writer // guarded by mu
	due bool          // a flush was scheduled; guarded by mu
}

// Write implements io.Writer.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.due {
		b.due = true
		time.AfterFunc(flushInterval, func() { _ = b.flush() })
	}
	return b.w.Write(p)
}

func (b *buffer) flush() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.due = false
	err := b.w.Flush()
	if err != nil {
		b.w.Reset(b.out) // a bufio.Writer keeps its first error for good
	}
	return err
}
