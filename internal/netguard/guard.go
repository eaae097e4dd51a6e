// Package netguard keeps connections to addresses that customers name away from the
// machine's own network. The model proxy, the embedder, the registries of skills and the
// way out of agents connect through it.
package netguard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Guard decides which addresses may be dialled. It checks the address that is
// dialled after the name was resolved, so neither DNS nor the spelling of an address
// bypasses it. The zero value allows only public addresses.
type Guard struct {
	// AllowPrivate also allows loopback and private addresses. Link-local and
	// metadata addresses are never allowed.
	AllowPrivate bool
	// Private are private ranges that are allowed without AllowPrivate. Loopback addresses
	// are not, whatever it names.
	Private []netip.Prefix
	// Trusted are addresses of our own services. They are allowed although they are
	// loopback or private.
	Trusted []netip.AddrPort
	// Own returns the addresses of this machine, which are then refused although they may
	// be public; see OwnAddresses. nil: they are treated as others are.
	Own func() ([]netip.Addr, error)
	// Proxy is used by Transport and Client. nil: they connect themselves.
	Proxy *Proxy
	// Flag is the flag that sets AllowPrivate or Private, for errors; empty:
	// --allow-private-endpoints.
	Flag string
}

// Refused is the error for an address that the guard does not allow.
type Refused struct {
	Addr    netip.Addr
	Reason  string // "a loopback address"
	Private bool   // the operator could allow it, by Flag
	Flag    string // "--allow-private-endpoints"
}

// Error implements error.
func (r *Refused) Error() string {
	if r.Private {
		return fmt.Sprintf("%s is %s, which needs serve %s", r.Addr, r.Reason, r.Flag)
	}
	return fmt.Sprintf("%s is %s, which is never allowed", r.Addr, r.Reason)
}

const (
	dialTimeout = 10 * time.Second
	keepAlive   = 30 * time.Second
)

// DialContext connects like net.Dialer, but only to allowed addresses. The error for
// others wraps a *Refused.
func (g Guard) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive, Control: g.control}
	return dialer.DialContext(ctx, network, address)
}

