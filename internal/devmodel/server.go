package devmodel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Server serves a Model on a loopback port of its own.
type Server struct {
	*Model
	http   *http.Server
	cancel context.CancelFunc // ends the waiting streams
	addr   netip.AddrPort
	served chan error // receives the result of Serve
}

// Start serves a new model on a free port of 127.0.0.1 until Close.
func Start(s Settings) (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the scripted model: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	model := New(s)
	server := &Server{
		Model: model,
		http: &http.Server{
			Handler:           model,
			ReadHeaderTimeout: 10 * time.Second,
			BaseContext:       func(net.Listener) context.Context { return ctx },
		},
		cancel: cancel,
		served: make(chan error, 1),
	}
	if tcp, ok := listener.Addr().(*net.TCPAddr); ok {
		server.addr = tcp.AddrPort()
	}
	go func() { server.served <- server.http.Serve(listener) }()
	return server, nil
}

// Addr returns the address that the model listens on.
func (s *Server) Addr() netip.AddrPort { return s.addr }

// URL returns the model's address without a path, as Anthropic's base URL is.
// OpenAI's base URL ends with /v1, and Google's with /v1beta.
func (s *Server) URL() string { return "http://" + s.addr.String() }

// closeTimeout is the time that Close waits for a caller that does not read.
const closeTimeout = 2 * time.Second

// Close ends all streams, waits for them, and frees the port.
func (s *Server) Close() error {
	s.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	if served := <-s.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return fmt.Errorf("close the scripted model: %w", err)
	}
	return nil
}
