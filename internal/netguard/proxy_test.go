package netguard_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"

	"agento.host/agento/internal/netguard"
)

// connectProxy is an HTTP proxy that leads every CONNECT to one server.
type connectProxy struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string // guarded by mu
}

// newConnectProxy starts a proxy on a loopback address, which the guard refuses otherwise.
func newConnectProxy(t *testing.T, target string) *connectProxy {
	t.Helper()
	p := &connectProxy{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.asked = append(p.asked, r.Method+" "+r.Host)
		p.mu.Unlock()
		out, err := net.Dial("tcp", target)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer func() { _ = out.Close() }()
		in, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = in.Close() }()
		_, _ = io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
		done := make(chan struct{})
		go func() { _, _ = io.Copy(out, in); _ = out.(*net.TCPConn).CloseWrite(); close(done) }()
		_, _ = io.Copy(in, out)
		_ = in.Close()
		<-done
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *connectProxy) requests() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := strings.Join(p.asked, ", ")
	p.asked = nil
	return all
}

func setProxy(t *testing.T, https, no string) {
	t.Helper()
	for name, value := range map[string]string{"HTTPS_PROXY": https, "NO_PROXY": no, "HTTP_PROXY": "", "https_proxy": "", "http_proxy": "", "no_proxy": ""} {
		t.Setenv(name, value)
	}
}

// TestProxy: the hosts that the operator has chosen are reached through the proxy; what
// others name is checked first.
func TestProxy(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello from "+r.Host) }))
	defer server.Close()
	proxy := newConnectProxy(t, server.Listener.Addr().String())
	setProxy(t, strings.Replace(proxy.URL, "http://", "http://user:secret@", 1), "direct.invalid")
	found, err := netguard.ProxyFromEnvironment()
	if err != nil || found == nil {
		t.Fatalf("the proxy is %v, %v", found, err)
	}
	for name, c := range map[string]struct {
		proxy   *netguard.Proxy
		url     string
		asked   string // of the proxy
		refused bool
	}{
		"a chosen host":                     {found.For("https://Registry.invalid/api"), "https://registry.invalid/x", "CONNECT registry.invalid:443", false},
		"a chosen host, another port":       {found.For("registry.invalid"), "https://registry.invalid:8443/x", "CONNECT registry.invalid:8443", false},
		"a public address":                  {found.For("registry.invalid"), "https://8.8.8.8/x", "CONNECT 8.8.8.8:443", false},
		"a private address":                 {found.For("registry.invalid"), "https://10.0.0.1/x", "", true},
		"a metadata address":                {found.For("registry.invalid"), "https://169.254.169.254/x", "", true},
		"an unknown name":                   {found.For("registry.invalid"), "https://other.invalid/x", "", true},
		"without the proxy, by NO_PROXY":    {found.For("direct.invalid"), "https://direct.invalid/x", "", true},
		"only chosen hosts":                 {found.OnlyFor("provider.invalid"), "https://provider.invalid/x", "CONNECT provider.invalid:443", false},
		"another host, if only chosen ones": {found.OnlyFor("provider.invalid"), "https://127.0.0.1:1/x", "", true},
		"the proxy itself, if only chosen":  {found.OnlyFor("provider.invalid"), strings.Replace(proxy.URL, "http:", "https:", 1), "", true},
		"the proxy itself, by http":         {found.For("registry.invalid"), proxy.URL, "", true},
	} {
		transport := netguard.Guard{Proxy: c.proxy}.Transport()
		transport.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		transport.TLSClientConfig.ServerName = "example.com" // in the certificate of httptest
		res, err := (&http.Client{Transport: transport}).Get(c.url)
		if err == nil {
			_ = res.Body.Close()
		}
		if asked := proxy.requests(); asked != c.asked || (err != nil) != c.refused {
			t.Errorf("%s: the proxy was asked %q, %v; want %q", name, asked, err, c.asked)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error has the password: %v", name, err)
		}
		transport.CloseIdleConnections()
	}
	var refused *netguard.Refused
	_, err = netguard.Guard{Proxy: found.For("a.invalid")}.Transport().Proxy(&http.Request{URL: &url.URL{Scheme: "https", Host: "10.0.0.1"}})
	if !errors.As(err, &refused) || refused.Addr != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("a private address through the proxy: %v", err)
	}
}

func TestProxyFromEnvironment(t *testing.T) {
	for value, want := range map[string]bool{"http://proxy.example:3128": true, "proxy.example:3128": true, "https://proxy.example": true, "socks5://proxy.example": true, "": false} {
		setProxy(t, value, "")
		if p, err := netguard.ProxyFromEnvironment(); err != nil || (p != nil) != want {
			t.Errorf("%q: %v, %v", value, p, err)
		}
	}
	for _, value := range []string{"http://user:secret@", "ftp://secret.example", "http://secret:%zz@proxy"} {
		setProxy(t, value, "")
		if p, err := netguard.ProxyFromEnvironment(); err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "HTTPS_PROXY") {
			t.Errorf("%q: %v, %v", value, p, err)
		}
	}
	if p := (*netguard.Proxy)(nil); p.For("a") != nil || p.OnlyFor("a") != nil {
		t.Error("no proxy is one")
	}
}
