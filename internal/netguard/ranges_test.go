package netguard

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestPublicIPv4IsWhatTheGuardAllows(t *testing.T) {
	public := PublicIPv4()
	for _, addr := range []string{
		"0.0.0.0", "1.1.1.1", "8.8.8.8", "9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0", "100.63.255.255", "100.64.0.0", "100.127.255.255", "100.128.0.0",
		"126.255.255.255", "127.0.0.1", "128.0.0.0", "168.63.129.15", "168.63.129.16", "168.63.129.17", "169.253.255.255", "169.254.0.1", "169.255.0.0",
		"172.15.255.255", "172.16.0.0", "172.32.0.0", "192.0.0.1", "192.0.1.0", "192.168.0.1", "192.169.0.0", "198.17.255.255", "198.18.0.1", "198.20.0.0",
		"203.0.113.1", "223.255.255.255", "224.0.0.1", "240.0.0.1", "255.255.255.255",
	} {
		ip := netip.MustParseAddr(addr)
		isPublic := slices.ContainsFunc(public, func(p netip.Prefix) bool { return p.Contains(ip) })
		if allowed := (Guard{}).Check(netip.AddrPortFrom(ip, 443)) == nil; allowed != isPublic {
			t.Errorf("%s: public %v, allowed %v", addr, isPublic, allowed)
		}
	}
	for i, p := range public {
		if p != p.Masked() || slices.ContainsFunc(public[i+1:], p.Overlaps) {
			t.Errorf("%s is not masked, or overlaps another", p)
		}
	}
}

// Private ranges are the operator's choice for one guard; the machine's own addresses and
// loopback are not in them.
func TestPrivateRangesAndOwnAddresses(t *testing.T) {
	own := func() ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("93.184.216.34"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2606:4700::1")}, nil
	}
	g := Guard{Private: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::/0")}, Own: own, Flag: "--egress-private"}
	for addr, want := range map[string]string{
		"10.0.0.2": "", "8.8.8.8": "", "fd12::1": "", "::ffff:10.0.0.2": "",
		"10.0.0.1": "own machine, which is never", "::ffff:10.0.0.1": "own machine", "93.184.216.34": "own machine", "2606:4700::1": "own machine", "64:ff9b::5db8:d822": "own machine",
		"127.0.0.1": "loopback address, which is never", "::1": "loopback address, which is never", "169.254.169.254": "link-local",
		"192.168.1.1": "private address, which needs serve --egress-private",
	} {
		err := g.Check(netip.AddrPortFrom(netip.MustParseAddr(addr), 443))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", addr, err, want)
		}
	}
	unknown := Guard{Own: func() ([]netip.Addr, error) { return nil, errors.New("no interfaces") }}
	if err := unknown.Check(netip.MustParseAddrPort("8.8.8.8:443")); err == nil {
		t.Error("an address is allowed although the machine's own are not known")
	}
}

func TestOwnAddresses(t *testing.T) {
	addrs, err := OwnAddresses()
	if err != nil || !slices.Contains(addrs, netip.MustParseAddr("127.0.0.1")) {
		t.Errorf("%v, %v", addrs, err)
	}
}

func TestCheckPrivate(t *testing.T) {
	for p, want := range map[string]string{
		"10.0.0.0/8": "", "10.1.0.0/16": "", "192.168.1.1/32": "", "fd00::/8": "", "100.64.0.0/10": "",
		"127.0.0.0/8": "loopback", "127.0.0.1/32": "loopback", "::1/128": "loopback", "169.254.0.0/16": "link-local", "169.254.169.254/32": "link-local",
		"fe80::/10": "link-local", "224.0.0.0/4": "multicast", "100.100.100.200/32": "metadata",
		"0.0.0.0/0": "not within", "8.8.8.0/24": "not within", "10.0.0.0/7": "not within",
	} {
		err := CheckPrivate(netip.MustParsePrefix(p))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", p, err, want)
		}
	}
}
