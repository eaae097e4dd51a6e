// Package accesslog writes a line for each request of the API.
package accesslog

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
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

// Log writes lines, as the handlers of log/slog do. These take two to three times as long for
// a line, which is more than the log may cost of a cheap request. It is safe for concurrent use.
type Log struct {
	json bool
	out  *buffer
}

// New returns a log that writes lines to w in a format: text (as slog writes it) or json.
func New(w io.Writer, format string) (*Log, error) {
	if format != "text" && format != "json" {
		return nil, fmt.Errorf("the format of the access log is text or json, not %q", format)
	}
	return &Log{format == "json", &buffer{out: w, w: bufio.NewWriterSize(w, bufferSize)}}, nil
}

// Write adds a line. It is written within 100 ms, or dropped if that fails: no request
// fails because its line cannot be written.
func (l *Log) Write(line Line) {
	l.out.mu.Lock()
	defer l.out.mu.Unlock()
	b := l.begin(l.out.spaceLocked(), "time")
	b = l.appendTime(b, time.Now())
	b = l.text(l.name(b, "level"), "INFO")
	b = l.text(l.name(b, "msg"), "request")
	b = l.text(l.name(b, "method"), line.Method)
	b = l.text(l.name(b, "route"), line.Route)
	b = strconv.AppendInt(l.name(b, "status"), int64(line.Status), 10)
	b = strconv.AppendFloat(l.name(b, "ms"), float64(line.Duration.Microseconds())/1000, 'f', -1, 64)
	b = l.text(l.name(b, "account"), line.Account)
	b = l.text(l.name(b, "key"), line.Key)
	b = l.text(l.name(b, "request"), line.Request)
	if l.json {
		b = append(b, '}')
	}
	_, _ = l.out.w.Write(append(b, '\n'))
}

// begin appends the name of the first field.
func (l *Log) begin(b []byte, name string) []byte {
	if l.json {
		return append(append(append(b, `{"`...), name...), `":`...)
	}
	return append(append(b, name...), '=')
}

// name appends the name of a further field.
func (l *Log) name(b []byte, name string) []byte {
	if l.json {
		return append(append(append(b, `,"`...), name...), `":`...)
	}
	return append(append(append(b, ' '), name...), '=')
}

func (l *Log) appendTime(b []byte, at time.Time) []byte {
	if l.json {
		return append(at.AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
	}
	return at.AppendFormat(b, "2006-01-02T15:04:05.000Z07:00")
}

// text appends a text, quoted where the format needs it.
func (l *Log) text(b []byte, text string) []byte {
	switch {
	case !isPlain(text):
		if l.json {
			b, _ = jsontext.AppendQuote(b, text) // an error means that the text was no UTF-8, which it repairs
			return b
		}
		return strconv.AppendQuote(b, text)
	case l.json:
		return append(append(append(b, '"'), text...), '"')
	case text == "":
		return append(b, `""`...)
	}
	return append(b, text...)
}

// isPlain reports whether a text has no character that needs quotes or escapes in one of the
// formats.
func isPlain(text string) bool {
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '=' {
			return false
		}
	}
	return true
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

// spaceLocked returns the space for a line, and schedules that it is written. The caller holds
// mu.
func (b *buffer) spaceLocked() []byte {
	if !b.due {
		b.due = true
		time.AfterFunc(flushInterval, func() { _ = b.flush() })
	}
	return b.w.AvailableBuffer()
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
