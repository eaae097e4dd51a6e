package egress_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/egress"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
)

const (
	testAgent   identity.AgentID   = "agent-1"
	testAccount identity.AccountID = "acct_1"
	timeout                        = 10 * time.Second
	// public is an address that the guard allows; the network of the tests has a server there.
	public = "93.184.216.34"
)

// testNet is an agent's network without namespaces, and the outside. A connection of the
// agent tells its original destination in a table, as the kernel does for a redirected one.
type testNet struct {
	t       testing.TB
	db      *database.DB
	events  *event.Log
	manager *egress.Manager
	log     *logBuffer

	out net.Listener
	dns net.PacketConn

	mu       sync.Mutex
	policy   egress.Policy             // guarded by mu
	hosts    map[string][]netip.Addr   // what the resolver knows; guarded by mu
	outside  map[string]string         // address:port as dialled: where that is; guarded by mu
	original map[string]netip.AddrPort // by the agent's own address; guarded by mu
	routes   [][]netip.Prefix          // guarded by mu
	lookups  int                       // guarded by mu
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newNet returns a network with a policy, which is attached. change may change settings.
func newNet(t testing.TB, policy any, change ...func(*egress.Settings)) *testNet {
	t.Helper()
	n := &testNet{
		t: t, db: databasetest.New(t), log: &logBuffer{}, policy: mustParse(t, policy),
		hosts: map[string][]netip.Addr{}, outside: map[string]string{}, original: map[string]netip.AddrPort{},
	}
	n.events = event.NewLog(n.db)
	n.manager = n.newManager(change...)
	n.attach()
	t.Cleanup(func() { n.manager.Detach(testAgent) })
	return n
}

func mustParse(t testing.TB, v any) egress.Policy {
	t.Helper()
	p, err := egress.ParsePolicy(v)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (n *testNet) newManager(change ...func(*egress.Settings)) *egress.Manager {
	s := egress.Settings{
		DB: n.db, Events: n.events, Log: slog.New(slog.NewTextHandler(n.log, nil)),
		Policy: func(context.Context, identity.AgentID) (identity.AccountID, egress.Policy, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			return testAccount, n.policy, nil
		},
		Limits: egress.DefaultLimits(), Resolver: n, Dial: n.dial, Original: n.originalOf,
	}
	for _, f := range change {
		f(&s)
	}
	return egress.NewManager(s)
}

func (n *testNet) attach() {
	n.t.Helper()
	var err error
	if n.out, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
		n.t.Fatal(err)
	}
	if n.dns, err = net.ListenPacket("udp4", "127.0.0.1:0"); err != nil {
		n.t.Fatal(err)
	}
	n.manager.Attach(testAgent, egress.Network{Out: n.out, DNS: n.dns, SetRoutes: func(_ context.Context, local []netip.Prefix) error {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.routes = append(n.routes, local)
		return nil
	}})
}

// LookupNetIP implements egress.Resolver.
func (n *testNet) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lookups++
	if addrs := n.hosts[strings.TrimSuffix(host, ".")]; addrs != nil {
		return addrs, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func (n *testNet) dial(ctx context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	to, ok := n.outside[address]
	n.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("nothing is at %s", address)
	}
	return (&net.Dialer{}).DialContext(ctx, network, to)
}

func (n *testNet) originalOf(c *net.TCPConn) (netip.AddrPort, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	to, ok := n.original[c.RemoteAddr().String()]
	if !ok {
		return to, errors.New("the test told no destination")
	}
	return to, nil
}

// host makes a name known outside.
func (n *testNet) host(name string, addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range addrs {
		n.hosts[name] = append(n.hosts[name], netip.MustParseAddr(a))
	}
}

// serverAt makes a server that listens reachable at an address and port of the outside.
func (n *testNet) serverAt(addrPort string, l net.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.outside[addrPort] = l.String()
}

// connect opens a connection of the agent to an address of its network.
func (n *testNet) connect(to netip.AddrPort) *net.TCPConn {
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

// connectTo resolves a name as the agent does, and connects.
func (n *testNet) connectTo(name string, port uint16) *net.TCPConn {
	n.t.Helper()
	a := n.query(name, dnsmessage.TypeA)
	if !a.addr.IsValid() {
		n.t.Fatalf("%s has no address: %v", name, a.rcode)
	}
	return n.connect(netip.AddrPortFrom(a.addr, port))
}

type dnsAnswer struct {
	rcode   dnsmessage.RCode
	addr    netip.Addr
	ttl     uint32
	answers int
}

func (n *testNet) query(name string, kind dnsmessage.Type) dnsAnswer {
	n.t.Helper()
	q := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name + "."), Type: kind, Class: dnsmessage.ClassINET}},
	}
	packet, err := q.Pack()
	if err != nil {
		n.t.Fatal(err)
	}
	return n.exchange(packet)
}

func (n *testNet) exchange(packet []byte) dnsAnswer {
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
	a := dnsAnswer{rcode: m.RCode, answers: len(m.Answers)}
	for _, r := range m.Answers {
		if r, ok := r.Body.(*dnsmessage.AResource); ok {
			a.addr = netip.AddrFrom4(r.A)
		}
		a.ttl = r.Header.TTL
	}
	return a
}

// echo serves a TCP server that sends back what it gets, and its end.
func echo(t testing.TB) net.Addr {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				_, _ = io.Copy(c, c)
				_ = c.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	return l.Addr()
}

