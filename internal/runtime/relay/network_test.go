//go:build linux

package relay_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/relay"
)

// TestServerKnowsTheCaller: the gateway's own calls are told from those of its programs.
func TestServerKnowsTheCaller(t *testing.T) {
	r := start(t)
	if got := callOnce(r.server); !strings.HasPrefix(got, "error") {
		t.Errorf("without a session: %q", got)
	}
	s := r.launch()
	if got := ask(t, s, "call "+r.server); !strings.HasPrefix(got, "error") {
		t.Errorf("without a listener: %q", got)
	}
	n := s.Network()
	serve := func(n *runtime.Network) {
		for {
			c, err := n.Server.Accept()
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(c, "from the gateway: %t", n.FromGateway(c))
			_ = c.Close()
		}
	}
	go serve(n)
	_, port, _ := net.SplitHostPort(r.server)
	for command, want := range map[string]bool{"call " + r.server: true, "child-call " + r.server: false, "child-call [::ffff:127.0.0.1]:" + port: false} {
		if got := ask(t, s, command); got != fmt.Sprintf("from the gateway: %t", want) {
			t.Errorf("%s: %s", command, got)
		}
	}
	// The listeners of a second call take over; those of the first are closed, twice without harm.
	second := s.Network()
	if _, err := n.Server.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
	must(t, n.Close())
	go serve(second)
	if got := ask(t, s, "call "+r.server); got != "from the gateway: true" {
		t.Error(got)
	}
	must(t, second.Close())
	if got := ask(t, s, "call "+r.server); !strings.HasPrefix(got, "error") {
		t.Errorf("closed listeners: %q", got)
	}
	third := s.Network()
	must(t, s.Close())
	if _, err := third.Out.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the session: %v", err)
	}
	if _, err := s.Network().Server.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a listener of an ended session: %v", err)
	}
	// A gateway and its server find each other again in the next session.
	s = r.connect()
	go serve(s.Network())
	if got := ask(t, s, "call "+r.server); got != "from the gateway: true" {
		t.Error(got)
	}
}

func callOnce(address string) string {
	c, err := net.DialTimeout("tcp4", address, time.Second)
	if err != nil {
		return "error: " + err.Error()
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	b, err := io.ReadAll(c)
	if err != nil {
		return "error: " + err.Error()
	}
	return string(b)
}

// TestConnectionsEndWithTheSession: what the agent has open is reset.
func TestConnectionsEndWithTheSession(t *testing.T) {
	r := start(t)
	s := r.launch()
	n := s.Network()
	c, err := net.Dial("tcp4", r.server)
	must(t, err)
	defer func() { _ = c.Close() }()
	far, err := n.Server.Accept()
	must(t, err)
	_, err = io.WriteString(far, "x")
	must(t, err)
	_, err = io.ReadFull(c, make([]byte, 1))
	must(t, err)
	near, err := s.Dial(t.Context())
	must(t, err)
	must(t, s.Close())
	must(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the agent reads %v", err)
	}
	if _, err := near.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the control plane reads %v", err)
	}
}

// wayOut serves Network.Out as the control plane does: names that begin with "no" are refused,
// all others lead to one server.
func wayOut(t *testing.T, n *runtime.Network, to string) <-chan string {
	asked := make(chan string, 1000)
	go func() {
		for {
			c, err := n.Out.Accept()
			if err != nil {
				return
			}
			go func() {
				o := c.(runtime.Outgoing)
				host, port := o.Destination()
				asked <- fmt.Sprintf("%s %d", host, port)
				if _, err := o.Read(make([]byte, 1)); err == nil {
					t.Error("read before the decision")
				}
				if strings.HasPrefix(host, "no") {
					_ = o.Refuse("the policy has no " + host + "\r\n")
					return
				}
				if strings.HasPrefix(host, "broken") {
					_ = o.Close()
					return
				}
				d, err := net.Dial("tcp", to)
				if err != nil {
					_ = o.Close()
					return
				}
				if err := o.Accept(); err != nil {
					_ = d.Close()
					return
				}
				if o.Accept() == nil {
					t.Error("accepted twice")
				}
				go func() {
					_, _ = io.Copy(d, o)
					_ = d.(*net.TCPConn).CloseWrite()
				}()
				_, _ = io.Copy(o, d)
				_ = o.CloseWrite()
				_ = o.Close()
				_ = d.Close()
			}()
		}
	}()
	return asked
}

