package api

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

const (
	// heartbeat is how often a silent stream says that it lives; the number.
	heartbeat = 15 * time.Second
	// writeTime is how long a reader may let one write wait.
	writeTime = 30 * time.Second
)

// stream writes server-sent events. It begins with the first event, so that what
// fails before can still be answered with an envelope, or with the first
// heartbeat, so that a client behind a proxy does not give up on a slow agent.
type stream struct {
	w   http.ResponseWriter
	ctl *http.ResponseController

	mu    sync.Mutex
	beat  *time.Timer // writes the next heartbeat; guarded by mu
	begun bool        // guarded by mu
	ended bool        // guarded by mu
	err   error       // the first failed write; guarded by mu

	buf []byte // of the sender alone
}

// streaming makes an answer of a function that writes events. If the function
// fails before its first event, the caller gets the envelope; after it, what last
// says.
func (s *Server) streaming(serve func(ctx context.Context, out *stream) error, last func(*stream, error)) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		r, w := humago.Unwrap(hc)
		if r.Method == http.MethodHead {
			streamHeader(w) // without a body there is nothing to wait for
			return
		}
		ctx, stop := s.untilDrain(r.Context())
		defer stop()
		out := openStream(w, s.Heartbeat)
		defer out.close() // also if serve panics: else the heartbeats would never end
		err := serve(ctx, out)
		begun := out.close()
		switch {
		case err == nil || r.Context().Err() != nil: // done, or the client has gone
		case !begun:
			s.fail(w, r, err)
		default:
			last(out, err)
		}
	}}
}

// openStream begins to write a heartbeat whenever so much time has passed.
func openStream(w http.ResponseWriter, heartbeat time.Duration) *stream {
	out := &stream{w: w, ctl: http.NewResponseController(w)}
	out.mu.Lock()
	defer out.mu.Unlock()
	out.beat = time.AfterFunc(heartbeat, func() {
		out.mu.Lock()
		defer out.mu.Unlock()
		if out.ended {
			return
		}
		out.put([]byte(": ping\n\n"))
		out.beat.Reset(heartbeat)
	})
	return out
}

func streamHeader(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no") // nginx would collect the events
	w.WriteHeader(http.StatusOK)
}

// close ends the heartbeats and says whether the stream had begun.
func (o *stream) close() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	o.beat.Stop()
	return o.begun
}

// begin sends the headers without waiting for an event.
func (o *stream) begin() error { return o.write(nil) }

// send writes one event of JSON and flushes it.
func (o *stream) send(event any) error {
	body, err := json.Marshal(event)
	if err != nil {
		return err
	}
	return o.line(body)
}

// line writes one event that is a single line of text.
func (o *stream) line(text []byte) error {
	o.buf = append(append(append(o.buf[:0], "data: "...), text...), "\n\n"...)
	return o.write(o.buf)
}

// write sends and flushes; after the first failure it does nothing but repeat it.
func (o *stream) write(b []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.put(b)
	return o.err
}

// put is write for one who holds mu.
func (o *stream) put(b []byte) {
	if o.err != nil {
		return
	}
	if !o.begun {
		streamHeader(o.w)
		o.begun = true
	}
	_ = o.ctl.SetWriteDeadline(time.Now().Add(writeTime)) // refused only by writers without a connection
	if _, o.err = o.w.Write(b); o.err == nil {
		o.err = o.ctl.Flush()
	}
}
