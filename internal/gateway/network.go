package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/egress"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// WayOut carries what agents send elsewhere than to this server.
type WayOut interface {
	// Attach begins to serve an agent's network, in place of an earlier one.
	Attach(id identity.AgentID, n egress.Network)
	// Detach ends that, and closes the listeners.
	Detach(id identity.AgentID)
}

// maxCalls is how many connections of one agent to this server may be open. A gateway
// needs one for each model call and one for its tools.
const maxCalls = 64

// network is the open network of a gateway.
type network struct {
	*runtime.Network
	place runtime.Place
}

// Attach opens the server's end of the network of a's gateway, if it is not open yet, and
// reports whether it has opened it. The caller repeats it after an error: without it the
// agent reaches nothing.
func (m *Manager) Attach(ctx context.Context, a agent.Agent) (opened bool, err error) {
	m.attaching.Lock()
	defer m.attaching.Unlock()
	m.mu.Lock()
	open := m.networks[a.ID]
	m.mu.Unlock()
	if open != nil && open.place == a.Place {
		return false, nil
	}
	m.detach(a.ID)
	n, err := m.driver.Network(ctx, a.Place, a.ID)
	if err != nil {
		return false, fmt.Errorf("open the network of a gateway: %w", err)
	}
	switch {
	case m.wayOut != nil && n.Out != nil:
		m.wayOut.Attach(a.ID, egress.Network{Out: n.Out, DNS: n.DNS, SetRoutes: n.SetRoutes})
	case n.Out != nil: // nobody would accept
		_ = n.Out.Close()
		if n.DNS != nil {
			_ = n.DNS.Close()
		}
	}
	m.mu.Lock()
	m.networks[a.ID] = &network{n, a.Place}
	m.mu.Unlock()
	go m.calls.acceptFrom(a.ID, n)
	return true, nil
}

// detach closes the network of an agent's gateway, if it is open.
func (m *Manager) detach(id identity.AgentID) {
	m.mu.Lock()
	n := m.networks[id]
	delete(m.networks, id)
	m.mu.Unlock()
	if n == nil {
		return
	}
	if m.wayOut != nil && n.Out != nil {
		m.wayOut.Detach(id)
	}
	if err := n.Close(); err != nil {
		m.log.Error("closing the network of a gateway failed", "agent", id, "error", err)
	}
}

// Calls returns the listener of everything that gateways call this server for. Serve it
// with ConnContext.
func (m *Manager) Calls() net.Listener { return m.calls }

// callListener passes on the connections of all gateways.
type callListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	refuse func(identity.AgentID) // reports an agent with too many connections
}

func newCallListener(refuse func(identity.AgentID)) *callListener {
	return &callListener{conns: make(chan net.Conn), closed: make(chan struct{}), refuse: refuse}
}

// Accept implements net.Listener.
func (l *callListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *callListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *callListener) Addr() net.Addr { return callAddr{} }

type callAddr struct{}

func (callAddr) Network() string { return "agents" }
func (callAddr) String() string  { return "the agents' networks" }

// acceptFrom passes on the connections of one agent until its listener is closed. One
// that is over the limit is closed at once.
func (l *callListener) acceptFrom(id identity.AgentID, n *runtime.Network) {
	slots := make(chan struct{}, maxCalls)
	for {
		c, err := n.Server.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // such as too many open files
			time.Sleep(acceptPause)
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			l.refuse(id)
			_ = c.Close()
			continue
		}
		call := &call{Conn: c, agent: id, release: sync.OnceFunc(func() { <-slots }), fromGateway: sync.OnceValue(func() bool {
			return n.FromGateway == nil || n.FromGateway(c)
		})}
		select {
		case l.conns <- call:
		case <-l.closed:
			_ = call.Close()
			return
		}
	}
}

// acceptPause is the pause after a connection could not be accepted.
const acceptPause = 50 * time.Millisecond

// call is a connection that an agent has opened to this server.
type call struct {
	net.Conn
	agent   identity.AgentID
	release func()
	// fromGateway is runtime.Network.FromGateway, which is asked when the connection is open.
	fromGateway func() bool
}

// Close implements net.Conn.
func (c *call) Close() error {
	c.release()
	return c.Conn.Close()
}

type (
	callerKey struct{} // of the agent that has opened a connection
	callKey   struct{} // of the *call
)

// ConnContext is the http.Server.ConnContext of the server of Calls. Tokens of other
// agents than the one that has opened a connection are refused on it.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	for {
		switch outer := c.(type) {
		case *call:
			return context.WithValue(context.WithValue(ctx, callerKey{}, outer.agent), callKey{}, outer)
		case interface{ NetConn() net.Conn }:
			c = outer.NetConn()
		default:
			return ctx
		}
	}
}

// FromGateway reports whether a request of an agent comes from its gateway. It reports false for
// a request of a program that the agent has started, and true if that cannot be told.
func FromGateway(ctx context.Context) bool {
	c, ok := ctx.Value(callKey{}).(*call)
	return !ok || c.fromGateway()
}

// checkConnection reports whether a call with an agent's token may come through its
// connection.
func checkConnection(ctx context.Context, id identity.AgentID) bool {
	from, ok := ctx.Value(callerKey{}).(identity.AgentID)
	return !ok || from == id
}
