package egress_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/egress"
	"agento.host/agento/internal/egress/egresstest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/logtest"
)

const (
	testAgent   identity.AgentID   = "agent-1"
	testAccount identity.AccountID = "acct_1"
	timeout                        = 10 * time.Second
	public                         = egresstest.Public
)

// testNet is the network of one agent that a manager serves.
type testNet struct {
	*egresstest.Net
	t       testing.TB
	db      *database.DB
	events  *event.Log
	log     *logtest.Buffer
	manager *egress.Manager

	mu     sync.Mutex
	policy egress.Policy // guarded by mu
}

// newNet returns a network with a policy, which is served. change may change settings.
func newNet(t testing.TB, policy any, change ...func(*egress.Settings)) *testNet {
	t.Helper()
	n := &testNet{Net: egresstest.New(t), t: t, db: databasetest.New(t), log: &logtest.Buffer{}, policy: mustParse(t, policy)}
	n.events = event.NewLog(n.db)
	n.startServer(change...)
	return n
}

// startServer makes another manager serve the network, as after a restart.
func (n *testNet) startServer(change ...func(*egress.Settings)) {
	n.t.Helper()
	s := egress.Settings{
		DB: n.db, Events: n.events, Log: slog.New(slog.NewTextHandler(n.log, nil)), Policy: n.policyOf, Limits: egress.DefaultLimits(),
	}
	n.Adjust(&s)
	for _, f := range change {
		f(&s)
	}
	m := egress.NewManager(s)
	n.manager = m
	n.Attach(m, testAgent)
	n.t.Cleanup(func() { m.Detach(testAgent) })
}

func (n *testNet) policyOf(context.Context, identity.AgentID) (identity.AccountID, egress.Policy, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return testAccount, n.policy, nil
}

func mustParse(t testing.TB, v any) egress.Policy {
	t.Helper()
	p, err := egress.ParsePolicy(v)
	if err != nil {
		t.Fatal(err)
	}
	return p
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
	n.Host("api.example.com", public)
	n.At(public+":22", echo(t))
	c := n.ConnectTo("api.example.com", 22)
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
	n.Host("mail.example.com", public)
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
	n.At(public+":25", l.Addr())
	c := n.ConnectTo("mail.example.com", 25)
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
	n.At(public+":443", secure.Listener.Addr())
	n.At(public+":80", plain.Listener.Addr())
	n.Host("good.example.com", public)
	n.Host("a.cdn.example.com", public)

	for sni, ok := range map[string]bool{"good.example.com": true, "GOOD.example.com": true, "evil.example.org": false, "a.cdn.example.com": false, "": false} {
		c := n.ConnectTo("good.example.com", 443)
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
		c := n.ConnectTo("good.example.com", 80)
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
	n.Host("good.example.com", public)
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
	n.At(public+":80", l.Addr())
	c := n.ConnectTo("good.example.com", 80)
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
