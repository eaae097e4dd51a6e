package docker_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// proxy stands between a driver and an engine, and changes what the engine answers.
type proxy struct {
	host      string
	noSeccomp atomic.Bool
	lose      atomic.Pointer[string]
	refuse    atomic.Pointer[func(*http.Request) *http.Response] // answers instead of the engine; nil answers: the engine does
}

func newProxy(t *testing.T, engine string) *proxy {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "agento-proxy-") // the path of a socket must be short
	must(t, err)
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	must(t, err)
	p := &proxy{host: "unix://" + socket}
	reverse := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "engine"})
	reverse.FlushInterval = -1
	reverse.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(engine, "unix://"))
	}}
	reverse.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		if f := p.refuse.Load(); f != nil {
			if answer := (*f)(r); answer != nil {
				return answer, nil
			}
		}
		resp, err := transport.RoundTrip(r)
		if path := p.lose.Load(); err == nil && path != nil && strings.HasSuffix(r.URL.Path, *path) && p.lose.CompareAndSwap(path, nil) {
			_ = resp.Body.Close()
			return nil, errors.New("the answer is lost")
		}
		return resp, err
	})
	reverse.ModifyResponse = p.change
	server := &http.Server{Handler: reverse}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		transport.CloseIdleConnections()
		_ = os.RemoveAll(dir)
	})
	return p
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (p *proxy) change(r *http.Response) error {
	if !p.noSeccomp.Load() || !strings.HasSuffix(r.Request.URL.Path, "/info") {
		return nil
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	data = bytes.ReplaceAll(data, []byte("name=seccomp"), []byte("name=nothing"))
	r.Body = io.NopCloser(bytes.NewReader(data))
	r.ContentLength = int64(len(data))
	r.Header.Del("Content-Length")
	return nil
}

// loseAnswer has the first answer to a call with a path lost that the engine has done what it was asked for.
func (p *proxy) loseAnswer(path string) { p.lose.Store(&path) }

// removeSeccomp lets the engine say that it filters no system calls.
func (p *proxy) removeSeccomp(*testing.T) (repair func()) {
	p.noSeccomp.Store(true)
	return func() { p.noSeccomp.Store(false) }
}

// answer returns a response with an error, as an engine writes it.
func answer(r *http.Request, status int, message string) *http.Response {
	return &http.Response{
		StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Request: r, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(`{"message":"` + message + `"}`)),
	}
}
