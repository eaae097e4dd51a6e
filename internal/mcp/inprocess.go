package mcp

import (
	"io"
	"net/http"
	"sync"
)

// inProcess is an http.RoundTripper that calls a handler of this process. The body of a
// response is read while the handler writes it.
type inProcess struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper. It returns when the response begins, or when the
// handler ends without one because the context has ended: the headers that it has set by then
// are those of the response.
func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	in.RequestURI = r.URL.RequestURI()
	if in.Body == nil {
		in.Body = http.NoBody
	}
	body, out := io.Pipe()
	w := &pipeWriter{header: http.Header{}, out: out, begun: make(chan struct{})}
	go func() {
		defer func() {
			// The API breaks a response that has begun by this panic, after it has logged why.
			if recover() != nil {
				_ = out.CloseWithError(io.ErrUnexpectedEOF)
			}
			w.WriteHeader(http.StatusOK)
			_ = out.Close()
		}()
		t.handler.ServeHTTP(w, in)
	}()
	<-w.begun
	return &http.Response{
		Status: http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: body, ContentLength: -1, Request: r,
	}, nil
}

// pipeWriter is the http.ResponseWriter of an inProcess request.
type pipeWriter struct {
	header http.Header
	out    *io.PipeWriter

	once   sync.Once
	begun  chan struct{} // closed when the fields below are set
	status int
	sent   http.Header
}

// Header implements http.ResponseWriter.
func (w *pipeWriter) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *pipeWriter) WriteHeader(status int) {
	w.once.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		close(w.begun)
	})
}

// Write implements http.ResponseWriter.
func (w *pipeWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.out.Write(b)
}

// Flush implements http.Flusher: what is written waits for nothing.
func (w *pipeWriter) Flush() {}
