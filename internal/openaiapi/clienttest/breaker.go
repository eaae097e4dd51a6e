package clienttest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// Breakage is how a Breaker breaks a request.
type Breakage string

// What a Breaker does with a request.
const (
	Refuse Breakage = "503 at the start"          // the server does not get the request
	Cut    Breakage = "cut before the answer"     // the server is answering when the connection breaks
	CutMid Breakage = "cut in mid-answer"         // after the first text
	Stall  Breakage = "no answer until a timeout" // the client gives up
)

// cutAfter is when Cut breaks the connection: the server has the request then.
const cutAfter = 300 * time.Millisecond

// Breaker is a proxy that breaks the first chat completion after each Break.
type Breaker struct {
	URL    string
	server *httptest.Server
	target *url.URL

	mu       sync.Mutex
	next     Breakage // guarded by mu
	requests int      // chat completions since Break; guarded by mu
}

// NewBreaker returns a proxy before a server. It is closed at the end of the test.
func NewBreaker(t testing.TB, server string) *Breaker {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	b := &Breaker{target: target}
	forward := httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	b.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if how := b.take(r); how != "" {
			b.breakRequest(w, r, how)
			return
		}
		// Without it the first byte of an answer closes the request's body, which the transport may
		// be about to read once more: it would break the answer off.
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(b.server.Close)
	b.URL = b.server.URL
	return b
}

// Break breaks the next chat completion.
func (b *Breaker) Break(how Breakage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next, b.requests = how, 0
}

// Requests returns how many chat completions came since Break.
func (b *Breaker) Requests() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.requests
}

// take returns how a request is broken; empty: not at all.
func (b *Breaker) take(r *http.Request) Breakage {
	if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/chat/completions") {
		return ""
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests++
	how := b.next
	b.next = ""
	return how
}

func (b *Breaker) breakRequest(w http.ResponseWriter, r *http.Request, how Breakage) {
	if how == Refuse {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"error":{"message":"The server is shutting down.","type":"server_error","param":null,"code":"unavailable"}}`)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	out := r.Clone(ctx)
	out.RequestURI, out.URL.Scheme, out.URL.Host, out.Host = "", b.target.Scheme, b.target.Host, ""
	out.Body = io.NopCloser(bytes.NewReader(body))
	if how == Cut {
		defer time.AfterFunc(cutAfter, cancel).Stop()
	}
	res, err := http.DefaultTransport.RoundTrip(out)
	if how == CutMid && err == nil {
		copyUntil(w, res, `"content":"`)
	}
	if how == Stall {
		<-r.Context().Done()
	}
	if err == nil {
		cancel()
		_ = res.Body.Close()
	}
	panic(http.ErrAbortHandler)
}

// copyUntil copies a response until it has a text.
func copyUntil(w http.ResponseWriter, res *http.Response, text string) {
	for name, values := range res.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(res.StatusCode)
	var seen bytes.Buffer
	piece := make([]byte, 512)
	for strings.Count(seen.String(), text) < 2 { // the first is empty
		n, err := res.Body.Read(piece)
		_, _ = seen.Write(piece[:n])
		_, _ = w.Write(piece[:n])
		_ = http.NewResponseController(w).Flush()
		if err != nil {
			return
		}
	}
}