func TestProxy(t *testing.T) {
	r := start(t)
	if got := callOnce(r.proxy); !strings.HasPrefix(got, "error") {
		t.Errorf("without a session: %q", got)
	}
	s := r.connect()
	n := s.Network()
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s host=%s body=%s proxy=%q close=%t", r.Method, r.RequestURI, r.Host, body, r.Header.Get("Proxy-Authorization"), r.Close)
	}))
	defer target.Close()
	asked := wayOut(t, n, target.Listener.Addr().String())
	last := func() string {
		t.Helper()
		select {
		case a := <-asked:
			return a
		case <-time.After(5 * time.Second):
			t.Fatal("nothing was asked")
			return ""
		}
	}
	for _, scheme := range []string{"http", "socks5", "socks5h"} {
		proxy, _ := url.Parse(scheme + "://" + r.proxy)
		client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy)}, Timeout: 10 * time.Second}
		for host, port := range map[string]string{"example.test": "80", "192.0.2.1": "8080", "[2001:db8::1]": "81"} {
			resp, err := client.Post("http://"+host+":"+port+"/a?b=c", "text/plain", strings.NewReader("hello"))
			if err != nil {
				t.Errorf("%s %s: %v", scheme, host, err)
				continue
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			want := fmt.Sprintf("POST /a?b=c host=%s:%s body=hello proxy=\"\" close=%t", host, port, scheme == "http")
			if string(body) != want {
				t.Errorf("%s: %s, want %s", scheme, body, want)
			}
			if got, want := last(), strings.Trim(host, "[]")+" "+port; got != want {
				t.Errorf("%s goes to %s, want %s", scheme, got, want)
			}
		}
		resp, err := client.Get("http://no.test/")
		if scheme == "http" {
			if err != nil || resp.StatusCode != http.StatusForbidden {
				t.Errorf("refused: %v, %v", resp, err)
			} else if body, _ := io.ReadAll(resp.Body); string(body) != "the policy has no no.test\n" {
				t.Errorf("%q", body)
			}
		} else if err == nil || !strings.Contains(err.Error(), "not allowed") {
			t.Errorf("%s refused: %v", scheme, err)
		}
		if resp != nil {
			_ = resp.Body.Close()
		}
		last()
		resp, err = client.Get("http://broken.test/")
		if scheme == "http" && (err != nil || resp.StatusCode != http.StatusBadGateway) || scheme != "http" && err == nil {
			t.Errorf("%s broken: %v, %v", scheme, resp, err)
		}
		if resp != nil {
			_ = resp.Body.Close()
		}
		last()
		client.CloseIdleConnections()
	}
	// A chunked body, and a connection that is used again for another host.
	proxy, _ := url.Parse("http://" + r.proxy)
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy)}, Timeout: 10 * time.Second}
	resp, err := client.Post("http://example.test/", "text/plain", struct{ io.Reader }{strings.NewReader(strings.Repeat("x", 100_000))})
	must(t, err)
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if len(body) < 100_000 {
		t.Errorf("%d bytes of a chunked body", len(body))
	}
	last()
	raw := func(text string) string {
		t.Helper()
		c, err := net.Dial("tcp4", r.proxy)
		must(t, err)
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = io.WriteString(c, text)
		must(t, err)
		b, _ := io.ReadAll(c)
		return string(b)
	}
	// The second request for another host never reaches the first one.
	got := raw("GET http://example.test/1 HTTP/1.1\r\nHost: x\r\n\r\nGET http://no.test/2 HTTP/1.1\r\nHost: y\r\n\r\n")
	if strings.Contains(got, "/2") {
		t.Errorf("two requests on a connection: %q", got)
	}
	for text, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n":                               "HTTP/1.1 400 ",
		"CONNECT example.test HTTP/1.1\r\n\r\n":                           "HTTP/1.1 400 ",
		"CONNECT exam\x01ple.test:1 HTTP/1.1\r\n\r\n":                     "HTTP/1.1 400 ",
		"CONNECT no.test:443 HTTP/1.1\r\n\r\n":                            "HTTP/1.1 403 ",
		"GET https://example.test/ HTTP/1.1\r\n\r\n":                      "HTTP/1.1 400 ",
		"GET http://x/ HTTP/1.1\r\nA: " + strings.Repeat("a", 70<<10):     "HTTP/1.1 400 ",
		"CONNECT example.test:80 HTTP/1.1\r\n\r\nGET /t HTTP/1.0\r\n\r\n": "HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.0 200 OK",
		"\x05\x01\x02": "\x05\xff",
		"\x05\x01\x00\x05\x02\x00\x01\x01\x01\x01\x01\x00\x50": "\x05\x00\x05\x07\x00\x01",
		"\x05\x01\x00\x05\x01\x00\x09":                         "\x05\x00\x05\x08\x00\x01",
	} {
		if got := raw(text); !strings.HasPrefix(got, want) {
			t.Errorf("%.60q: %.100q, want %q", text, got, want)
		}
	}
}

