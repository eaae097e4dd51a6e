package netguard

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func TestCheckOfEachRange(t *testing.T) {
	const public, needsFlag, never = "public", "private", "never"
	for addr, want := range map[string]string{
		"8.8.8.8": public, "1.1.1.1": public, "104.18.6.192": public, "172.32.0.1": public, "172.15.255.255": public,
		"100.63.255.255": public, "100.128.0.1": public, "2606:4700::6812:7c0": public, "2001:4860:4860::8888": public,
		"64:ff9b::808:808": public, "2002:808:808::1": public,

		"127.0.0.1": needsFlag, "127.255.255.254": needsFlag, "::1": needsFlag, "::ffff:127.0.0.1": needsFlag,
		"10.0.0.1": needsFlag, "172.16.0.1": needsFlag, "172.31.255.255": needsFlag, "192.168.1.1": needsFlag,
		"::ffff:192.168.1.1": needsFlag, "100.64.0.1": needsFlag, "100.127.255.255": needsFlag,
		"fc00::1": needsFlag, "fd12:3456::1": needsFlag, "fec0::1": needsFlag, "198.18.0.1": needsFlag,
		"64:ff9b::7f00:1": needsFlag, "64:ff9b::a00:1": needsFlag, "64:ff9b:1::a00:1": needsFlag,
		"2002:7f00:1::": needsFlag, "2002:c0a8:101::1": needsFlag, "::10.0.0.1": needsFlag,
		"2001:0:4136:e378:8000:63bf:f5ff:fffe": needsFlag, // Teredo; its client is 10.0.0.1

		"0.0.0.0": never, "0.1.2.3": never, "::": never, "::ffff:0.0.0.0": never,
		"169.254.169.254": never, "169.254.1.1": never, "::ffff:169.254.169.254": never, "64:ff9b::a9fe:a9fe": never,
		"2002:a9fe:a9fe::1": never, "::169.254.169.254": never, "64:ff9b:1::a9fe:a9fe": never,
		"fe80::1": never, "fe80::1%eth0": never, "febf::1": never,
		"fd00:ec2::254": never, "fd20:ce::254": never, "100.100.100.200": never, "192.0.0.192": never, "168.63.129.16": never,
		"224.0.0.1": never, "239.255.255.255": never, "ff02::1": never, "255.255.255.255": never, "240.0.0.1": never,
	} {
		at := netip.AddrPortFrom(netip.MustParseAddr(addr), 443)
		for guard, allowed := range map[*Guard]bool{
			{}:                   want == public,
			{AllowPrivate: true}: want != never,
			{Trusted: []netip.AddrPort{unmapped(at)}}: want != never,
		} {
			err := guard.Check(at)
			if (err == nil) != allowed {
				t.Errorf("%s (%s) with %+v: %v", addr, want, *guard, err)
			}
			var refused *Refused
			if err != nil && (!errors.As(err, &refused) || refused.Private != (want == needsFlag)) {
				t.Errorf("%s (%s): %#v", addr, want, err)
			}
		}
	}
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

func TestTrustedIsForOnePortOnly(t *testing.T) {
	g := Guard{Trusted: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:4000")}}
	if err := g.Check(netip.MustParseAddrPort("127.0.0.1:4001")); err == nil {
		t.Error("another port is allowed")
	}
}

func TestCheckURLAcceptsOnlyAllowedEndpoints(t *testing.T) {
	for raw, want := range map[string]string{
		"https://api.example.com":          "",
		"https://api.example.com:8443/v1/": "",
		"http://8.8.8.8/v1":                "",
		"http://localhost.example.com":     "",
		"":                                 "must be a URL",
		"api.example.com/v1":               "must be a URL",
		"ftp://example.com":                "must be a URL",
		"file:///etc/passwd":               "must be a URL",
		"http://":                          "must be a URL",
		"http:///v1":                       "must be a URL",
		"http://exa mple.com":              "must be a URL",
		"http://a\nb":                      "must be a URL",
		"https://user:word@example.com":    "user name",
		"https://user@example.com":         "user name",
		"https://example.com/?a=b":         "query",
		"https://example.com/?":            "query",
		"https://example.com/#f":           "query",
		"https://example.com:0":            "port",
		"https://example.com:65536":        "port",
		"http://127.0.0.1:11434/v1":        "loopback",
		"http://[::1]/":                    "loopback",
		"http://[::ffff:10.0.0.1]/":        "private address",
		"http://localhost:11434":           "this machine",
		"http://LOCALHOST.":                "this machine",
		"http://x.localhost":               "this machine",
		"http://169.254.169.254/latest":    "link-local",
		"http://[fe80::1%25eth0]/":         "link-local",
	} {
		err := Guard{}.CheckURL(raw)
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", raw, err, want)
		}
	}
	open := Guard{AllowPrivate: true}
	for raw, ok := range map[string]bool{"http://localhost:11434/v1": true, "http://10.0.0.1": true, "http://169.254.169.254": false, "http://[::]": false} {
		if err := open.CheckURL(raw); (err == nil) != ok {
			t.Errorf("%q with private endpoints: %v", raw, err)
		}
	}
}

// The system's resolver knows more spellings of loopback than a check of the text
// could.
func TestClientChecksTheDialledAddress(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	defer server.Close()
	at := netip.MustParseAddrPort(server.Listener.Addr().String())
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]"} {
		for _, c := range []struct {
			guard Guard
			ok    bool
		}{{Guard{}, false}, {Guard{AllowPrivate: true}, true}, {Guard{Trusted: []netip.AddrPort{at}}, true}} {
			client := c.guard.Client()
			res, err := client.Get("http://" + host + ":" + port + "/")
			var refused *Refused
			switch {
			case err == nil:
				_ = res.Body.Close()
				if !c.ok {
					t.Errorf("%s was reached with %+v", host, c.guard)
				}
			case c.ok || !errors.As(err, &refused):
				t.Errorf("%s with %+v: %v", host, c.guard, err)
			}
			client.CloseIdleConnections()
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++
		http.Redirect(w, r, "/again", http.StatusFound)
	}))
	defer server.Close()
	client := Guard{AllowPrivate: true}.Client()
	defer client.CloseIdleConnections()
	res, err := client.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusFound || requests != 1 {
		t.Errorf("status %d after %d requests", res.StatusCode, requests)
	}
}
