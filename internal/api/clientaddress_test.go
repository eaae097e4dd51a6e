package api_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

// TestUnknownKeysAreCountedByClient: the test presents unknown keys from one client until
// they are limited; whoever counts as the same client is limited too.
func TestUnknownKeysAreCountedByClient(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:ffff::/48")}
	for name, c := range map[string]struct {
		proxies       []netip.Prefix
		remote        string
		forwarded     []string
		sameRemote    string
		sameForwarded []string
		want          bool // whether both are one client
	}{
		"no proxy is trusted, so the header is ignored": {nil, "10.0.0.1", []string{"192.0.2.1"}, "10.0.0.1", []string{"192.0.2.2"}, true},
		"an untrusted address sends the header":         {trusted, "198.51.100.1", []string{"192.0.2.1"}, "198.51.100.1", []string{"192.0.2.2"}, true},
		"two clients of a proxy":                        {trusted, "10.0.0.1", []string{"192.0.2.1"}, "10.0.0.1", []string{"192.0.2.2"}, false},
		"a client of two proxies":                       {trusted, "10.0.0.1", []string{"192.0.2.1"}, "10.9.9.9", []string{"192.0.2.1"}, true},
		"what the client itself wrote":                  {trusted, "10.0.0.1", []string{"203.0.113.1, 192.0.2.1"}, "10.0.0.1", []string{"203.0.113.2,192.0.2.1"}, true},
		"a trusted address that the client wrote":       {trusted, "10.0.0.1", []string{"10.1.1.1, 192.0.2.1"}, "10.0.0.1", []string{"192.0.2.1"}, true},
		"a chain of proxies":                            {trusted, "10.0.0.1", []string{"192.0.2.1, 10.0.0.2"}, "10.0.0.1", []string{"192.0.2.1"}, true},
		"a header in several lines":                     {trusted, "10.0.0.1", []string{"203.0.113.1", "192.0.2.1"}, "10.0.0.1", []string{"192.0.2.1"}, true},
		"with a port":                                   {trusted, "10.0.0.1", []string{"192.0.2.1:4711"}, "10.0.0.1", []string{"192.0.2.1:4712"}, true},
		"without a header":                              {trusted, "10.0.0.1", nil, "10.0.0.2", nil, false},
		"with garbage from the proxy":                   {trusted, "10.0.0.1", []string{"192.0.2.1, unknown"}, "10.0.0.1", nil, true},
		"an IPv6 network":                               {trusted, "[2001:db8:ffff::1]", []string{"2001:db8:1:1::1"}, "10.0.0.1", []string{"[2001:db8:1:1::2]:80"}, true},
		"two IPv6 networks":                             {trusted, "10.0.0.1", []string{"2001:db8:1:1::1"}, "10.0.0.1", []string{"2001:db8:1:2::1"}, false},
		"IPv4 in IPv6":                                  {trusted, "[::ffff:10.0.0.1]", []string{"::ffff:192.0.2.1"}, "10.0.0.1", []string{"192.0.2.1"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newEnv(t, options{Proxies: c.proxies})
			who := env.newAccount("acme", "")
			send := func(remote string, forwarded []string, key string) int {
				req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/agents", nil)
				req.RemoteAddr = remote + ":4711"
				req.Header["X-Forwarded-For"] = forwarded
				req.Header.Set("X-Api-Key", key)
				out := httptest.NewRecorder()
				env.Server.ServeHTTP(out, req)
				return out.Code
			}
			for i := 0; send(c.remote, c.forwarded, fmt.Sprintf("ak_live_%032x", i)) != http.StatusTooManyRequests; i++ {
				if i > 100 {
					t.Fatal("a hundred unknown keys from one client were not limited")
				}
			}
			if got := send(c.sameRemote, c.sameForwarded, "ak_live_00000000000000000000000000000000") == http.StatusTooManyRequests; got != c.want {
				t.Errorf("one client: %v, want %v", got, c.want)
			}
			if got := send(c.remote, c.forwarded, who.key); got != http.StatusOK {
				t.Errorf("a valid key that is used for the first time gets %d", got)
			}
			untrusted := c.proxies == nil || c.remote == "198.51.100.1"
			if warnings := strings.Count(env.Log.String(), "X-Forwarded-For is ignored"); warnings != map[bool]int{true: 1}[untrusted] {
				t.Errorf("%d warnings:\n%s", warnings, env.Log)
			}
		})
	}
}
