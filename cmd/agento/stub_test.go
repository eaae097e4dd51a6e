package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// stub is a server whose responses a test sets, and which records what was asked of it.
type stub struct {
	t   *testing.T
	mux *http.ServeMux
	url string

	mu    sync.Mutex
	asked []string // method, path and body of each request that is not a GET
}

func newStub(t *testing.T) *stub {
	t.Helper()
	s := &stub{t: t, mux: http.NewServeMux()}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.Method != http.MethodGet {
			s.mu.Lock()
			s.asked = append(s.asked, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(body)))
			s.mu.Unlock()
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		w.Header().Set("X-Request-Id", "req-1")
		s.mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	t.Setenv("AGENTO_URL", s.url)
	t.Setenv("AGENTO_API_KEY", "ak_live_x")
	return s
}

// on answers a pattern with a body.
func (s *stub) on(pattern, body string) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
}

// refuse answers a pattern with an error.
func (s *stub) refuse(pattern string, status int, code, message string) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"error":{"code":%q,"message":%q,"requestId":"req-1"}}`, code, message)
	})
}

// changes returns the requests that were no GET, and forgets them.
func (s *stub) changes() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := strings.Join(s.asked, "\n")
	s.asked = nil
	return all
}

// run runs a command line and returns its error.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	return (&terminal{out: stdout, err: stderr, in: os.Stdin}).run(ctx, args)
}

// result is what a command printed, and its exit code.
type result struct {
	out, err string
	code     int
}

// command runs a command as main does, with a text on standard input.
func command(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	in, err := os.Create(filepath.Join(t.TempDir(), "stdin"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	if _, err := in.WriteString(stdin); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	term := terminal{out: &out, err: &errs, in: in}
	code := runCommand(t.Context(), args, &term)
	return result{out.String(), errs.String(), code}
}

const (
	ada = "018f0000-0000-7000-8000-00000000000a"
	bob = "018f0000-0000-7000-8000-00000000000b"
)

// withAgents makes the server know two agents.
func (s *stub) withAgents() *stub {
	s.on("GET /v1/agents", `{"data":[{"id":"`+ada+`","name":"ada","status":"running"},{"id":"`+bob+`","name":"bob","status":"stopped"}]}`)
	return s
}
