package egress_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"agento.host/agento/internal/egress"
	"agento.host/agento/internal/netguard"
)

// speak fails unless the other end of c sends back what it gets.
func speak(t *testing.T, c net.Conn, what string) {
	t.Helper()
	if _, err := io.WriteString(c, "ping\n"); err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "ping\n" {
		t.Errorf("%s: %q, %v", what, got, err)
	}
}

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func TestLiteralAddressesNeedThePolicy(t *testing.T) {
	server := echo(t)
	for policy, ok := range map[string]bool{"open": true, "list": true, "other port": false, "other": false, "model": false, "none": false} {
		value := map[string]any{"list": []any{public + ":22"}, "other port": []any{public + ":443"}, "other": []any{"*.example.com"}}[policy]
		if value == nil {
			value = policy
		}
		n := newNet(t, value)
		n.At(public+":22", server)
		c := n.Connect(addrPort(public + ":22"))
		if ok {
			speak(t, c, policy)
			continue
		}
		expectReset(t, c, policy)
		if r := n.report().Refused; len(r) != 1 || r[0].Host != public || r[0].Port != 22 || r[0].Reason != egress.ByPolicy {
			t.Errorf("%s: %+v", policy, r)
		}
	}
}

func TestAddressWithoutANameIsRefused(t *testing.T) {
	n := newNet(t, "open")
	expectReset(t, n.Connect(addrPort("198.18.7.7:443")), "an address that no name has")
	if r := n.report().Refused; len(r) != 1 || r[0].Reason != egress.UnknownAddress {
		t.Errorf("%+v", r)
	}
}

func TestPortOfAListedName(t *testing.T) {
	n := newNet(t, []any{"example.com:22"})
	n.Host("example.com", public)
	n.At(public+":22", echo(t))
	n.At(public+":25", echo(t))
	speak(t, n.ConnectTo("example.com", 22), "the port of the list")
	expectReset(t, n.ConnectTo("example.com", 25), "another port")
	r := n.report().Refused
	if len(r) != 1 || r[0].Port != 25 {
		t.Fatalf("%+v", r)
	}
	if allow := mustParse(t, []any{"example.com:22"}).AllowText(r[0]); allow != `Add "example.com:25" to the list config.egress.` {
		t.Error(allow)
	}
}

// own is an address of the machine in tests that need a public one.
const own = "93.184.216.99"

func withOwn(s *egress.Settings) {
	s.Own = func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr(own)}, nil }
}

// forbidden are addresses that no way out leads to, whatever the operator allows.
var forbidden = []string{
	"127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "fe80::1", "fd00:ec2::254", "100.100.100.200", "224.0.0.1", "ff02::1", "0.0.0.0",
	"64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", own,
}

var privates = []string{"10.0.0.5", "192.168.1.1", "172.16.0.1", "fd12:3456::1", "100.64.0.1"}

// Names are checked when they are dialled, whatever the policy is.
func TestNamesOfPrivateAddressesAreRefused(t *testing.T) {
	for _, policy := range []any{"open", []any{"*.example.com"}} {
		n := newNet(t, policy, withOwn)
		server := echo(t)
		for i, addr := range append(forbidden, privates...) {
			name := "h" + string(rune('a'+i)) + ".example.com"
			n.Host(name, addr)
			n.At(net.JoinHostPort(addr, "22"), server)
			expectReset(t, n.ConnectTo(name, 22), addr)
		}
		counts := map[egress.Reason]int{}
		for _, r := range n.report().Refused {
			counts[r.Reason]++
		}
		if counts[egress.ForbiddenAddress] != len(forbidden) || counts[egress.PrivateAddress] != len(privates) {
			t.Errorf("%v: %v", policy, counts)
		}
	}
}

// The operator's range opens what a list names, and nothing else.
func TestPrivateRangesNeedTheOperatorAndTheList(t *testing.T) {
	everything := func(s *egress.Settings) {
		withOwn(s)
		s.Private = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	}
	server := echo(t)
	for name, c := range map[string]struct {
		policy any
		ok     bool
	}{
		"named":       {[]any{"*.example.com"}, true},
		"by address":  {[]any{"10.0.0.0/8", "192.168.1.1", "172.16.0.1", "100.64.0.1"}, true},
		"open":        {"open", false},
		"another one": {[]any{"*.example.org"}, false},
	} {
		n := newNet(t, c.policy, everything)
		for i, addr := range privates {
			n.At(net.JoinHostPort(addr, "22"), server)
			host := "h" + string(rune('a'+i)) + ".example.com"
			n.Host(host, addr)
			var conn net.Conn
			switch {
			case name != "by address" && n.Query(host, dnsmessage.TypeA).Addr.IsValid():
				conn = n.ConnectTo(host, 22)
			case netip.MustParseAddr(addr).Is4():
				conn = n.Connect(addrPort(addr + ":22"))
			default:
				continue
			}
			if c.ok {
				speak(t, conn, name+" "+addr)
			} else {
				expectReset(t, conn, name+" "+addr)
			}
		}
	}
	n := newNet(t, []any{"*.example.com"}, everything)
	for i, addr := range forbidden {
		name := "h" + string(rune('a'+i)) + ".example.com"
		n.Host(name, addr)
		n.At(net.JoinHostPort(addr, "22"), server)
		expectReset(t, n.ConnectTo(name, 22), addr)
	}
}

