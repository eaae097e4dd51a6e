package process_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/process"
	"agento.host/agento/internal/runtime/runtimetest"
)

// openIsolated returns a driver with namespaces, or skips the test.
func openIsolated(t *testing.T) (process.Settings, *process.Driver) {
	t.Helper()
	if goruntime.GOOS != "linux" {
		t.Skip("network namespaces need Linux")
	}
	s := newSettings(t)
	if s.NoSandbox {
		t.Skip("without a sandbox")
	}
	return s, open(t, s)
}

func openNetwork(t *testing.T, d *process.Driver, g *runtimetest.Gateway) *runtime.Network {
	t.Helper()
	n, err := d.Network(t.Context(), g.Place, g.ID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// try connects from inside an agent and returns what the connection says, or the error
// with its time.
const tryScript = `timeout 5 bash -c 'exec 3<>/dev/tcp/%s/%d && timeout 2 head -c 100 <&3' 2>&1`

func connectFrom(g *runtimetest.Gateway, host string, port int) string {
	return g.Shell(tryScript, host, port)
}

// TestAgentReachesNothingOfTheMachine: a listener on every address of the machine, on
// an abstract socket and of another agent is out of reach.
func TestAgentReachesNothingOfTheMachine(t *testing.T) {
	_, d := openIsolated(t)
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	other := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	openNetwork(t, d, g)

	hosts := []string{"127.0.0.1", "::1"}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			hosts = append(hosts, p.Addr().String())
		}
	}
	for _, host := range hosts {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Logf("%s: %v", host, err)
			continue
		}
		defer func() { _ = l.Close() }()
		go greet(l)
		if got := connectFrom(g, host, l.Addr().(*net.TCPAddr).Port); strings.Contains(got, "greetings") {
			t.Errorf("the agent reaches the machine at %s: %q", l.Addr(), got)
		}
	}
	for _, host := range []string{"10.0.0.1", "192.168.0.1", "172.16.0.1", "169.254.169.254", "224.0.0.1", "1.1.1.1", "fd00:ec2::254"} {
		began := time.Now()
		if got := connectFrom(g, host, 80); !strings.Contains(got, "unreachable") {
			t.Errorf("%s: %q", host, got)
		}
		if passed := time.Since(began); passed > 4*time.Second {
			t.Errorf("%s is refused after %s", host, passed)
		}
	}
	abstract, err := net.Listen("unix", "@agento-test-"+string(g.ID))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = abstract.Close() }()
	for _, who := range []*runtimetest.Gateway{g, other} {
		if got := who.Shell("cat /proc/net/unix"); strings.Contains(got, "agento-test-") {
			t.Error("the agent sees the machine's abstract sockets")
		}
	}
	if got := g.Shell("cat /proc/net/tcp | wc -l"); strings.TrimSpace(got) == "" {
		t.Error("no table of connections")
	}
	if got := g.Shell("ls /dev/net 2>&1"); strings.Contains(got, "tun") {
		t.Error("the agent has a tun device")
	}
}

func greet(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "greetings\n")
		_ = c.Close()
	}
}

// TestNetworkListeners: the three listeners get what the agent sends, and tell where it
// was going; without a server nothing answers and nobody can take their place; the next
// server has them again.
func TestNetworkListeners(t *testing.T) {
	s, d := openIsolated(t)
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	for life := range 2 {
		if got := connectFrom(g, "127.0.0.1", 14); !strings.Contains(got, "refused") {
			t.Errorf("without a server: %q", got)
		}
		for _, port := range []int{14, 15} {
			if got := g.Shell("%s", fmt.Sprintf(listenScript, port)); !strings.Contains(got, "PermissionError") {
				t.Errorf("an agent takes port %d: %q", port, got)
			}
		}
		n, err := d.Network(t.Context(), g.Place, g.ID)
		if err != nil {
			t.Fatal(err)
		}
		go greet(n.Server)
		if got := connectFrom(g, "127.0.0.1", 14); !strings.Contains(got, "greetings") {
			t.Errorf("life %d: the server's port says %q", life, got)
		}
		if err := n.SetRoutes(t.Context(), []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("203.0.113.7/32")}); err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := n.Out.Accept()
				if err != nil {
					return
				}
				_, _ = fmt.Fprintf(c, "you went to %s\n", originalDestination(t, c))
				_ = c.Close()
			}
		}()
		for _, to := range []struct {
			host string
			port int
		}{{"198.18.3.4", 443}, {"203.0.113.7", 15}, {"198.19.255.255", 14}} {
			if got, want := connectFrom(g, to.host, to.port), fmt.Sprintf("you went to %s:%d", to.host, to.port); !strings.Contains(got, want) {
				t.Errorf("life %d: %q instead of %q", life, got, want)
			}
		}
		if got := connectFrom(g, "203.0.113.8", 443); !strings.Contains(got, "unreachable") {
			t.Errorf("without a route: %q", got)
		}
		if err := n.SetRoutes(t.Context(), []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15")}); err != nil {
			t.Fatal(err)
		}
		if got := connectFrom(g, "203.0.113.7", 443); !strings.Contains(got, "unreachable") {
			t.Errorf("after the route was taken away: %q", got)
		}
		go func() {
			buf := make([]byte, 1500)
			for {
				size, from, err := n.DNS.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = n.DNS.WriteTo(append([]byte("query of "), fmt.Sprint(size)...), from)
			}
		}()
		if got := g.Shell("%s", dnsScript); !strings.Contains(got, "query of 5") {
			t.Errorf("life %d: the name server says %q", life, got)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		d = open(t, s) // the next server
	}
}

