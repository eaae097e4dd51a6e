package budget

import (
	"container/list"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"agento.host/agento/internal/fault"
)

// ConnectionSettings are the limits of Connections. A limit of 0 is none.
type ConnectionSettings struct {
	Door    string // the listener, for the log
	Total   int    // all connections
	Unnamed int    // connections that no holder has claimed yet; the oldest gives way to a new one
	Address int    // unclaimed connections of one address; likewise
	Holder  int    // claimed connections of one holder
	Group   int    // claimed connections of all holders of a group
	// Exempt addresses have no limit of their own: the operator's proxies, which carry the
	// connections of many.
	Exempt func(netip.Addr) bool
	Log    *slog.Logger
	// Refused is called with Door for each connection that is refused or closed for another
	// one. Nil means that nobody is told.
	Refused func(door string)
}

// Connections limits the connections of a listener. Whose a connection is, is known when
// a request on it has been authenticated: the handler then calls Claim. Until then it
// counts for its address, and a new connection displaces the oldest unclaimed one, so
// that connections that never say whose they are keep nobody out.
type Connections struct {
	s        ConnectionSettings
	refusals refusalLog

	mu        sync.Mutex
	total     int                // guarded by mu
	unclaimed *list.List         // guarded by mu; of *conn, the oldest first
	addresses map[netip.Addr]int // guarded by mu; unclaimed connections
	holders   map[string]int     // guarded by mu; claimed connections
	groups    map[string]int     // guarded by mu; claimed connections
}

// NewConnections returns limits that no connection counts against yet.
func NewConnections(s ConnectionSettings) *Connections {
	if s.Exempt == nil {
		s.Exempt = func(netip.Addr) bool { return false }
	}
	return &Connections{
		s: s, refusals: newRefusalLog(s.Log, s.Refused), unclaimed: list.New(), addresses: map[netip.Addr]int{}, holders: map[string]int{}, groups: map[string]int{},
	}
}

// Listener returns a listener that accepts the connections of l which the limits allow,
// and closes the others.
func (c *Connections) Listener(l net.Listener) net.Listener { return &limitedListener{l, c} }

type limitedListener struct {
	net.Listener
	limits *Connections
}

// Accept implements net.Listener.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if limited := l.limits.admit(accepted); limited != nil {
			return limited, nil
		}
		refuse(accepted)
	}
}

// refusal is the answer to a connection that is refused before its request is read.
var refusal = func() []byte {
	body := `{"error":{"code":"unavailable","message":"Too many connections are open. Close some, and try again in 5 s."}}` + "\n"
	return fmt.Appendf(nil, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}()

func refuse(nc net.Conn) {
	_ = nc.SetWriteDeadline(time.Now().Add(time.Second)) // an empty buffer takes it at once
	_, _ = nc.Write(refusal)
	_ = nc.Close()
}

// conn is a connection that counts until it is closed.
type conn struct {
	net.Conn
	limits *Connections
	addr   netip.Addr

	holder, group string        // guarded by limits.mu; empty: unclaimed
	place         *list.Element // guarded by limits.mu; in unclaimed, or nil
	closed        bool          // guarded by limits.mu
}

// NetConn returns the connection that was accepted.
func (nc *conn) NetConn() net.Conn { return nc.Conn }

// Close implements net.Conn.
func (nc *conn) Close() error {
	nc.limits.remove(nc)
	return nc.Conn.Close()
}

// admit counts a new connection. It returns nil if a limit is reached.
func (c *Connections) admit(accepted net.Conn) net.Conn {
	nc := &conn{Conn: accepted, limits: c, addr: network(accepted.RemoteAddr())}
	var displaced *conn
	ok := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		full := c.s.Total > 0 && c.total >= c.s.Total
		switch {
		case c.s.Address > 0 && c.addresses[nc.addr] >= c.s.Address && !c.s.Exempt(nc.addr):
			displaced = c.oldestLocked(func(o *conn) bool { return o.addr == nc.addr })
		case full || c.s.Unnamed > 0 && c.unclaimed.Len() >= c.s.Unnamed:
			displaced = c.oldestLocked(func(*conn) bool { return true })
		}
		if displaced != nil {
			c.refusals.note("connections without a request were closed for new ones", c.s.Door, displaced.addr.String(), int64(c.addresses[displaced.addr]))
			c.removeLocked(displaced)
		} else if full {
			name, n := c.largestLocked()
			c.refusals.note("a listener has no more connections; this holder has most", c.s.Door, name, int64(n))
			return false
		}
		c.total++
		c.addresses[nc.addr]++
		nc.place = c.unclaimed.PushBack(nc)
		return true
	}()
	if displaced != nil {
		_ = displaced.Conn.Close()
	}
	if !ok {
		return nil
	}
	return nc
}

