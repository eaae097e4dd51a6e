// Package inprocess sends HTTP requests to a handler of this process: no socket, no copy of
// the connection's limits. Responses are streamed, and a request that is cancelled, or whose
// response is closed, ends its handler's context.
package inprocess

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"sync"
)

// Transport is an http.RoundTripper whose requests are served by Handler.
type Transport struct {
	Handler http.Handler
}

// RoundTrip implements http.RoundTripper. It returns when the handler has written its header,
// or has ended.
func (t Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	served := r.Clone(ctx)
	served.RequestURI = r.URL.RequestURI()
	served.Proto, served.ProtoMajor, served.ProtoMinor = "HTTP/1.1", 1, 1
	served.Host = r.URL.Host
	if served.Body == nil {
		served.Body = http.NoBody
	}
	from, to := io.Pipe()
	w := &response{header: http.Header{}, body: to, started: make(chan struct{})}
	go t.serve(w, served)
	select {
	case <-w.started:
	case <-ctx.Done():
		err := ctx.Err()
		cancel()
		_ = from.CloseWithError(err) // never fails
		return nil, err
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", w.status, http.StatusText(w.status)), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: &body{from, cancel}, ContentLength: -1, Request: r,
	}, nil
}

// serve calls the handler and ends the response. A panic breaks the response off, as a
// server would.
func (t Transport) serve(w *response, r *http.Request) {
	defer func() {
		var err error
		if p := recover(); p != nil {
			err = io.ErrUnexpectedEOF
			if e, ok := p.(error); !ok || !errors.Is(e, http.ErrAbortHandler) {
				err = fmt.Errorf("panic in %s %s: %v\n%s", r.Method, r.URL.Path, p, debug.Stack())
			}
			w.start(http.StatusInternalServerError)
		}
		w.start(http.StatusOK)
		_ = w.body.CloseWithError(err) // never fails
		_ = r.Body.Close()             // what the handler has not read is of no use
	}()
	t.Handler.ServeHTTP(w, r)
}

// body is the body of a response. Closing it ends the handler.
type body struct {
	*io.PipeReader

	cancel context.CancelFunc
}

func (b *body) Close() error {
	b.cancel()
	return b.PipeReader.Close()
}

// response is the writer of the handler. Each write waits until it was read, as a connection
// whose reader is slow.
type response struct {
	header  http.Header
	sent    http.Header // a copy of header of the moment when it was written
	status  int
	body    *io.PipeWriter
	once    sync.Once
	started chan struct{} // closed when status and sent are set
}

func (w *response) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	if status >= http.StatusOK { // informational ones are for connections
		w.start(status)
	}
}

func (w *response) Write(p []byte) (int, error) {
	w.start(http.StatusOK)
	return w.body.Write(p)
}

// Flush implements http.Flusher: a write needs none.
func (w *response) Flush() { w.start(http.StatusOK) }

func (w *response) start(status int) {
	w.once.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		close(w.started)
	})
}
