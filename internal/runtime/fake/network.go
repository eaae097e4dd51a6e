package fake

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// serverAddr replaces runtime.ServerAddr. It leads to the server only with
// Gateway.Client.
const serverAddr = "server.fake"

// serverListener is one server's end of the network of a gateway. Connections are in
// memory, so that tests with synthetic time can use them.
type serverListener struct {
	life   *life
	closed chan struct{}
	once   sync.Once
}

// Accept implements net.Listener.
func (l *serverListener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-l.life.calls:
		return c, nil
	case <-l.life.done:
	case <-l.closed:
	}
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (l *serverListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *serverListener) Addr() net.Addr { return addr(serverAddr) }

// Network implements runtime.Driver.
func (d *Driver) Network(_ context.Context, place runtime.Place, id identity.AgentID) (*runtime.Network, error) {
	if a := d.agent(id); a != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		if g := a.running(); g != nil && a.place == place && !a.frozen {
			return &runtime.Network{Server: &serverListener{life: g.current(), closed: make(chan struct{})}}, nil
		}
	}
	return nil, fmt.Errorf("network of %s: %w", id, runtime.ErrNotRunning)
}

// Client returns a client that reaches the server at runtime.ServerAddr. A connection
// waits until a server has the network open.
func (g *Gateway) Client() *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		l := g.current()
		ours, theirs := net.Pipe()
		select {
		case l.calls <- theirs:
			return ours, nil
		case <-l.done:
			return nil, net.ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
}
