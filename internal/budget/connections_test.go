package budget

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/fault"
)

// limitedServer answers 200 to a request whose connection its X-Holder may have.
func limitedServer(t *testing.T, s ConnectionSettings) (*Connections, string) {
	t.Helper()
	c := NewConnections(s)
	srv := httptest.NewUnstartedServer(TimedHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.Header.Get("X-Holder")
		if name == "" {
			return
		}
		group, _, _ := strings.Cut(name, "/")
		if err := Claim(r.Context(), name, group); err != nil {
			http.Error(w, err.Error(), http.StatusTooManyRequests)
		}
	})))
	srv.Listener = c.Listener(srv.Listener)
	srv.Config.ConnContext = ConnContext
	srv.Start()
	t.Cleanup(srv.Close)
	return c, srv.Listener.Addr().String()
}

type testConn struct {
	net.Conn
	t  *testing.T
	in *bufio.Reader
}

func dial(t *testing.T, addr string) testConn {
	t.Helper()
	return dialFrom(t, "127.0.0.1", addr)
}

func dialFrom(t *testing.T, from, addr string) testConn {
	t.Helper()
	nc, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
	return testConn{nc, t, bufio.NewReader(nc)}
}

// get returns the status of a request, or 0 if the connection was closed.
func (c testConn) get(holder string) int {
	c.t.Helper()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nX-Holder: "+holder+"\r\n\r\n"); err != nil {
		return 0
	}
	return c.status()
}

func (c testConn) status() int {
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	return res.StatusCode
}

func TestHolderOfManyConnectionsIsRefused(t *testing.T) {
	var log bytes.Buffer
	c, addr := limitedServer(t, ConnectionSettings{Door: "api", Holder: 2, Group: 3, Log: slog.New(slog.NewTextHandler(&log, nil))})
	var open []testConn
	for i, tt := range []struct {
		holder string
		status int
	}{{"a/1", 200}, {"a/1", 200}, {"a/1", 429}, {"a/2", 200}, {"a/2", 429}, {"b/1", 200}} {
		nc := dial(t, addr)
		if got := nc.get(tt.holder); got != tt.status {
			t.Errorf("connection %d of %s: %d", i, tt.holder, got)
		}
		open = append(open, nc)
	}
	if got := open[0].get("a/1"); got != 200 {
		t.Errorf("again on a connection that counts: %d", got)
	}
	if got := open[0].get("b/1"); got != 200 { // a proxy's connection carries requests of many keys
		t.Errorf("another holder on the same connection: %d", got)
	}
	if got := open[2].get("a/1"); got != 200 {
		t.Errorf("when one has become free: %d", got)
	}
	for _, nc := range open {
		_ = nc.Close()
	}
	waitUntil(t, "nothing is counted", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.total == 0 && len(c.holders) == 0 && len(c.groups) == 0 && len(c.addresses) == 0
	})
	if n := strings.Count(log.String(), "holder=a"); n != 2 { // the key and the account
		t.Errorf("named %d times:\n%s", n, log.String())
	}
}

// TestUnclaimedConnectionsKeepNobodyOut: a hog that only connects displaces itself.
func TestUnclaimedConnectionsKeepNobodyOut(t *testing.T) {
	c, addr := limitedServer(t, ConnectionSettings{Total: 8, Unnamed: 4})
	for range 20 {
		dial(t, addr)
	}
	for i := range 4 {
		if got := dial(t, addr).get("good"); got != 200 {
			t.Errorf("connection %d: %d", i, got)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total > 8 || c.unclaimed.Len() > 4 {
		t.Errorf("%d connections, %d unclaimed", c.total, c.unclaimed.Len())
	}
}

func TestFullListenerAnswers503(t *testing.T) {
	_, addr := limitedServer(t, ConnectionSettings{Total: 2})
	for range 2 {
		if got := dial(t, addr).get("a"); got != 200 {
			t.Error(got)
		}
	}
	if got := dial(t, addr).status(); got != http.StatusServiceUnavailable {
		t.Errorf("status %d", got)
	}
}

// TestAddressIsLimitedUnlessExempt: a new connection of an address that has too many
// displaces its oldest one, and no other's.
func TestAddressIsLimitedUnlessExempt(t *testing.T) {
	for _, exempt := range []bool{false, true} {
		c, addr := limitedServer(t, ConnectionSettings{Address: 2, Exempt: func(netip.Addr) bool { return exempt }})
		open := []testConn{dialFrom(t, "127.0.0.2", addr)}
		for range 3 {
			open = append(open, dial(t, addr))
		}
		want := 3
		if exempt {
			want = 4
		}
		waitUntil(t, "all are counted", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.total == want })
		for i, nc := range open {
			if got, displaced := nc.get(""), i == 1 && !exempt; (got == 200) == displaced {
				t.Errorf("exempt %v: connection %d: %d", exempt, i, got)
			}
		}
	}
}

func TestClaimWithoutALimitedConnection(t *testing.T) {
	if err := Claim(t.Context(), "a", "b"); err != nil {
		t.Error(err)
	}
	if err := (&Connections{}).tooMany("a", 1); !fault.Is(err, fault.RateLimited) {
		t.Error(err)
	}
}

func TestNetwork(t *testing.T) {
	for text, want := range map[string]string{"127.0.0.1:1": "127.0.0.1", "[2001:db8::1:2]:3": "2001:db8::", "[::ffff:10.0.0.1]:5": "10.0.0.1"} {
		if got := network(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(text))); got.String() != want {
			t.Errorf("%s: %s", text, got)
		}
	}
	if network(&net.UnixAddr{}).IsValid() {
		t.Error("a unix socket has an address")
	}
}

func waitUntil(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// deadlines is a ResponseWriter that records its deadlines.
type deadlines struct {
	httptest.ResponseRecorder
	read, write []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.read = append(d.read, t)
	return nil
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.write = append(d.write, t)
	return nil
}

// TestDeadlinesMove while a body comes and an answer is taken, and a body that comes too
// slowly has no more time than one that stalls.
func TestDeadlinesMove(t *testing.T) {
	out := &deadlines{ResponseRecorder: *httptest.NewRecorder()}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", io.MultiReader(strings.NewReader("a"), strings.NewReader(strings.Repeat("b", 4*minBodyRate))))
	began := time.Now()
	w, r := Timed(out, r)
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		t.Fatal(err)
	}
	last := out.read[len(out.read)-1]
	if first, second := out.read[0], out.read[1]; !last.IsZero() || first.Sub(began) < stallTime || second.Sub(first) > time.Second {
		t.Errorf("deadlines %v: the first byte must not buy another stallTime, and none is left at the end", out.read)
	}
	if _, err := w.Write(make([]byte, 3*maxWrite+1)); err != nil || len(out.write) != 4 || out.Body.Len() != 3*maxWrite+1 {
		t.Errorf("%d deadlines for %d bytes, %v", len(out.write), out.Body.Len(), err)
	}
	if n, err := w.Write(nil); n != 0 || err != nil || errors.Is(err, io.EOF) {
		t.Error(n, err)
	}
}
