package budget

import (
	"errors"
	"io"
	"net/http"
	"time"
)

const (
	// stallTime is how long the other end may neither send nor take anything.
	stallTime = 30 * time.Second
	// minBodyRate is how fast a body must come after the first stallTime, in bytes a second.
	// Without it, one byte in each stallTime would keep the request for ever.
	minBodyRate = 16 << 10
	// maxWrite is how much is written under one deadline, so that a slow reader of a long
	// answer is not taken for one that does not read.
	maxWrite = 64 << 10
)

// Timed bounds how long a request waits for its client: a body must keep coming, and what
// is written must be taken. There is no limit on the time of a whole response, so that
// streams last as long as they are read.
//
// net/http reads a body to its end before it answers, even if nobody takes it, and waits
// for it for ever unless there is a deadline.
func Timed(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, *http.Request) {
	ctl := http.NewResponseController(w)
	if r.Body != nil && r.Body != http.NoBody {
		began := time.Now()
		body := &timedBody{ReadCloser: r.Body, ctl: ctl, began: began}
		body.extend(began)
		timed := *r
		timed.Body = body
		r = &timed
	}
	return &timedWriter{ResponseWriter: w, ctl: ctl}, r
}

// TimedHandler serves every request of h as Timed.
func TimedHandler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(Timed(w, r))
	})
}

// timedBody moves the read deadline while the body comes, and lifts it at its end. Left in
// place, the deadline would end the request's context when it passes: net/http goes on
// reading, to notice a client that disconnects.
type timedBody struct {
	io.ReadCloser
	ctl   *http.ResponseController
	began time.Time
	read  int64
}

// Read implements io.Reader.
func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	switch {
	case errors.Is(err, io.EOF):
		_ = b.ctl.SetReadDeadline(time.Time{}) // refused only by writers without a connection
	case n > 0:
		b.extend(time.Now())
	}
	return n, err
}

func (b *timedBody) extend(now time.Time) {
	deadline := b.began.Add(stallTime + time.Duration(b.read)*time.Second/minBodyRate)
	if stalled := now.Add(stallTime); stalled.Before(deadline) {
		deadline = stalled
	}
	_ = b.ctl.SetReadDeadline(deadline) // as above
}

// timedWriter moves the write deadline before each piece. net/http lifts it after the
// response.
type timedWriter struct {
	http.ResponseWriter
	ctl *http.ResponseController
}

// Write implements http.ResponseWriter.
func (w *timedWriter) Write(p []byte) (int, error) {
	written := 0
	for {
		piece := p[written:min(written+maxWrite, len(p))]
		_ = w.ctl.SetWriteDeadline(time.Now().Add(stallTime)) // refused only by writers without a connection
		n, err := w.ResponseWriter.Write(piece)
		if written += n; err != nil || written == len(p) {
			return written, err
		}
	}
}

// Unwrap lets http.ResponseController reach the connection.
func (w *timedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
