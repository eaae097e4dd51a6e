package rest

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"agento.host/agento/internal/fault"
)

const (
	// defaultHeartbeat is the time between comments on a silent stream.
	defaultHeartbeat = 15 * time.Second
	// waitingHeartbeat is that of a stream that says what it waits for.
	waitingHeartbeat = 5 * time.Second
	// writeTimeout is how long one write may wait for the client.
	writeTimeout = 30 * time.Second
)

// Stream is a response of server-sent events.
type Stream struct {
	// Header is added to the response, also if that is an error. It may be nil.
	Header http.Header

	// Serve writes the events and returns when the stream is complete. Its context
	// ends with the request, when the server shuts down, and when the caller may not read
	// on. No event is written after that but Fail's.
	Serve func(context.Context, *Events) error

	// Fail writes the last event if Serve fails after the first; nil means that the
	// stream just ends. If Serve fails before its first event, the response is an
	// ordinary error.
	Fail func(*Events, *fault.Fault)

	// Waiting returns what the stream waits for, as one line of text: a comment of a silent
	// stream says it. Empty, or a nil Waiting, means that there is nothing to say.
	Waiting func() string
}

// Events writes server-sent events. The response begins with the first event, so
// that an earlier failure can still be answered with an error body, or with the
// first heartbeat, so that a client behind a proxy does not give up on a slow agent.
type Events struct {
	w   http.ResponseWriter
	ctl *http.ResponseController

	mu     sync.Mutex
	timer  *time.Timer // writes the next heartbeat; guarded by mu
	last   time.Time   // when something was written; guarded by mu
	begun  bool        // guarded by mu
	closed bool        // guarded by mu
	err    error       // the first failed write; guarded by mu

	ended <-chan struct{} // closed when nothing more may be sent; used by the sender only
	buf   []byte          // used by the sender only
}

func (a *API) streamResponse(s *Stream) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		r, w := humago.Unwrap(hc)
		if started, ok := r.Context().Value(startedStream{}).(**Stream); ok {
			maps.Copy(w.Header(), s.Header)
			*started = s
			return
		}
		a.serveStream(w, r, s)
	}}
}

func (a *API) serveStream(w http.ResponseWriter, r *http.Request, s *Stream) {
	if r.Method == http.MethodHead {
		writeStreamHeader(w) // without a body there is nothing to wait for
		return
	}
	maps.Copy(w.Header(), s.Header)
	allowed, cancel := a.whileAllowed(r.Context())
	defer cancel()
	ctx, stop := context.WithCancel(allowed)
	defer stop()
	defer context.AfterFunc(a.draining, stop)()
	heartbeat := a.heartbeat
	if s.Waiting != nil {
		heartbeat = min(heartbeat, waitingHeartbeat)
	}
	out := newEvents(w, heartbeat, s.Waiting)
	out.ended = ctx.Done()
	defer out.close() // also if Serve panics: otherwise the heartbeats would never end
	err := s.Serve(ctx, out)
	begun := out.close()
	if refused := context.Cause(allowed); err != nil && fault.From(refused).Code != fault.Internal {
		err = refused
	}
	switch {
	case err == nil || r.Context().Err() != nil: // complete, or the client has disconnected
	case !begun:
		a.writeError(w, r, err)
	default:
		if f := a.logError(r.Context(), err); s.Fail != nil {
			out.ended = nil
			s.Fail(out, f)
		}
	}
}

// newEvents returns a writer of events that writes a comment whenever nothing was written for
// the time of a heartbeat.
func newEvents(w http.ResponseWriter, heartbeat time.Duration, waiting func() string) *Events {
	out := &Events{w: w, ctl: http.NewResponseController(w), last: time.Now()}
	out.mu.Lock()
	defer out.mu.Unlock()
	out.timer = time.AfterFunc(heartbeat, func() {
		comment := "ping"
		if waiting != nil {
			comment = cmp.Or(waiting(), comment)
		}
		out.mu.Lock()
		defer out.mu.Unlock()
		if out.closed {
			return
		}
		if silent := time.Since(out.last); silent < heartbeat {
			out.timer.Reset(heartbeat - silent)
			return
		}
		// Without an empty line, which some clients take for an event without data.
		out.writeLocked([]byte(": " + comment + "\n"))
		out.timer.Reset(heartbeat)
	})
	return out
}

func writeStreamHeader(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no") // nginx would buffer the events
	w.WriteHeader(http.StatusOK)
}

// close ends the heartbeats and reports whether the response has begun.
func (e *Events) close() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.timer.Stop()
	return e.begun
}

// Begin sends the headers without waiting for an event.
func (e *Events) Begin() error { return e.write(nil) }

// Send writes one event of JSON and flushes it.
func (e *Events) Send(event any) error {
	body, err := json.Marshal(event)
	if err != nil {
		return err
	}
	return e.SendLine(body)
}

// SendNumbered is Send with an id before the event, by which the client can resume.
func (e *Events) SendNumbered(id int64, event any) error {
	body, err := json.Marshal(event)
	if err != nil {
		return err
	}
	e.buf = append(strconv.AppendInt(append(e.buf[:0], "id: "...), id, 10), '\n')
	return e.writeEvent(body)
}

// SendLine writes one event that is a single line of text and flushes it.
func (e *Events) SendLine(text []byte) error {
	e.buf = e.buf[:0]
	return e.writeEvent(text)
}

// writeEvent writes the lines in buf and the data of the event.
func (e *Events) writeEvent(data []byte) error {
	e.buf = append(append(append(e.buf, "data: "...), data...), "\n\n"...)
	return e.write(e.buf)
}

// write writes and flushes. After the first failure it only returns that error.
func (e *Events) write(b []byte) error {
	select {
	case <-e.ended:
		return context.Canceled
	default:
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.writeLocked(b)
	return e.err
}

// writeLocked is write for a caller that holds mu.
func (e *Events) writeLocked(b []byte) {
	if e.err != nil {
		return
	}
	if !e.begun {
		writeStreamHeader(e.w)
		e.begun = true
	}
	e.last = time.Now()
	_ = e.ctl.SetWriteDeadline(time.Now().Add(writeTimeout)) // refused only by writers without a connection
	if _, e.err = e.w.Write(b); e.err == nil {
		e.err = e.ctl.Flush()
	}
}
