package fake

import (
	"context"
	"io"
	"strings"
	"sync"
)

// keepLines is the minimum number of lines that are kept.
const keepLines = 10_000

// logLines is a log in memory.
type logLines struct {
	mu     sync.Mutex
	first  int           // number of lines[0]; guarded by mu
	lines  []string      // guarded by mu
	more   chan struct{} // closed when a line is added; guarded by mu
	closed bool          // guarded by mu
}

func newLogLines() *logLines { return &logLines{more: make(chan struct{})} }

func (l *logLines) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.lines = append(l.lines, strings.Split(line, "\n")...)
	if len(l.lines) > 2*keepLines { // rarely, so that adding a line stays cheap
		over := len(l.lines) - keepLines
		l.lines, l.first = append([]string(nil), l.lines[over:]...), l.first+over
	}
	close(l.more)
	l.more = make(chan struct{})
}

// close ends the log. Readers get EOF.
func (l *logLines) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		close(l.more)
	}
}

func (l *logLines) read(ctx context.Context, tail int, follow bool) io.ReadCloser {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := l.first
	if tail >= 0 {
		from = max(from, l.first+len(l.lines)-tail)
	}
	ctx, cancel := context.WithCancel(ctx)
	return &lineReader{log: l, ctx: ctx, cancel: cancel, at: from, until: l.first + len(l.lines), follow: follow}
}

type lineReader struct {
	log       *logLines
	ctx       context.Context
	cancel    context.CancelFunc
	at, until int
	follow    bool
	unread    string
}

// Close implements io.Closer.
func (r *lineReader) Close() error {
	r.cancel()
	return nil
}

// Read implements io.Reader.
func (r *lineReader) Read(p []byte) (int, error) {
	for r.unread == "" {
		more, ok := r.next()
		if r.ctx.Err() != nil || !ok {
			return 0, io.EOF
		}
		if r.unread != "" {
			break
		}
		select {
		case <-more:
		case <-r.ctx.Done():
			return 0, io.EOF
		}
	}
	n := copy(p, r.unread)
	r.unread = r.unread[n:]
	return n, nil
}

// next reads the next line into unread. If there is none yet, it returns a channel
// that is closed when there is. It returns false at the end of the log.
func (r *lineReader) next() (more <-chan struct{}, ok bool) {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	r.at = max(r.at, r.log.first)
	if r.at < r.log.first+len(r.log.lines) && (r.follow || r.at < r.until) {
		r.unread = r.log.lines[r.at-r.log.first] + "\n"
		r.at++
		return nil, true
	}
	return r.log.more, r.follow && !r.log.closed
}
