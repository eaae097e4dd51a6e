package browsertest

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
)

// Line is a connection between a browser and a server that tests cut.
type Line struct {
	URL string // what the browser opens

	mu     sync.Mutex
	down   bool              // guarded by mu
	target string            // guarded by mu
	open   map[net.Conn]bool // guarded by mu
}

// NewLine returns a line to the server at an address, which ends with the test.
func NewLine(t testing.TB, address string) *Line {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &Line{URL: "http://" + listener.Addr().String(), target: u.Host, open: map[net.Conn]bool{}}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { l.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		l.Cut()
		serving.Wait()
	})
	return l
}

func (l *Line) serve(c net.Conn) {
	l.mu.Lock()
	down, target := l.down, l.target
	l.mu.Unlock()
	defer func() { _ = c.Close() }()
	if down {
		return
	}
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	l.mu.Lock()
	l.open[c], l.open[server] = true, true
	if l.down {
		_ = server.Close()
	}
	l.mu.Unlock()
	var copies sync.WaitGroup
	for _, way := range [][2]net.Conn{{c, server}, {server, c}} {
		copies.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			_ = way[0].Close() // nothing half open: what a browser and a server say to each other has no such thing
			_ = way[1].Close()
		})
	}
	copies.Wait()
	l.mu.Lock()
	delete(l.open, c)
	delete(l.open, server)
	l.mu.Unlock()
}

// Cut ends all connections and lets none through until Mend.
func (l *Line) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for c := range l.open {
		_ = c.Close()
	}
}

// Mend lets connections through again, to the server at another address if that is not empty.
func (l *Line) Mend(address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		l.target = u.Host
	}
	l.down = false
}

// NewBufferingProxy returns the address of a proxy that collects responses before it passes them on: each time that it
// has size bytes, and at the end.
func NewBufferingProxy(t testing.TB, address string, size int) string {
	t.Helper()
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		held := &bufferingWriter{w: w, size: size}
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil { // an answer must not close the request's body
			t.Error(err)
		}
		proxy.ServeHTTP(held, r)
		_, _ = w.Write(held.held)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

// bufferingWriter ignores that its user wants to flush.
type bufferingWriter struct {
	w    http.ResponseWriter
	size int
	held []byte
}

// Header implements http.ResponseWriter.
func (b *bufferingWriter) Header() http.Header { return b.w.Header() }

// WriteHeader implements http.ResponseWriter.
func (b *bufferingWriter) WriteHeader(status int) { b.w.WriteHeader(status) }

// Write implements http.ResponseWriter.
func (b *bufferingWriter) Write(p []byte) (int, error) {
	b.held = append(b.held, p...)
	for len(b.held) >= b.size {
		if _, err := b.w.Write(b.held[:b.size]); err != nil {
			return 0, err
		}
		b.held = b.held[b.size:]
		_ = http.NewResponseController(b.w).Flush()
	}
	return len(p), nil
}