// A name with several addresses is reached by those that are allowed and answer.
func TestDialTriesEveryAllowedAddress(t *testing.T) {
	n := newNet(t, "open")
	n.Host("example.com", "2606:4700::1", "10.0.0.1", "93.184.216.1", public)
	n.At("10.0.0.1:22", echo(t))
	n.At(public+":22", echo(t))
	speak(t, n.ConnectTo("example.com", 22), "the last address")
}

func TestConnectionsAreLimited(t *testing.T) {
	n := newNet(t, "open", func(s *egress.Settings) { s.Limits.Connections = 2 })
	n.At(public+":22", echo(t))
	first, second := n.Connect(addrPort(public+":22")), n.Connect(addrPort(public+":22"))
	speak(t, first, "the first")
	speak(t, second, "the second")
	for range 2 {
		expectReset(t, n.Connect(addrPort(public+":22")), "one too many")
	}
	if r := n.report(); r.Connections != 2 || len(r.Refused) != 1 || r.Refused[0].Reason != egress.ByLimit || r.Refused[0].Count != 2 {
		t.Errorf("%+v", r)
	}
	if log := n.log.String(); strings.Count(log, "limit of its network") != 1 || !strings.Contains(log, "agent="+string(testAgent)) {
		t.Errorf("the log: %s", log)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, "a connection is free", func() bool { return n.report().Connections == 1 })
	speak(t, n.Connect(addrPort(public+":22")), "once another has ended")
}

func TestDialEnds(t *testing.T) {
	n := newNet(t, "open", func(s *egress.Settings) {
		s.Limits.DialTimeout = 50 * time.Millisecond
		s.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
	})
	expectReset(t, n.Connect(addrPort(public+":22")), "a host that does not answer")
	if d := n.report().Destinations; len(d) != 1 || d[0].Failed != 1 || d[0].Connections != 0 {
		t.Errorf("%+v", d)
	}
}

func TestIdleConnectionsAreReset(t *testing.T) {
	n := newNet(t, "open", func(s *egress.Settings) { s.Limits.IdleTimeout = 100 * time.Millisecond })
	n.At(public+":22", echo(t))
	n.runManager()
	c := n.Connect(addrPort(public + ":22"))
	speak(t, c, "a new connection")
	expectReset(t, c, "an idle connection")
}

// runManager runs the manager until the end of the test.
func (n *testNet) runManager() {
	ctx, cancel := context.WithCancel(context.Background())
	var loop sync.WaitGroup
	loop.Go(func() {
		if err := n.manager.Run(ctx); err != nil {
			n.t.Error(err)
		}
	})
	n.t.Cleanup(func() {
		cancel()
		loop.Wait()
	})
}

func TestBytesAreLimited(t *testing.T) {
	const perSecond, burst = 1 << 20, 256 << 10
	n := newNet(t, "open", func(s *egress.Settings) { s.Limits.BytesPerSecond = perSecond })
	n.At(public+":22", echo(t))
	c := n.Connect(addrPort(public + ":22"))
	sent := make([]byte, 384<<10)
	_, _ = rand.Read(sent)
	start := time.Now()
	go func() {
		_, _ = c.Write(sent)
		_ = c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d of %d bytes, %v", len(got), len(sent), err)
	}
	if min := time.Duration(2*len(sent)-burst) * time.Second / perSecond; time.Since(start) < min*9/10 {
		t.Errorf("%d bytes each way took %s, the limit needs %s", len(sent), time.Since(start), min)
	}
}