// Client returns an HTTP client that uses Transport. It does not follow redirects: the
// caller gets the 3xx.
func (g Guard) Client() *http.Client {
	return &http.Client{
		Transport:     g.Transport(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Through returns the guard with a proxy.
func (g Guard) Through(p *Proxy) Guard {
	g.Proxy = p
	return g
}

// Transport returns an HTTP transport that connects only to allowed addresses, or through
// the guard's Proxy.
func (g Guard) Transport() *http.Transport {
	t := &http.Transport{
		DialContext:         g.DialContext,
		ForceAttemptHTTP2:   true,
		DisableCompression:  true, // answers pass unchanged
		TLSHandshakeTimeout: dialTimeout,
		MaxIdleConns:        512,
		MaxIdleConnsPerHost: 128,
		// Shorter than the servers' limits: a request fails on a connection that the
		// server is closing.
		IdleConnTimeout: 30 * time.Second,
	}
	if g.Proxy != nil {
		g.Proxy.use(t, g)
	}
	return t
}

// Check returns a *Refused if the address may not be dialled.
func (g Guard) Check(addr netip.AddrPort) error {
	ips := reachable(addr.Addr())
	for _, ip := range ips {
		if reason := reasonIn(neverAllowed, ip); reason != "" {
			return g.refuse(addr.Addr(), reason, false)
		}
	}
	if slices.Contains(g.Trusted, netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())) {
		return nil
	}
	if err := g.checkOwn(addr.Addr(), ips); err != nil || g.AllowPrivate {
		return err
	}
	for _, ip := range ips {
		if reason := reasonIn(loopback, ip); reason != "" {
			return g.refuse(addr.Addr(), reason, g.Own == nil)
		}
		if reason := reasonIn(private, ip); reason != "" && !contains(g.Private, ip) {
			return g.refuse(addr.Addr(), reason, true)
		}
	}
	return nil
}

// checkOwn refuses the addresses of this machine, and every address if they cannot be
// found out.
func (g Guard) checkOwn(addr netip.Addr, ips []netip.Addr) error {
	if g.Own == nil {
		return nil
	}
	own, err := g.Own()
	if err != nil {
		return fmt.Errorf("find the addresses of this machine: %w", err)
	}
	for _, ip := range ips {
		if slices.Contains(own, ip) {
			return g.refuse(addr, "an address of the server's own machine", false)
		}
	}
	return nil
}

func (g Guard) refuse(addr netip.Addr, reason string, private bool) error {
	return &Refused{Addr: addr, Reason: reason, Private: private, Flag: cmp.Or(g.Flag, "--allow-private-endpoints")}
}

func contains(prefixes []netip.Prefix, ip netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// CheckURL checks the URL of an endpoint without resolving its host. The error's text
// completes a sentence that begins with the name of the field: "must be …".
// DialContext may still refuse the address of an accepted host.
func (g Guard) CheckURL(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "":
		return errors.New("must be a URL like https://host/path")
	case u.User != nil:
		return errors.New("must not contain a user name or password")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(raw, "#"):
		return errors.New("must not have a query or fragment")
	}
	port := uint64(0)
	if p := u.Port(); p != "" {
		if port, err = strconv.ParseUint(p, 10, 16); err != nil || port == 0 {
			return errors.New("must have a port from 1 to 65535")
		}
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil {
		return g.checkLiteral(netip.AddrPortFrom(ip, uint16(port)))
	}
	if host := strings.TrimSuffix(strings.ToLower(u.Hostname()), "."); !g.AllowPrivate && (host == "localhost" || strings.HasSuffix(host, ".localhost")) {
		return errors.New("must not be this machine, unless serve --allow-private-endpoints is set")
	}
	return nil
}

func (g Guard) checkLiteral(addr netip.AddrPort) error {
	var refused *Refused
	if errors.As(g.Check(addr), &refused) {
		return fmt.Errorf("must be another address: %w", refused)
	}
	return nil
}

// control is called with each address that is dialled, in numeric form.
func (g Guard) control(_, address string, _ syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("parse the address to dial: %w", err)
	}
	return g.Check(addr)
}

// addressRange is a range of addresses and the reason why they are refused.
type addressRange struct {
	prefix netip.Prefix
	reason string
}

var neverAllowed = ranges(
	"an unspecified address", "0.0.0.0/8", "::/128",
	"a link-local address", "169.254.0.0/16", "fe80::/10",
	"a multicast address", "224.0.0.0/4", "ff00::/8",
	"a reserved address", "240.0.0.0/4",
	// The metadata services of AWS, Google, Alibaba, Oracle and Azure that are not
	// link-local.
	"a cloud metadata address", "fd00:ec2::254/128", "fd20:ce::254/128", "100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32",
)

var loopback = ranges("a loopback address", "127.0.0.0/8", "::1/128")

var private = ranges(
	"a private address", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10",
	"a shared address (CGNAT)", "100.64.0.0/10",
	"a special-purpose address", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
	"100::/64", "2001:2::/48", "2001:db8::/32", "3fff::/20", "5f00::/16", "64:ff9b:1::/48",
)

// ranges parses a list of reasons, each followed by its ranges.
func ranges(list ...string) []addressRange {
	var parsed []addressRange
	reason := ""
	for _, item := range list {
		prefix, err := netip.ParsePrefix(item)
		if err != nil {
			reason = item
			continue
		}
		parsed = append(parsed, addressRange{prefix, reason})
	}
	return parsed
}

// reasonIn returns the reason of the range that has the address; empty if none has.
func reasonIn(list []addressRange, ip netip.Addr) string {
	for _, r := range list {
		if r.prefix.Contains(ip) {
			return r.reason
		}
	}
	return ""
}

var (
	compatible = netip.MustParsePrefix("::/96")
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	teredo     = netip.MustParsePrefix("2001::/32")
)

// reachable returns the addresses that a packet to ip can arrive at: ip itself and the
// IPv4 address that it embeds, if any.
func reachable(ip netip.Addr) []netip.Addr {
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return []netip.Addr{ip}
	}
	b := ip.As16()
	last := [4]byte(b[12:])
	switch {
	case nat64.Contains(ip), nat64Local.Contains(ip):
		return []netip.Addr{ip, netip.AddrFrom4(last)}
	case sixToFour.Contains(ip):
		return []netip.Addr{ip, netip.AddrFrom4([4]byte(b[2:6]))}
	case teredo.Contains(ip):
		return []netip.Addr{ip, netip.AddrFrom4([4]byte{^last[0], ^last[1], ^last[2], ^last[3]})}
	case compatible.Contains(ip) && last[0] != 0:
		return []netip.Addr{ip, netip.AddrFrom4(last)}
	}
	return []netip.Addr{ip}
}
