package netguard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// Proxy is the HTTP proxy of the installation, for the calls that the installation itself
// makes. The proxy resolves names and connects where the guard cannot check it, so the guard
// decides before: hosts that the operator has chosen go through the proxy as they are. Those
// that somebody else has named, such as a registry, must resolve here to addresses that the
// guard allows.
type Proxy struct {
	find    func(*url.URL) (*url.URL, error)
	address string          // of the proxy, as the transport dials it
	known   map[string]bool // hosts that the operator has chosen
	only    bool            // other hosts do not go through the proxy
}

// ProxyFromEnvironment returns the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name, or
// nil. The text of its error has no part of the values, which may contain a password.
func ProxyFromEnvironment() (*Proxy, error) {
	config := httpproxy.FromEnvironment()
	for _, v := range []struct{ name, value string }{{"HTTPS_PROXY", config.HTTPSProxy}, {"HTTP_PROXY", config.HTTPProxy}} {
		if v.value == "" {
			continue
		}
		if _, err := proxyAddress(v.value); err != nil {
			return nil, fmt.Errorf("%s must be an address such as http://proxy.example:3128", v.name)
		}
	}
	if config.HTTPSProxy == "" { // http alone serves nothing that the installation calls
		return nil, nil //nolint:nilnil // no proxy is no error
	}
	address, err := proxyAddress(config.HTTPSProxy)
	if err != nil {
		return nil, err
	}
	config.HTTPProxy = "" // one proxy, one address that may be dialled
	return &Proxy{find: config.ProxyFunc(), address: address}, nil
}

// For returns the proxy for a client whose operator has chosen these hosts, or URLs. A nil
// Proxy stays nil.
func (p *Proxy) For(hosts ...string) *Proxy {
	if p == nil {
		return nil
	}
	c := *p
	c.known = map[string]bool{}
	for _, h := range hosts {
		if u, err := url.Parse(h); err == nil && u.Hostname() != "" {
			h = u.Hostname()
		}
		c.known[strings.ToLower(h)] = true
	}
	return &c
}

// OnlyFor is For with no other hosts going through the proxy.
func (p *Proxy) OnlyFor(hosts ...string) *Proxy {
	c := p.For(hosts...)
	if c != nil {
		c.only = true
	}
	return c
}

// proxyAddress returns the address that http.Transport dials for a proxy.
func proxyAddress(proxy string) (string, error) {
	if !strings.Contains(proxy, "://") {
		proxy = "http://" + proxy
	}
	u, err := url.Parse(proxy)
	if err != nil || u.Hostname() == "" {
		return "", errors.New("not the address of a proxy")
	}
	ports := map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}
	port := u.Port()
	if port == "" {
		port = ports[u.Scheme]
	}
	if ports[u.Scheme] == "" {
		return "", errors.New("not a proxy of a known kind")
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}

// use makes a transport of the guard use its proxy.
func (p *Proxy) use(t *http.Transport, g Guard) {
	t.Proxy = func(r *http.Request) (*url.URL, error) { return p.proxyFor(r.Context(), r.URL, g) }
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == p.address { // of the operator: it may be in a private network
			return (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext(ctx, network, address)
		}
		return g.DialContext(ctx, network, address)
	}
}

// proxyFor returns the proxy for a request; nil if it goes without. Errors: *Refused, for a
// host that may not be reached through the proxy.
func (p *Proxy) proxyFor(ctx context.Context, u *url.URL, g Guard) (*url.URL, error) {
	host := strings.ToLower(u.Hostname())
	proxy, err := p.find(u)
	if err != nil {
		return nil, errors.New("HTTPS_PROXY is not the address of a proxy")
	}
	if proxy == nil || p.only && !p.known[host] {
		return nil, p.checkDirect(u)
	}
	if p.known[host] {
		return proxy, nil
	}
	return proxy, p.checkNamed(ctx, host, g)
}

// checkDirect refuses a request to the proxy itself, whose address DialContext lets pass.
func (p *Proxy) checkDirect(u *url.URL) error {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if strings.EqualFold(net.JoinHostPort(u.Hostname(), port), p.address) {
		return errors.New("the address of the installation's proxy is never allowed")
	}
	return nil
}

// checkNamed checks every address of a host that somebody else than the operator has named.
func (p *Proxy) checkNamed(ctx context.Context, host string, g Guard) error {
	if ip, err := netip.ParseAddr(host); err == nil {
		return g.Check(netip.AddrPortFrom(ip, 0))
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return fmt.Errorf("a host that is reached through HTTPS_PROXY must resolve on this machine too, unless the operator has chosen it: %w", err)
	}
	for _, ip := range addrs {
		if err := g.Check(netip.AddrPortFrom(ip, 0)); err != nil {
			return err
		}
	}
	return nil
}
