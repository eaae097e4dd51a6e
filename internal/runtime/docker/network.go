package docker

import (
	"context"
	"fmt"
	"net"
	"sync"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/relay"
)

// network is the server's end of a gateway's network. It outlives sessions: while it is open, a lost one
// is made again.
type network struct {
	server, out *listener
	done        chan struct{} // closed with server, without which the network is of no use
	wake        chan struct{} // has a token if the gateway was thawed
}

func (n *network) close() { _, _ = n.server.Close(), n.out.Close() }

// Network implements runtime.Driver.
func (d *Driver) Network(ctx context.Context, place runtime.Place, id identity.AgentID) (*runtime.Network, error) {
	a, err := d.agent(id)
	if err != nil {
		return nil, err
	}
	if _, err := d.session(ctx, a, place); err != nil {
		return nil, fmt.Errorf("open the network of %s: %w", id, err)
	}
	n := &network{server: newListener(), out: newListener(), wake: make(chan struct{}, 1)}
	n.done = n.server.done
	l := d.link(id)
	l.mu.Lock()
	last := l.network
	l.network = n
	l.mu.Unlock()
	if last != nil {
		last.close()
	}
	go d.keepSession(a, place, l, n) //nolint:gosec // it ends with the network
	return &runtime.Network{Server: n.server, Out: n.out}, nil
}

// keepSession makes a session again that is lost, until the network is closed or the gateway has ended.
func (d *Driver) keepSession(a agent, place runtime.Place, l *link, n *network) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-n.done
		cancel()
	}()
	defer l.forgetNetwork(n)
	for {
		s, err := d.session(ctx, a, place)
		if err == nil {
			select {
			case <-s.Done():
				continue
			case <-n.done:
				return
			}
		}
		if d.hasEnded(ctx, a, place) {
			return
		}
		select { // it is frozen, or cannot be reached
		case <-n.wake:
		case <-n.done:
			return
		case <-after(ctx, maxBackoff):
		}
	}
}

// hasEnded reports whether the gateway of a place has ended: not if that is not known.
func (d *Driver) hasEnded(ctx context.Context, a agent, place runtime.Place) bool {
	c, err := d.gateway(ctx, a)
	return err == nil && (!runs(c) || !isAt(c, place))
}

func (l *link) forgetNetwork(n *network) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.network == n {
		l.network = nil
	}
}

// wakeNetwork has the session made again at once, if the network of the gateway is open.
func (l *link) wakeNetwork() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.network == nil {
		return
	}
	select {
	case l.network.wake <- struct{}{}:
	default:
	}
}

// serveNetwork passes the connections of a session to the network that the server has open. Without one
// they are refused.
func (l *link) serveNetwork(s *relay.Session) {
	from := s.Network()
	var both sync.WaitGroup
	for source, to := range map[net.Listener]func(*network) *listener{
		from.Server: func(n *network) *listener { return n.server },
		from.Out:    func(n *network) *listener { return n.out },
	} {
		both.Go(func() {
			for {
				conn, err := source.Accept()
				if err != nil {
					return
				}
				l.mu.Lock()
				n := l.network
				l.mu.Unlock()
				if n == nil || !to(n).put(conn) {
					_ = conn.Close() // nobody waits for it
				}
			}
		})
	}
	both.Wait()
	_ = from.Close() // the session has ended
}

// waitingConns is how many connections wait to be accepted; more are refused.
const waitingConns = 128

// listener is a listener of a network. Its connections come from sessions.
type listener struct {
	waiting chan net.Conn
	done    chan struct{} // closed with the listener
	once    sync.Once
}

func newListener() *listener {
	return &listener{waiting: make(chan net.Conn, waitingConns), done: make(chan struct{})}
}

// put has a connection accepted. It returns false if the listener is closed or full.
func (l *listener) put(c net.Conn) bool {
	select {
	case <-l.done:
		return false
	default:
	}
	select {
	case l.waiting <- c:
		return true
	default:
		return false
	}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-l.waiting:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	for {
		select {
		case c := <-l.waiting:
			_ = c.Close() // nobody will accept it
		default:
			return nil
		}
	}
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return address{} }

// address is that of a listener that no network reaches.
type address struct{}

// Network implements net.Addr.
func (address) Network() string { return "relay" }

// String implements net.Addr.
func (address) String() string { return "relay" }
