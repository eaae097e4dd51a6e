package fake

import (
	"context"
	"io"
	"strings"
	"sync"
)

// kept is how many lines stay, at least.
const kept = 10_000

// lines is a log in memory.
type lines struct {
	mu     sync.Mutex
	first  int           // number of all[0]; guarded by mu
	all    []string      // guarded by mu
	more   chan struct{} // closed when a line comes; guarded by mu
	closed bool          // guarded by mu
}

func newLines() *lines { return &lines{more: make(chan struct{})} }

func (l *lines) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.all = append(l.all, strings.Split(line, "\n")...)
	if len(l.all) > 2*kept { // seldom, so that a line costs little
		over := len(l.all) - kept
		l.all, l.first = append([]string(nil), l.all[over:]...), l.first+over
	}
	close(l.more)
	l.more = make(chan struct{})
}

// close ends the log; readers see the end.
func (l *lines) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		close(l.more)
	}
}

func (l *lines) read(ctx context.Context, tail int, follow bool) io.ReadCloser {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := l.first
	if tail >= 0 {
		from = max(from, l.first+len(l.all)-tail)
	}
	ctx, cancel := context.WithCancel(ctx)
	return &lineReader{log: l, ctx: ctx, cancel: cancel, at: from, until: l.first + len(l.all), follow: follow}
}

type lineReader struct {
	log       *lines
	ctx       context.Context
	cancel    context.CancelFunc
	at, until int
	follow    bool
	rest      string
}

// Close implements io.Closer.
func (r *lineReader) Close() error {
	r.cancel()
	return nil
}

// Read implements io.Reader.
func (r *lineReader) Read(p []byte) (int, error) {
	for r.rest == "" {
		more, ok := r.next()
		if r.ctx.Err() != nil || !ok {
			return 0, io.EOF
		}
		if r.rest != "" {
			break
		}
		select {
		case <-more:
		case <-r.ctx.Done():
			return 0, io.EOF
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// next takes the next line; if there is none yet, more tells when there is.
func (r *lineReader) next() (more <-chan struct{}, ok bool) {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	r.at = max(r.at, r.log.first)
	if r.at < r.log.first+len(r.log.all) && (r.follow || r.at < r.until) {
		r.rest = r.log.all[r.at-r.log.first] + "\n"
		r.at++
		return nil, true
	}
	return r.log.more, r.follow && !r.log.closed
}
