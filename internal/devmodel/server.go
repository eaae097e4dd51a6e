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

// Server is a Model on a loopback port of its own.
type Server struct {
	*Model
	http   *http.Server
	leave  context.CancelFunc // ends the streams that wait
	addr   netip.AddrPort
	served chan error
}

// Start makes a model and serves it on a free port of 127.0.0.1 until Close.
func Start(s Settings) (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the scripted model: %w", err)
	}
	ctx, leave := context.WithCancel(context.Background())
	model := New(s)
	server := &Server{
		Model: model,
		http: &http.Server{
			Handler:           model,
			ReadHeaderTimeout: 10 * time.Second,
			BaseContext:       func(net.Listener) context.Context { return ctx },
		},
		leave:  leave,
		served: make(chan error, 1),
	}
	if tcp, ok := listener.Addr().(*net.TCPAddr); ok {
		server.addr = tcp.AddrPort()
	}
	go func() { server.served <- server.http.Serve(listener) }()
	return server, nil
}

// Addr is where the model listens.
func (s *Server) Addr() netip.AddrPort { return s.addr }

// URL is the model's address without a path, as an Anthropic base URL is
// written. OpenAI's ends in /v1, Google's in /v1beta.
func (s *Server) URL() string { return "http://" + s.addr.String() }

// closeWithin bounds how long Close waits for a caller that does not read.
const closeWithin = 2 * time.Second

// Close cuts all streams, waits for them and frees the port.
func (s *Server) Close() error {
	s.leave()
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
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
