package relay

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/relay/wire"
)

const (
	// maxIncoming is how many connections of the agent may be at their beginning. Source: the
	// relay lets 64 to the server and 256 to the outside.
	maxIncoming = 64 + 256
	// beginTimeout is how long the beginning of a connection may take: the relay sends it at once.
	beginTimeout = 10 * time.Second
	// backlog is how many connections wait for an Accept.
	backlog = 128
)

// Network returns the server's end of the gateway's network. Server has what the gateway calls
// the server for, Out has runtime.Outgoing connections; DNS and SetRoutes are nil. Network closes
// the listeners of an earlier call. Without any, and after their Close, connections of the agent
// are reset. When the session ends, Accept fails, and connections are reset.
func (s *Session) Network() *runtime.Network {
	n := &listeners{
		server: newListener(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: wire.ServerPort}),
		out:    newListener(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: wire.ProxyPort}),
	}
	s.mu.Lock()
	old := s.network
	ended := s.err != nil
	if s.network = n; ended {
		s.network = nil
	}
	s.mu.Unlock()
	if old != nil {
		old.close()
	}
	if ended {
		n.close()
	}
	return &runtime.Network{Server: n.server, Out: n.out, FromGateway: fromGateway}
}

// fromGateway implements runtime.Network.FromGateway.
func fromGateway(c net.Conn) bool {
	s, ok := c.(*serverConn)
	return !ok || s.fromGateway
}

// serverConn is a connection of the agent to the server.
type serverConn struct {
	*wire.Conn
	fromGateway bool
}

// take reads the beginning of a connection and passes it on.
func (s *Session) take(stream *yamux.Stream) {
	_ = stream.SetDeadline(time.Now().Add(beginTimeout))
	var in wire.Incoming
	err := wire.ReadMessage(stream, &in, maxBeginning)
	if err == nil {
		err = in.Check()
	}
	s.mu.Lock()
	n := s.network
	s.mu.Unlock()
	if err != nil || n == nil {
		_ = stream.Close()
		return
	}
	_ = stream.SetDeadline(time.Time{})
	client := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(in.ClientPort)}
	switch in.Kind {
	case wire.ToServer:
		n.server.pass(&serverConn{wire.NewConn(stream, n.server.addr, client), in.FromGateway})
	case wire.ToOut:
		n.out.pass(&outgoing{Conn: wire.NewConn(stream, n.out.addr, client), stream: stream, host: in.Host, port: in.Port})
	}
}

// maxBeginning is the longest message at the beginning of a connection.
const maxBeginning = 4 << 10

// outgoing implements runtime.Outgoing.
type outgoing struct {
	*wire.Conn
	stream *yamux.Stream
	host   string
	port   uint16

	mu      sync.Mutex
	decided bool // guarded by mu
	open    bool // guarded by mu
}

var (
	_ runtime.Outgoing = (*outgoing)(nil)

	errUndecided = errors.New("a connection of an agent must be accepted before it is used")
	errDecided   = errors.New("a connection of an agent was accepted or refused before")
)

// Destination implements runtime.Outgoing.
func (o *outgoing) Destination() (host string, port uint16) { return o.host, o.port }

// Accept implements runtime.Outgoing.
func (o *outgoing) Accept() error { return o.decide(wire.Decision{Accepted: true}) }

// Refuse implements runtime.Outgoing.
func (o *outgoing) Refuse(reason string) error {
	err := o.decide(wire.Decision{Reason: wire.Printable(reason, 500)})
	o.Reset()
	return err
}

func (o *outgoing) decide(d wire.Decision) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.decided {
		return errDecided
	}
	o.decided = true
	_ = o.stream.SetWriteDeadline(time.Now().Add(beginTimeout))
	if err := wire.WriteMessage(o.stream, d); err != nil {
		o.Reset()
		return err
	}
	_ = o.stream.SetWriteDeadline(time.Time{})
	o.open = d.Accepted
	return nil
}

func (o *outgoing) isOpen() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.open
}

func (o *outgoing) check() error {
	if !o.isOpen() {
		return errUndecided
	}
	return nil
}

// Read implements net.Conn.
func (o *outgoing) Read(p []byte) (int, error) {
	if err := o.check(); err != nil {
		return 0, err
	}
	return o.Conn.Read(p)
}

// Write implements net.Conn.
func (o *outgoing) Write(p []byte) (int, error) {
	if err := o.check(); err != nil {
		return 0, err
	}
	return o.Conn.Write(p)
}

// ReadFrom implements io.ReaderFrom.
func (o *outgoing) ReadFrom(r io.Reader) (int64, error) {
	if err := o.check(); err != nil {
		return 0, err
	}
	return o.Conn.ReadFrom(r)
}

// CloseWrite implements runtime.Outgoing.
func (o *outgoing) CloseWrite() error {
	if err := o.check(); err != nil {
		return err
	}
	return o.Conn.CloseWrite()
}

// Close implements net.Conn.
func (o *outgoing) Close() error {
	if o.isOpen() {
		return o.Conn.Close()
	}
	o.Reset()
	return nil
}

// listeners are the two ends of Network.
type listeners struct{ server, out *listener }

func (n *listeners) close() { _, _ = n.server.Close(), n.out.Close() }

// listener has connections that streams brought.
type listener struct {
	addr net.Addr
	mu   sync.Mutex
	open bool // guarded by mu
	wait chan resettable
}

type resettable interface {
	net.Conn
	Reset()
}

func newListener(addr net.Addr) *listener {
	return &listener{addr: addr, open: true, wait: make(chan resettable, backlog)}
}

// pass has Accept return a connection. It resets one for which there is no room.
func (l *listener) pass(c resettable) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open {
		select {
		case l.wait <- c:
			return
		default:
		}
	}
	c.Reset()
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	if c, ok := <-l.wait; ok {
		return c, nil
	}
	return nil, &net.OpError{Op: "accept", Net: "relay", Addr: l.addr, Err: net.ErrClosed}
}

// Close implements net.Listener. Connections that nobody has accepted are reset.
func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open {
		return nil
	}
	l.open = false
	close(l.wait)
	for c := range l.wait {
		c.Reset()
	}
	return nil
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return l.addr }