const (
	listenScript = `python3 -c 'import socket; socket.create_server(("127.0.0.1", %d)); print("taken")' 2>&1`
	dnsScript    = `python3 -c 'import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); s.sendto(b"hello", ("127.0.0.53", 53)); print(s.recv(100))' 2>&1`
)

// originalDestination is where a redirected connection was going.
func originalDestination(t *testing.T, c net.Conn) string {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Error(err)
		return ""
	}
	var text string
	_ = raw.Control(func(fd uintptr) {
		mtu, err := unix.GetsockoptIPv6MTUInfo(int(fd), unix.SOL_IP, 80) // has room for the sockaddr
		if err != nil {
			text = err.Error()
			return
		}
		a := mtu.Addr // sockaddr_in: family, port, address
		text = fmt.Sprintf("%d.%d.%d.%d:%d", byte(a.Flowinfo), byte(a.Flowinfo>>8), byte(a.Flowinfo>>16), byte(a.Flowinfo>>24), a.Port>>8|a.Port<<8&0xff00)
	})
	return text
}

// TestNetworkRefuses: what is no TCP, and too many connections, fail at once.
func TestNetworkRefuses(t *testing.T) {
	_, d := openIsolated(t)
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	n := openNetwork(t, d, g)
	if err := n.SetRoutes(t.Context(), []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15")}); err != nil {
		t.Fatal(err)
	}
	go greet(n.Out)
	udp := g.Shell("%s", `python3 -c 'import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); s.connect(("198.18.0.9", 443)); s.send(b"x"); print(s.recv(1))' 2>&1`)
	if !strings.Contains(udp, "ConnectionRefusedError") && !strings.Contains(udp, "PermissionError") {
		t.Errorf("UDP: %q", udp)
	}
	packets := g.Shell("%s", `python3 -c 'import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); dropped = 0
for i in range(2000):
    try: s.sendto(b"x", ("198.18.0.9", 9))
    except PermissionError: dropped += 1
    except ConnectionRefusedError: pass
print("dropped", dropped)' 2>&1`)
	var dropped int
	if _, err := fmt.Sscanf(packets, "dropped %d", &dropped); err != nil || dropped < 1000 {
		t.Errorf("2,000 packets at once: %q", packets)
	}
	flood := g.Shell("%s", `python3 -c 'import socket
ok = no = 0
for i in range(600):
    try:
        s = socket.create_connection(("198.18.0.9", 443), 2); ok += 1; s.close()
    except ConnectionRefusedError: no += 1
print("accepted", ok, "refused", no)' 2>&1`)
	var ok, no int
	if _, err := fmt.Sscanf(flood, "accepted %d refused %d", &ok, &no); err != nil || ok < 200 || no == 0 {
		t.Errorf("600 connections at once: %q", flood)
	}
	for _, do := range []string{"socket.SOCK_RAW, socket.IPPROTO_TCP"} {
		if got := g.Shell("python3 -c 'import socket; socket.socket(socket.AF_INET, %s)' 2>&1", do); !strings.Contains(got, "PermissionError") {
			t.Errorf("a raw socket: %q", got)
		}
	}
	if got := g.Shell("ip route add local 0.0.0.0/0 dev lo 2>&1; nft flush ruleset 2>&1; unshare -n true 2>&1"); strings.Count(got, "not permitted")+strings.Count(got, "not found") < 2 {
		t.Errorf("changing the network: %q", got)
	}
}

// TestDialEntersTheNetwork: many connections at once, and none after the end.
func TestDialEntersTheNetwork(t *testing.T) {
	_, d := openIsolated(t)
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	before := openFiles(t)
	for range 40 {
		if _, err := g.Try("/boot"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if c, err := d.Dial(ctx, g.Place, g.ID); err == nil {
		_ = c.Close()
	}
	if after := openFiles(t); after > before+20 {
		t.Errorf("%d open files after 40 connections, %d before", after, before)
	}
	g.Stop(0)
	if _, err := d.Network(t.Context(), g.Place, g.ID); err == nil {
		t.Error("the network of a stopped gateway")
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