// oldestLocked returns the oldest unclaimed connection that matches, or nil.
func (c *Connections) oldestLocked(match func(*conn) bool) *conn {
	for e := c.unclaimed.Front(); e != nil; e = e.Next() {
		if nc, ok := e.Value.(*conn); ok && match(nc) {
			return nc
		}
	}
	return nil
}

func (c *Connections) largestLocked() (name string, count int) {
	for h, n := range c.holders {
		if n > count {
			name, count = h, n
		}
	}
	return name, count
}

func (c *Connections) remove(nc *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removeLocked(nc)
}

func (c *Connections) removeLocked(nc *conn) {
	if nc.closed {
		return
	}
	nc.closed = true
	c.total--
	c.unclaimLocked(nc)
}

// unclaimLocked stops counting a connection for its holder or its address.
func (c *Connections) unclaimLocked(nc *conn) {
	if nc.place != nil {
		c.unclaimed.Remove(nc.place)
		nc.place = nil
		decrease(c.addresses, nc.addr)
		return
	}
	decrease(c.holders, nc.holder)
	decrease(c.groups, nc.group)
}

func decrease[K comparable](counts map[K]int, key K) {
	if counts[key]--; counts[key] <= 0 {
		delete(counts, key)
	}
}

// connKey is the context key of a request's *conn.
type connKey struct{}

// ConnContext is the ConnContext of the http.Server of a Listener.
func ConnContext(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, nc)
}

// Claim counts the connection of a request for the holder who sent it, and for the
// holder's group, instead of for who had it before. A request without a limited
// connection is always allowed. If it is refused, the connection should be closed after
// the response.
// Faults: RateLimited.
func Claim(ctx context.Context, holder, group string) error {
	nc, ok := ctx.Value(connKey{}).(*conn)
	if !ok {
		return nil
	}
	return nc.limits.claim(nc, holder, group)
}

func (c *Connections) claim(nc *conn, holder, group string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if nc.closed || nc.place == nil && nc.holder == holder && nc.group == group {
		return nil
	}
	own := func(name, of string) int { // without this connection
		if nc.place == nil && name == of {
			return 1
		}
		return 0
	}
	if n := c.holders[holder] - own(holder, nc.holder); c.s.Holder > 0 && n >= c.s.Holder {
		return c.tooMany(holder, n)
	}
	if n := c.groups[group] - own(group, nc.group); c.s.Group > 0 && n >= c.s.Group {
		return c.tooMany(group, n)
	}
	c.unclaimLocked(nc)
	nc.holder, nc.group = holder, group
	c.holders[holder]++
	c.groups[group]++
	return nil
}

func (c *Connections) tooMany(name string, n int) error {
	c.refusals.note("a holder has too many connections", c.s.Door, name, int64(n))
	return retryLater(fault.RateLimited, fmt.Sprintf("%s has %d open connections, which are all that it may have. Close some.", name, n))
}

// network returns the address that stands for one client: its IPv4 address, or its IPv6
// network.
func network(a net.Addr) netip.Addr {
	text := ""
	if a != nil {
		text = a.String()
	}
	ap, err := netip.ParseAddrPort(text)
	if err != nil {
		return netip.Addr{}
	}
	addr := ap.Addr().Unmap().WithZone("")
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return addr
}
