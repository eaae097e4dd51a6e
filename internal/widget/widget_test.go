package widget

import (
	"net/netip"
	"testing"

	"agento.host/agento/internal/fault"
)

func TestOrigins(t *testing.T) {
	for text, want := range map[string]string{
		"https://www.example.com": "https://www.example.com", "HTTPS://WWW.Example.com/": "https://www.example.com", "http://localhost:3000": "http://localhost:3000",
		"https://example.com:443": "https://example.com", "http://example.com:80": "http://example.com", "https://*.example.com": "https://*.example.com", "*": "*", "https://[::1]:8443": "https://[::1]:8443",
	} {
		if got, ok := normalizeOrigin(text); !ok || got != want {
			t.Errorf("%q is %q, %v; want %q", text, got, ok, want)
		}
	}
	for _, text := range []string{
		"", "example.com", "ftp://example.com", "https://example.com/path", "https://example.com?a=b", "https://user@example.com", "https://", "https://*", "https://*.com", "https://a.*.example.com",
		"https://exa mple.com", "https://example.com; script-src *", "https://example.com\nhttps://b.example", "null", "javascript:alert(1)", "https://.example.com", "https://'none'",
	} {
		if got, ok := normalizeOrigin(text); ok {
			t.Errorf("%q is taken as %q", text, got)
		}
	}
}

func TestOnlyAllowedOriginsMayUseAWidget(t *testing.T) {
	w := Widget{Origins: []string{"https://a.example", "https://*.b.example:8443"}}
	for origin, want := range map[string]bool{
		"https://a.example": true, "https://A.example": true, "http://a.example": false, "https://x.a.example": false, "https://x.b.example:8443": true, "https://x.b.example": false, "https://b.example:8443": false, "null": false, "": true,
	} {
		if got := w.AllowsOrigin(origin); got != want {
			t.Errorf("%q: %v", origin, got)
		}
	}
	if (Widget{}).AllowsOrigin("") || (Widget{}).AllowsOrigin("https://a.example") {
		t.Error("a widget without origins may be used")
	}
	if !(Widget{Origins: []string{AnyOrigin}}).AllowsOrigin("https://anywhere.example") {
		t.Error("* is not every origin")
	}
}

func TestWidgetNamesEveryInvalidField(t *testing.T) {
	_, err := Widget{Name: " ", Origins: []string{"x"}, Theme: Theme{Color: "red", Mode: "x", Position: "x"}}.normalize()
	f := fault.From(err)
	for _, field := range []string{"name", "origins", "theme.color", "theme.mode", "theme.position", "dailyMessages"} {
		if f.Details[field] == "" {
			t.Errorf("%s is not named: %v", field, f.Details)
		}
	}
}

func TestNetworkOf(t *testing.T) {
	for address, want := range map[string]string{"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8:1:2:3::4": "2001:db8:1:2::/64"} {
		if got := NetworkOf(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s is %s, want %s", address, got, want)
		}
	}
}
