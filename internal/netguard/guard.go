package modelproxy

import (
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

// Guard keeps connections to addresses that a customer names away from the
// machine's own network. It looks at the address that is really dialled, after
// every name has been resolved, so neither DNS nor the spelling of an address
// gets around it. The zero value allows public addresses alone.
type Guard struct {
	// AllowPrivate allows loopback and private addresses too. Link-local and
	// metadata addresses stay refused.
	AllowPrivate bool
	// Trusted are exact addresses allowed although they are loopback or private,
	// for a service of our own.
	Trusted []netip.AddrPort
}

// Refused is the error for an address that the guard does not allow.
type Refused struct {
	Addr    netip.Addr
	Why     string // "a loopback address"
	Private bool   // AllowPrivate would allow it
}

// Error implements error.
func (r *Refused) Error() string {
	if r.Private {
		return fmt.Sprintf("%s is %s, which needs serve --allow-private-endpoints", r.Addr, r.Why)
	}
	return fmt.Sprintf("%s is %s, which is never allowed", r.Addr, r.Why)
}

const (
	dialWithin = 10 * time.Second
	keepAlive  = 30 * time.Second
)

// DialContext connects like net.Dialer, but to allowed addresses only. The error
// for others has a *Refused in its chain.
func (g Guard) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialWithin, KeepAlive: keepAlive, Control: g.control}
	return dialer.DialContext(ctx, network, address)
}

// Client returns an HTTP client behind the guard. It follows no redirects (the
// caller sees the 3xx) and uses no proxy, which would dial in its place.
func (g Guard) Client() *http.Client {
	return &http.Client{
		Transport:     g.transport(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (g Guard) transport() *http.Transport {
	return &http.Transport{
		DialContext:         g.DialContext,
		ForceAttemptHTTP2:   true,
		DisableCompression:  true, // bytes pass as they are
		TLSHandshakeTimeout: dialWithin,
		MaxIdleConns:        512,
		MaxIdleConnsPerHost: 128,
		// Shorter than the servers' own limits: a request on a connection that the
		// other side is just closing fails.
		IdleConnTimeout: 30 * time.Second,
	}
}

// Check says whether an address may be dialled; if not, the error is a *Refused.
func (g Guard) Check(addr netip.AddrPort) error {
	ips := faces(addr.Addr())
	for _, ip := range ips {
		if why := within(never, ip); why != "" {
			return &Refused{Addr: addr.Addr(), Why: why}
		}
	}
	if g.AllowPrivate || slices.Contains(g.Trusted, netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())) {
		return nil
	}
	for _, ip := range ips {
		if why := within(private, ip); why != "" {
			return &Refused{Addr: addr.Addr(), Why: why, Private: true}
		}
	}
	return nil
}

// CheckURL looks at an endpoint before anything is dialled. The error is the end
// of a sentence that begins with the field's name: "must be …". A name that it
// accepts may still resolve to an address that DialContext refuses.
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

// control is called for every address tried, with the numeric form of it.
func (g Guard) control(_, address string, _ syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("read the address to dial: %w", err)
	}
	return g.Check(addr)
}

// block is a range of addresses that share a reason.
type block struct {
	prefix netip.Prefix
	why    string
}

var never = blocks(
	"an unspecified address", "0.0.0.0/8", "::/128",
	"a link-local address", "169.254.0.0/16", "fe80::/10",
	"a multicast address", "224.0.0.0/4", "ff00::/8",
	"a reserved address", "240.0.0.0/4",
	// The metadata services that lie outside the link-local range, of AWS,
	// Google, Alibaba, Oracle and Azure.
	"a cloud metadata address", "fd00:ec2::254/128", "fd20:ce::254/128", "100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32",
)

var private = blocks(
	"a loopback address", "127.0.0.0/8", "::1/128",
	"a private address", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10",
	"a shared address (CGNAT)", "100.64.0.0/10",
	"a special-purpose address", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
	"100::/64", "2001:2::/48", "2001:db8::/32", "3fff::/20", "5f00::/16", "64:ff9b:1::/48",
)

// blocks reads a list of reasons, each followed by its ranges.
func blocks(list ...string) []block {
	var out []block
	why := ""
	for _, item := range list {
		prefix, err := netip.ParsePrefix(item)
		if err != nil {
			why = item
			continue
		}
		out = append(out, block{prefix, why})
	}
	return out
}

func within(list []block, ip netip.Addr) string {
	for _, b := range list {
		if b.prefix.Contains(ip) {
			return b.why
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

// faces returns an address and the IPv4 address that it carries, if it does:
// a packet to the one can arrive at the other.
func faces(ip netip.Addr) []netip.Addr {
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
