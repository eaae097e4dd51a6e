// Package egresstest provides tests with the network of an agent on loopback, without
// namespaces and rights, and with an outside of their own.
package egresstest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"agento.host/agento/internal/egress"
	"agento.host/agento/internal/identity"
)

// Public is an address that the guard allows. Nothing is there until At is called.
const Public = "93.184.216.34"

// timeout bounds every wait of an agent.
const timeout = 10 * time.Second

// Net is the network of one agent, and the outside. The destination of each connection of
// the agent is in a table, as it is in the kernel for one that was redirected.
type Net struct {
	t   testing.TB
	out net.Listener
	dns net.PacketConn

	mu       sync.Mutex
	hosts    map[string][]netip.Addr   // what the resolver knows; guarded by mu
	lookups  int                       // guarded by mu
	outside  map[string]string         // where an address and port of the outside is; guarded by mu
	original map[string]netip.AddrPort // by the address of the agent's end; guarded by mu
	routes   [][]netip.Prefix          // as they were set; guarded by mu
}

// New returns a network. Nothing serves it yet.
func New(t testing.TB) *Net {
	return &Net{t: t, hosts: map[string][]netip.Addr{}, outside: map[string]string{}, original: map[string]netip.AddrPort{}}
}

// Adjust makes a manager with these settings connect to the outside of the test.
func (n *Net) Adjust(s *egress.Settings) { s.Resolver, s.Dial, s.Original = n, n.dial, n.originalOf }

// Attach makes a manager serve the network, with new listeners.
func (n *Net) Attach(m *egress.Manager, id identity.AgentID) {
	n.t.Helper()
	var err error
	if n.out, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
		n.t.Fatal(err)
	}
	if n.dns, err = net.ListenPacket("udp4", "127.0.0.1:0"); err != nil {
		n.t.Fatal(err)
	}
	m.Attach(id, egress.Network{Out: n.out, DNS: n.dns, SetRoutes: n.setRoutes})
}

func (n *Net) setRoutes(_ context.Context, local []netip.Prefix) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.routes = append(n.routes, local)
	return nil
}

// Routes returns the ranges that are local now.
func (n *Net) Routes() []netip.Prefix {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.routes) == 0 {
		return nil
	}
	return n.routes[len(n.routes)-1]
}

// Host makes the outside's resolver know a name.
func (n *Net) Host(name string, addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range addrs {
		n.hosts[name] = append(n.hosts[name], netip.MustParseAddr(a))
	}
}

// At makes a server that listens on loopback reachable at an address and port of the
// outside.
func (n *Net) At(address string, l net.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.outside[address] = l.String()
}

// LookupNetIP implements egress.Resolver.
func (n *Net) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lookups++
	if addrs := n.hosts[strings.TrimSuffix(host, ".")]; addrs != nil {
		return addrs, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

// Lookups returns how often the outside's resolver was asked.
func (n *Net) Lookups() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lookups
}

func (n *Net) dial(ctx context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	to, ok := n.outside[address]
	n.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("nothing is at %s", address)
	}
	return (&net.Dialer{}).DialContext(ctx, network, to)
}

func (n *Net) originalOf(c *net.TCPConn) (netip.AddrPort, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	to, ok := n.original[c.RemoteAddr().String()]
	if !ok {
		return to, errors.New("the test has told no destination")
	}
	return to, nil
}

// Connect opens a connection of the agent to an address of its network.
func (n *Net) Connect(to netip.AddrPort) *net.TCPConn {
	n.t.Helper()
	n.mu.Lock() // until the table has the destination
	defer n.mu.Unlock()
	c, err := net.Dial("tcp4", n.out.Addr().String())
	if err != nil {
		n.t.Fatal(err)
	}
	n.original[c.LocalAddr().String()] = to
	n.t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		n.t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// ConnectTo resolves a name as the agent does, and connects.
func (n *Net) ConnectTo(name string, port uint16) *net.TCPConn {
	n.t.Helper()
	a := n.Query(name, dnsmessage.TypeA)
	if !a.Addr.IsValid() {
		n.t.Fatalf("%s has no address: %v", name, a.RCode)
	}
	return n.Connect(netip.AddrPortFrom(a.Addr, port))
}

// Answer is what the agent gets to a query.
type Answer struct {
	RCode   dnsmessage.RCode
	Answers int
	Addr    netip.Addr // of the last answer with an address
	TTL     uint32
}

// Query makes a DNS query of the agent.
func (n *Net) Query(name string, kind dnsmessage.Type) Answer {
	n.t.Helper()
	q := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name + "."), Type: kind, Class: dnsmessage.ClassINET}},
	}
	packet, err := q.Pack()
	if err != nil {
		n.t.Fatal(err)
	}
	return n.Exchange(packet)
}

// Exchange sends a DNS packet of the agent and waits for the answer.
func (n *Net) Exchange(packet []byte) Answer {
	n.t.Helper()
	c, err := net.Dial("udp4", n.dns.LocalAddr().String())
	if err != nil {
		n.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		n.t.Fatal(err)
	}
	if _, err := c.Write(packet); err != nil {
		n.t.Fatal(err)
	}
	buf := make([]byte, 1500)
	size, err := c.Read(buf)
	if err != nil {
		n.t.Fatal(err)
	}
	var m dnsmessage.Message
	if err := m.Unpack(buf[:size]); err != nil {
		n.t.Fatal(err)
	}
	a := Answer{RCode: m.RCode, Answers: len(m.Answers)}
	for _, r := range m.Answers {
		if r, ok := r.Body.(*dnsmessage.AResource); ok {
			a.Addr = netip.AddrFrom4(r.A)
		}
		a.TTL = r.Header.TTL
	}
	return a
}

// DNSAddr returns where the agent's queries go.
func (n *Net) DNSAddr() net.Addr { return n.dns.LocalAddr() }
