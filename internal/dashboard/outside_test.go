package dashboard

import (
	"net/http/httptest"
	"net/netip"
	"testing"
)

// TestWhatIsOutsideIsNotGuessed: only trusted proxies say that a browser speaks TLS.
func TestWhatIsOutsideIsNotGuessed(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, c := range []struct {
		publicURL, from, proto string
		secure                 bool
	}{
		{"", "203.0.113.5:1", "https", false},
		{"", "10.1.1.1:1", "https", true},
		{"", "[::ffff:10.1.1.1]:1", "https", true},
		{"", "10.1.1.1:1", "http", false},
		{"https://agents.example/tools/", "203.0.113.5:1", "", true},
		{"http://agents.example", "203.0.113.5:1", "https", false},
	} {
		o, err := newOutside(c.publicURL, proxies)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", "/app/agents", nil)
		r.RemoteAddr = c.from
		r.Header.Set("X-Forwarded-Proto", c.proto)
		r.Header.Set("X-Forwarded-Host", "evil.example")
		r.Header.Set("X-Forwarded-Prefix", "/evil")
		if o.isSecure(r) != c.secure {
			t.Errorf("%+v", c)
		}
	}
	o, err := newOutside("https://agents.example/tools/", nil)
	if err != nil || o.path("/agents") != "/tools/app/agents" {
		t.Error(o.path("/agents"), err)
	}
	for path, owned := range map[string]bool{"/app": true, "/app/": true, "/tools/app/agents": true, "/tools/app": true, "/apples": false, "/v1/agents": false, "/tools/v1": false, "/": false} {
		if o.owns(path) != owned {
			t.Errorf("%s: %v", path, !owned)
		}
	}
	if _, err := newOutside("agents.example", nil); err == nil {
		t.Error("an address without a host is taken")
	}
}
