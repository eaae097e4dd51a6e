package api

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// forwardedFor is the header to which a proxy appends the address of its client.
const forwardedFor = "X-Forwarded-For"

// clientAddresses finds out which client a request comes from.
type clientAddresses struct {
	proxies []netip.Prefix // the operator's own
	log     *slog.Logger
	warn    sync.Once
}

// of returns the address that a request came from or, if that is a trusted proxy's, the
// last address in X-Forwarded-For that is not: every address further left may have been
// invented by the client. The zero Addr stands for all clients without an address.
func (c *clientAddresses) of(r *http.Request) netip.Addr {
	addr := parseAddress(r.RemoteAddr)
	forwarded := r.Header.Values(forwardedFor)
	if len(forwarded) == 0 {
		return addr
	}
	if !c.trusts(addr) {
		c.warn.Do(func() { c.warnUntrusted(r.Context(), addr) })
		return addr
	}
	for _, text := range slices.Backward(strings.Split(strings.Join(forwarded, ","), ",")) {
		next := parseAddress(strings.TrimSpace(text))
		if !next.IsValid() {
			return addr // a trusted proxy wrote it, and does not know its client
		}
		if addr = next; !c.trusts(addr) {
			return addr
		}
	}
	return addr
}

func (c *clientAddresses) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(c.proxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func (c *clientAddresses) warnUntrusted(ctx context.Context, addr netip.Addr) {
	c.log.WarnContext(ctx, "X-Forwarded-For is ignored, because it came from an address that is not in --trusted-proxies. If that is your proxy, name it there: otherwise all its clients share one limit on unknown keys. This is logged once", "address", addr)
}

// parseAddress parses an address with or without a port. It returns the zero Addr if text
// is neither.
func parseAddress(text string) netip.Addr {
	host, _, err := net.SplitHostPort(text)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	}
	addr, _ := netip.ParseAddr(host)
	return addr.Unmap().WithZone("")
}
