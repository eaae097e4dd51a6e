package egress_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"agento.host/agento/internal/egress"
)

func TestParsePolicy(t *testing.T) {
	many := make([]any, 201)
	for i := range many {
		many[i] = fmt.Sprintf("h%d.example.com", i)
	}
	for name, c := range map[string]struct {
		value any
		want  string // the mode and the hosts, or part of the error
		ok    bool
	}{
		"open":                 {"open", "open", true},
		"model":                {"model", "model", true},
		"none":                 {"none", "none", true},
		"names":                {[]any{"Example.COM.", "*.Example.com", "example.com"}, "list example.com *.example.com", true},
		"port":                 {[]any{"example.com:8443", "*.example.com:22"}, "list example.com:8443 *.example.com:22", true},
		"address":              {[]any{"203.0.113.7:443", "8.8.8.8", "8.8.8.8/32"}, "list 203.0.113.7:443 8.8.8.8", true},
		"range":                {[]any{"10.1.2.3/16", "192.168.0.0/24"}, "list 10.1.0.0/16 192.168.0.0/24", true},
		"IDN":                  {[]any{"Bücher.example"}, "list xn--bcher-kva.example", true},
		"underscore":           {[]any{"_dmarc.example.com"}, "list _dmarc.example.com", true},
		"a word":               {"internet", `must be "open"`, false},
		"list as a word":       {"list", "must be the list itself", false},
		"null":                 {nil, `must be "open"`, false},
		"object":               {map[string]any{"mode": "open"}, `must be "open"`, false},
		"empty":                {[]any{}, "at least one host", false},
		"too many":             {many, "at most 200 hosts, it has 201", false},
		"number":               {[]any{"a.example.com", 7.0}, "at [1] something that is not a string", false},
		"empty item":           {[]any{" "}, "is empty", false},
		"every host":           {[]any{"*"}, `set config.egress to "open"`, false},
		"URL":                  {[]any{"https://example.com"}, "without a scheme", false},
		"path":                 {[]any{"example.com/x"}, "without a path", false},
		"star inside":          {[]any{"a.*.example.com"}, "only as its first label", false},
		"star in a label":      {[]any{"*a.example.com"}, "only as its first label", false},
		"no port":              {[]any{"example.com:"}, "port from 1 to 65535", false},
		"port 0":               {[]any{"example.com:0"}, "port from 1 to 65535", false},
		"large port":           {[]any{"example.com:65536"}, "port from 1 to 65535", false},
		"IPv6":                 {[]any{"2606:4700::1111"}, "IPv4 only", false},
		"IPv6 with a port":     {[]any{"[2606:4700::1111]:443"}, "IPv4 only", false},
		"large range":          {[]any{"0.0.0.0/0"}, "/8 or smaller", false},
		"loopback":             {[]any{"127.0.0.1:22"}, "a loopback address, which is never allowed", false},
		"link-local":           {[]any{"169.254.169.254"}, "a link-local address, which is never allowed", false},
		"multicast":            {[]any{"224.0.0.1"}, "a multicast address, which is never allowed", false},
		"metadata":             {[]any{"100.100.100.200"}, "a cloud metadata address, which is never allowed", false},
		"spelling of loopback": {[]any{"127.1"}, "is not the name of a host", false},
		"hexadecimal":          {[]any{"0x7f000001"}, "is not the name of a host", false},
		"decimal":              {[]any{"2130706433"}, "is not the name of a host", false},
		"space":                {[]any{"a b.example.com"}, "is not the name of a host", false},
		"empty label":          {[]any{"a..example.com"}, "is not the name of a host", false},
		"line":                 {[]any{"a.example.com\nb"}, "is not the name of a host", false},
		"long":                 {[]any{strings.Repeat("a.", 200) + "com"}, "is not the name of a host", false},
	} {
		p, err := egress.ParsePolicy(c.value)
		got := strings.Join(append([]string{string(p.Mode)}, p.HostNames()...), " ")
		if !c.ok {
			if got = "no error"; err != nil {
				got = err.Error()
			}
		}
		if (err == nil) != c.ok || c.ok && got != c.want || !c.ok && !strings.Contains(got, c.want) {
			t.Errorf("%s: %s; want %s", name, got, c.want)
		}
	}
}

func TestMissingHosts(t *testing.T) {
	hosts := []string{"api.example.com", "API.example.com", "*.b.example.com", "example.com", "other.example.org:443", "203.0.113.9", "not a host"}
	for policy, want := range map[string]string{
		"open":  "",
		"model": "api.example.com *.b.example.com example.com other.example.org:443 203.0.113.9",
		"none":  "api.example.com *.b.example.com example.com other.example.org:443 203.0.113.9",
	} {
		if got := strings.Join(mustParse(t, policy).Missing(hosts), " "); got != want {
			t.Errorf("%s: %s; want %s", policy, got, want)
		}
	}
	p := mustParse(t, []any{"*.example.com", "other.example.org:443", "203.0.113.0/24"})
	if got := p.Missing(hosts); !slices.Equal(got, []string{"example.com"}) {
		t.Errorf("with a list: %q", got)
	}
	if got := p.Missing([]string{"other.example.org"}); len(got) != 1 {
		t.Errorf("every port of a host of which one is allowed: %q", got)
	}
}

func TestRoutes(t *testing.T) {
	n := newNet(t, "open")
	await(t, "the routes are set", func() bool { return len(n.Routes()) > 0 })
	isLocal := func(addr string) bool {
		return slices.ContainsFunc(n.Routes(), func(p netip.Prefix) bool { return p.Contains(netip.MustParseAddr(addr)) })
	}
	check := func(policy string, local, others []string) {
		t.Helper()
		for _, addr := range local {
			if !isLocal(addr) {
				t.Errorf("%s: %s is not local", policy, addr)
			}
		}
		for _, addr := range others {
			if isLocal(addr) {
				t.Errorf("%s: %s is local", policy, addr)
			}
		}
	}
	never := []string{"127.0.0.1", "169.254.169.254", "224.0.0.1", "192.168.1.1", "0.0.0.0", "255.255.255.255", "100.100.100.200"}
	check("open", []string{"198.18.0.1", "198.19.255.254", "8.8.8.8", "1.1.1.1", "93.184.216.34"}, append(never, "10.0.0.1"))
	n.manager.SetPolicy(testAgent, mustParse(t, []any{"*.example.com", "10.1.0.0/16", "203.0.113.7:443"}))
	check("list", []string{"198.18.0.1", "10.1.2.3", "203.0.113.7"}, append(never, "8.8.8.8", "10.2.0.1", "203.0.113.8"))
	n.manager.SetPolicy(testAgent, mustParse(t, "model"))
	check("model", []string{"198.18.0.1"}, append(never, "8.8.8.8", "10.1.2.3"))
	n.manager.SetPolicy(testAgent, mustParse(t, "none"))
	check("none", nil, append(never, "8.8.8.8", "198.18.0.1"))
}
