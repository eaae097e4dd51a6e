package egress_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/egress"
	"agento.host/agento/internal/runtime"
)

// proxy accepts the connections of an agent that has a proxy only.
type proxy struct {
	t      *testing.T
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *proxy) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *proxy) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *proxy) Addr() net.Addr { return &net.TCPAddr{} }

// outgoing is a connection that the proxy has accepted. Its socket is hidden.
type outgoing struct {
	net.Conn
	host     string
	port     uint16
	answered chan string // "" for accepted
}

func (o *outgoing) CloseWrite() error             { return o.Conn.(*net.TCPConn).CloseWrite() }
func (o *outgoing) Destination() (string, uint16) { return o.host, o.port }
func (o *outgoing) Accept() error                 { return o.Refuse("") }
func (o *outgoing) Refuse(reason string) error {
	o.answered <- reason
	return nil
}

var _ runtime.Outgoing = (*outgoing)(nil)

// connect opens a connection of the agent to what it names. It returns the agent's end, and what the
// proxy says: "" if the connection is made.
func (p *proxy) connect(host string, port uint16) (*net.TCPConn, string) {
	p.t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	client, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = client.Close() })
	if err := client.SetDeadline(time.Now().Add(timeout)); err != nil {
		p.t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		p.t.Fatal(err)
	}
	o := &outgoing{Conn: server, host: host, port: port, answered: make(chan string, 2)}
	p.conns <- o
	select {
	case text := <-o.answered:
		return client.(*net.TCPConn), text
	case <-time.After(timeout):
		p.t.Fatalf("no answer for %s", host)
	}
	return nil, ""
}

func newProxy(t *testing.T, n *testNet) *proxy {
	p := &proxy{t: t, conns: make(chan net.Conn), closed: make(chan struct{})}
	n.manager.Attach(testAgent, egress.Network{Out: p})
	return p
}

// TestOutgoing: what an agent names to a proxy obeys the same policy as what the kernel redirects.
func TestOutgoing(t *testing.T) {
	n := newNet(t, []any{"example.com", public + ":22", "*.inside.example"})
	n.Host("example.com", public)
	n.Host("db.inside.example", "10.0.0.5")
	n.Host("meta.inside.example", "169.254.169.254")
	n.At(public+":22", echo(t))
	p := newProxy(t, n)
	for _, host := range []string{"example.com", "EXAMPLE.com.", public, "::ffff:" + public, "[::ffff:" + public + "]"} {
		c, refused := p.connect(host, 22)
		if refused != "" {
			t.Errorf("%s: %s", host, refused)
			continue
		}
		speak(t, c, host)
	}
	for _, c := range []struct {
		host, text string
		port       uint16
		reason     egress.Reason
	}{
		{host: "other.com", port: 22, text: "policy list", reason: egress.ByPolicy},
		{host: public, port: 25, text: "policy list", reason: egress.ByPolicy},
		{host: "127.0.0.1", port: 22, text: "policy list", reason: egress.ByPolicy},
		{host: "db.inside.example", port: 22, text: "private", reason: egress.PrivateAddress},
		{host: "meta.inside.example", port: 80, text: "169.254.169.254", reason: egress.ForbiddenAddress},
		{host: "198.18.7.7", port: 22, text: "no name has the address", reason: egress.UnknownAddress},
		{host: "127.1", port: 22, text: "not the name of a host", reason: egress.UnknownAddress},
		{host: "a b", port: 22, text: "not the name of a host", reason: egress.UnknownAddress},
		{host: "", port: 22, text: "not the name of a host", reason: egress.UnknownAddress},
		{host: strings.Repeat("x", 300), port: 22, text: "not the name of a host", reason: egress.UnknownAddress},
	} {
		conn, text := p.connect(c.host, c.port)
		if !strings.Contains(text, c.text) {
			t.Errorf("%.20s:%d: refused with %q", c.host, c.port, text)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Errorf("%.20s:%d: the connection is open: %v", c.host, c.port, err)
		}
		if r := n.report().Refused; !slices.ContainsFunc(r, func(r egress.Refused) bool { return r.Reason == c.reason && r.Port == c.port }) {
			t.Errorf("%.20s:%d: not reported: %+v", c.host, c.port, r)
		}
	}
	if _, text := p.connect("example.com", 443); text != "The connection could not be made." { // nothing is there
		t.Errorf("a host that does not answer: %q", text)
	}
}

// TestOutgoingBytes: everything arrives, in both directions, the end of one passes on, and a greeting
// that names another host is refused.
func TestOutgoingBytes(t *testing.T) {
	n := newNet(t, "open")
	n.Host("example.com", public)
	n.At(public+":22", echo(t))
	p := newProxy(t, n)
	data := make([]byte, 3<<20)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	c, refused := p.connect("example.com", 22)
	if refused != "" {
		t.Fatal(refused)
	}
	data[0] = '!' // no greeting
	go func() {
		_, _ = io.Copy(c, bytes.NewReader(data))
		_ = c.CloseWrite()
	}()
	back, err := io.ReadAll(c)
	if err != nil || sha256.Sum256(back) != sha256.Sum256(data) {
		t.Errorf("%d bytes came back, %v", len(back), err)
	}
	c, refused = p.connect("example.com", 22)
	if refused != "" {
		t.Fatal(refused)
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: hidden.example\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(c); len(got) > 0 {
		t.Errorf("a request for another host was answered with %q", got)
	}
	if r := n.report(); r.Refused[0].Reason != egress.ByGreeting || r.Destinations[0].BytesOut < int64(len(data)) || r.Destinations[0].BytesIn < int64(len(data)) {
		t.Errorf("%+v", r)
	}
}