// TestCurl: what programs of agents use.
func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("skipped: there is no curl")
	}
	r := start(t)
	s := r.connect()
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "plain") }))
	defer target.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "secure") }))
	defer secure.Close()
	go func() {
		n := s.Network()
		for {
			c, err := n.Out.Accept()
			if err != nil {
				return
			}
			o := c.(runtime.Outgoing)
			host, port := o.Destination()
			if host != "example.test" && host != "127.0.0.2" && host != "::1" {
				_ = o.Refuse("no")
				continue
			}
			to := target.Listener.Addr().String()
			if port == 443 {
				to = secure.Listener.Addr().String()
			}
			d, err := net.Dial("tcp", to)
			if err != nil || o.Accept() != nil {
				continue
			}
			go func() { _, _ = io.Copy(d, o) }()
			go func() {
				_, _ = io.Copy(o, d)
				_ = o.Close()
			}()
		}
	}()
	for _, proxy := range []string{"http://", "socks5://", "socks5h://"} {
		for to, want := range map[string]string{"http://example.test/": "plain", "https://example.test/": "secure", "http://127.0.0.2/": "plain", "http://[::1]/": "plain", "http://other.test/": ""} {
			if proxy == "socks5://" && strings.Contains(to, ".test") {
				continue // it would look the name up itself
			}
			out, err := exec.CommandContext(t.Context(), curl, "-gsSfk", "--noproxy", "", "--max-time", "10", "-x", proxy+r.proxy, to).Output()
			if string(out) != want || (err == nil) != (want != "") {
				t.Errorf("%s by %s: %q, %v", to, proxy, out, err)
			}
		}
	}
}

// TestBoundsOfTheAgent: an agent that opens everything it can gets its bounds, and keeps nobody
// else from anything.
func TestBoundsOfTheAgent(t *testing.T) {
	r := start(t)
	s := r.launch()
	n := s.Network()
	go func() {
		for { // they are accepted, and stay open
			if _, err := n.Server.Accept(); err != nil {
				return
			}
		}
	}()
	open := 0
	for range 200 {
		c, err := net.Dial("tcp4", r.server)
		if err != nil {
			break // the reset can come before the connection is made
		}
		defer func() { _ = c.Close() }()
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			open++
		} else if open > 0 {
			break
		}
	}
	if open != 64 {
		t.Errorf("%d connections to the server are open", open)
	}
	for range 300 {
		if c, err := net.Dial("tcp4", r.proxy); err == nil {
			defer func() { _ = c.Close() }()
		}
	}
	if ask(t, s, "pid") == "" {
		t.Error("the gateway cannot be reached")
	}
}

// TestHostileRelay: the control plane bounds what a relay may send.
func TestHostileRelay(t *testing.T) {
	for name, send := range map[string][]byte{
		"garbage":     []byte(strings.Repeat("GET / HTTP/1.1\r\n", 100)),
		"long":        {0xff, 0xff, 0xff, 0xff},
		"old version": message(`{"Version":0,"Nonce":""}`),
		"no paths":    append(message(`{"Version":1,"Nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`), message(`{}`)...),
		"bad paths":   append(message(`{"Version":1,"Nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`), message(`{"Paths":{"Home":"/a\n","Secrets":"b","Server":"c","Port":1}}`)...),
	} {
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		go func() { _, _ = far.Write(send) }()
		if _, err := relay.Connect(t.Context(), near, relay.Identity{Key: otherKey(t)}); err == nil {
			t.Errorf("%s is a relay", name)
		}
		_ = far.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	near, far := net.Pipe()
	defer func() { _ = far.Close() }()
	if _, err := relay.Connect(ctx, near, relay.Identity{Key: otherKey(t)}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a silent relay: %v", err)
	}
	hello := append(message(`{"Version":1,"Nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`), message(`{"Paths":{"Home":"/a","Secrets":"b","Server":"c","Port":1}}`)...)
	for name, frame := range map[string][]byte{"pings": {0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1}, "streams": nil} {
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		s := make(chan *relay.Session, 1)
		go func() {
			got, err := relay.Connect(t.Context(), near, relay.Identity{Key: otherKey(t)})
			if err != nil {
				t.Error(err)
			}
			s <- got
		}()
		_, err := far.Write(hello)
		must(t, err)
		session := <-s
		for id := uint32(2); ; id += 2 {
			f := frame
			if f == nil {
				f = binary.BigEndian.AppendUint32([]byte{0, 1, 0, 1}, id)
				f = append(f, 0, 0, 0, 0)
			}
			if _, err := far.Write(f); err != nil {
				break
			}
			if id > 100_000 {
				t.Errorf("%s without end", name)
				break
			}
		}
		select {
		case <-session.Done():
		case <-time.After(10 * time.Second):
			t.Errorf("%s: the session goes on", name)
		}
		_ = session.Close()
	}
}

func message(text string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
}
