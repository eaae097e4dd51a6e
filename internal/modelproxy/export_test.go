package modelproxy

import (
	"context"
	"crypto/tls"
	"net"
)

// DialWith replaces the guard's connections: a test has no names of its own, and calls
// no provider.
func (p *Proxy) DialWith(dial func(ctx context.Context, network, address string) (net.Conn, error), config *tls.Config) {
	p.transport.DialContext, p.transport.TLSClientConfig = dial, config
}