// A flood of small writes costs the server time, and counts as much.
func TestSmallWritesAreLimited(t *testing.T) {
	const perSecond, burst, cost = 1 << 20, 256 << 10, 4 << 10
	n := newNet(t, "open", func(s *egress.Settings) { s.Limits.BytesPerSecond = perSecond })
	n.At(public+":22", echo(t))
	c := n.Connect(addrPort(public + ":22"))
	const trips = 200
	start, one := time.Now(), []byte{1}
	for range trips {
		if _, err := c.Write(one); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, one); err != nil {
			t.Fatal(err)
		}
	}
	if min := time.Duration(2*trips*cost-burst) * time.Second / perSecond; time.Since(start) < min*9/10 {
		t.Errorf("%d round trips of a byte took %s, the limit needs %s", trips, time.Since(start), min)
	}
}

// A greeting in very many pieces costs the server time, and is refused.
func TestGreetingInManyPieces(t *testing.T) {
	n := newNet(t, []any{"good.example.com"})
	n.Host("good.example.com", public)
	n.At(public+":80", echo(t))
	c := n.ConnectTo("good.example.com", 80)
	const greeting = "GET / HTTP/1.1\r\nHost: good.example.com\r\nX: x"
	for i := range 20_000 { // less than may be in one piece
		if _, err := io.WriteString(c, greeting[min(i, len(greeting)-1):][:1]); err != nil {
			return // refused
		}
	}
	if err := c.SetReadDeadline(time.Now().Add(timeout / 2)); err != nil { // before its time is over
		t.Fatal(err)
	}
	expectReset(t, c, "a greeting in 20,000 pieces")
}

// Each direction ends by itself: what the other side still sends arrives.
func TestHalfClose(t *testing.T) {
	n := newNet(t, "open")
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	got := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "all that I have")
		_ = c.(*net.TCPConn).CloseWrite()
		all, _ := io.ReadAll(c)
		got <- string(all)
		_ = c.Close()
	}()
	n.At(public+":22", l.Addr())
	c := n.Connect(addrPort(public + ":22"))
	if all, err := io.ReadAll(c); err != nil || string(all) != "all that I have" {
		t.Errorf("%q, %v", all, err)
	}
	if _, err := io.WriteString(c, "and my answer"); err != nil {
		t.Error(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Error(err)
	}
	if all := <-got; all != "and my answer" {
		t.Errorf("the server got %q", all)
	}
	await(t, "the connection ends", func() bool { return n.report().Connections == 0 })
}

// A reset of the outside is a reset for the agent, not an end.
func TestResetIsPassedOn(t *testing.T) {
	n := newNet(t, "open")
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		if c, err := l.Accept(); err == nil {
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}
	}()
	n.At(public+":22", l.Addr())
	expectReset(t, n.Connect(addrPort(public+":22")), "a connection that the server resets")
}

func TestPolicyChangeResetsConnections(t *testing.T) {
	n := newNet(t, "open")
	n.Host("a.example.com", public)
	n.Host("b.example.com", public)
	n.At(public+":22", echo(t))
	a, b := n.ConnectTo("a.example.com", 22), n.ConnectTo("b.example.com", 22)
	speak(t, a, "a before")
	speak(t, b, "b before")
	n.manager.SetPolicy(testAgent, mustParse(t, []any{"a.example.com"}))
	expectReset(t, b, "b after")
	speak(t, a, "a after")
}

func TestDetachEndsEverything(t *testing.T) {
	n := newNet(t, "open")
	n.At(public+":22", echo(t))
	c := n.Connect(addrPort(public + ":22"))
	speak(t, c, "before")
	n.manager.Detach(testAgent)
	expectReset(t, c, "after")
	if r := n.report(); r.Connections != 0 || len(r.Destinations) != 1 || r.Destinations[0].BytesOut != 5 {
		t.Errorf("%+v", r)
	}
	n.manager.Detach(testAgent) // again does nothing
}

func TestReplacedNetworkKeepsItsNames(t *testing.T) {
	n := newNet(t, []any{"*.example.com"})
	before := n.Query("a.example.com", dnsmessage.TypeA).Addr
	n.Attach(n.manager, testAgent)
	if after := n.Query("a.example.com", dnsmessage.TypeA).Addr; after != before {
		t.Errorf("%s, before %s", after, before)
	}
}

// The guard's own dialler refuses, too: nothing depends on the check before it.
func TestGuardOfTheWayOutDials(t *testing.T) {
	n := newNet(t, "open", func(s *egress.Settings) { s.Dial = nil })
	server := echo(t)
	n.Host("example.com", "127.0.0.1")
	c := n.ConnectTo("example.com", addrPort(server.String()).Port())
	expectReset(t, c, "loopback")
	if _, err := (netguard.Guard{Own: netguard.OwnAddresses}).DialContext(t.Context(), "tcp", server.String()); !errors.As(err, new(*netguard.Refused)) {
		t.Error(err)
	}
}
