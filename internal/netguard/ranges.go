package netguard

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// CheckPrivate returns nil if an operator may allow connections to the range: it is
// within one of the private ranges, and not loopback, link-local, metadata or multicast.
// The error's text completes a sentence that begins with the range.
func CheckPrivate(p netip.Prefix) error {
	for _, r := range slices.Concat(neverAllowed, loopback) {
		if r.prefix.Contains(p.Addr()) && p.Bits() >= r.prefix.Bits() {
			return fmt.Errorf("is %s, which is never allowed", r.reason)
		}
	}
	for _, r := range private {
		if r.prefix.Contains(p.Addr()) && p.Bits() >= r.prefix.Bits() {
			return nil
		}
	}
	return errors.New("is not within a private range, such as 10.0.0.0/8")
}

// PublicIPv4 returns the IPv4 ranges whose addresses the zero Guard allows.
func PublicIPv4() []netip.Prefix {
	left := []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0)}
	for _, r := range slices.Concat(neverAllowed, loopback, private) {
		if !r.prefix.Addr().Is4() {
			continue
		}
		var next []netip.Prefix
		for _, p := range left {
			next = append(next, without(p, r.prefix)...)
		}
		left = next
	}
	return left
}

// without returns the ranges that make p without the addresses of hole.
func without(p, hole netip.Prefix) []netip.Prefix {
	switch {
	case !p.Overlaps(hole):
		return []netip.Prefix{p}
	case hole.Bits() <= p.Bits():
		return nil
	}
	low := netip.PrefixFrom(p.Addr(), p.Bits()+1)
	b := p.Addr().As4()
	b[p.Bits()/8] |= 1 << (7 - p.Bits()%8)
	high := netip.PrefixFrom(netip.AddrFrom4(b), p.Bits()+1)
	return append(without(low, hole), without(high, hole)...)
}