// expectReset fails unless the connection was reset without a byte.
func expectReset(t *testing.T, c net.Conn, what string) {
	t.Helper()
	n, err := c.Read(make([]byte, 1))
	if n != 0 || err == nil || errors.Is(err, io.EOF) || isTimeout(err) {
		t.Errorf("%s: %d bytes, %v; want a reset", what, n, err)
	}
}

func isTimeout(err error) bool {
	e := net.Error(nil)
	return errors.As(err, &e) && e.Timeout()
}

func (n *testNet) report() egress.Report {
	n.t.Helper()
	r, err := n.manager.Report(n.t.Context(), testAccount, testAgent)
	if err != nil {
		n.t.Fatal(err)
	}
	return r
}

// await waits for a condition.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(timeout); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, timeout)
		}
	}
}

func TestConnectionsReachTheNameThatWasResolved(t *testing.T) {
	n := newNet(t, []any{"*.example.com"})
	n.host("api.example.com", public)
	n.serverAt(public+":22", echo(t))
	c := n.connectTo("api.example.com", 22)
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
		t.Errorf("read %q, %v", got, err)
	}
	await(t, "the connection is counted", func() bool {
		r := n.report()
		return len(r.Destinations) == 1 && r.Connections == 0 && r.Destinations[0].Host == "api.example.com" && r.Destinations[0].Port == 22 &&
			r.Destinations[0].Connections == 1 && r.Destinations[0].BytesIn == 5 && r.Destinations[0].BytesOut == 5
	})
}

// A server that speaks first, such as SMTP, is heard although the agent sends nothing.
func TestServerMaySpeakFirst(t *testing.T) {
	n := newNet(t, []any{"mail.example.com"})
	n.host("mail.example.com", public)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = io.WriteString(c, "220 ready\r\n")
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	n.serverAt(public+":25", l.Addr())
	c := n.connectTo("mail.example.com", 25)
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "220 ready\r\n" {
		t.Errorf("%q, %v", line, err)
	}
}

func TestTLSAndHTTPMustNameTheHost(t *testing.T) {
	n := newNet(t, []any{"good.example.com", "*.cdn.example.com"})
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) }))
	defer secure.Close()
	plain := httptest.NewServer(secure.Config.Handler)
	defer plain.Close()
	n.serverAt(public+":443", secure.Listener.Addr())
	n.serverAt(public+":80", plain.Listener.Addr())
	n.host("good.example.com", public)
	n.host("a.cdn.example.com", public)

	for sni, ok := range map[string]bool{"good.example.com": true, "GOOD.example.com": true, "evil.example.org": false, "a.cdn.example.com": false, "": false} {
		c := n.connectTo("good.example.com", 443)
		err := tls.Client(c, &tls.Config{ServerName: sni, InsecureSkipVerify: true}).HandshakeContext(t.Context())
		if (err == nil) != ok {
			t.Errorf("SNI %q: %v", sni, err)
		}
	}
	for request, ok := range map[string]bool{
		"GET / HTTP/1.1\r\nHost: good.example.com\r\n\r\n":                           true,
		"GET / HTTP/1.1\r\nHost: Good.Example.com:80\r\n\r\n":                        true,
		"GET http://good.example.com/ HTTP/1.1\r\nHost: good.example.com\r\n\r\n":    true,
		"GET / HTTP/1.1\r\nHost: evil.example.org\r\n\r\n":                           false,
		"GET http://evil.example.org/ HTTP/1.1\r\nHost: good.example.com\r\n\r\n":    false,
		"GET / HTTP/1.1\r\nHost: good.example.com\r\nHost: evil.example.org\r\n\r\n": false,
		"GET / HTTP/1.1\r\n\r\n":                               false,
		"\r\nGET / HTTP/1.1\r\nHost: evil.example.org\r\n\r\n": false,
		"BREW / HTTP/1.1\r\nHost: evil.example.org\r\n\r\n":    false,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                     false,
	} {
		c := n.connectTo("good.example.com", 80)
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		if got := err == nil && strings.HasPrefix(line, "HTTP/1.1 200"); got != ok {
			t.Errorf("%q: %q, %v", request, line, err)
		}
	}
	refused := n.report().Refused
	if len(refused) != 2 || refused[0].Reason != egress.ByGreeting || refused[1].Reason != egress.ByGreeting || refused[0].Count+refused[1].Count != 10 {
		t.Errorf("refused: %+v", refused)
	}
}

// The first bytes are forwarded only once it is known which host they name.
func TestNothingIsForwardedBeforeTheCheck(t *testing.T) {
	n := newNet(t, []any{"good.example.com"})
	n.host("good.example.com", public)
	got := make(chan string, 1)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		if c, err := l.Accept(); err == nil {
			all, _ := io.ReadAll(c)
			_ = c.Close()
			got <- string(all)
		}
	}()
	n.serverAt(public+":80", l.Addr())
	c := n.connectTo("good.example.com", 80)
	for _, part := range []string{"G", "ET / HT", "TP/1.1\r\nHost: evil.exa", "mple.org\r\n", "\r\n"} {
		if _, err := io.WriteString(c, part); err != nil {
			break
		}
	}
	expectReset(t, c, "a request for another host in pieces")
	if all := <-got; all != "" {
		t.Errorf("the host got %q", all)
	}
}
