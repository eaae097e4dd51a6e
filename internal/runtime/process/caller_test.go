package process_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"agento.host/agento/internal/runtime/runtimetest"
)

// TestCallsOfProgramsAreToldFromTheGateways: a program of the agent can send what the gateway
// could, but not from a socket of the gateway.
func TestCallsOfProgramsAreToldFromTheGateways(t *testing.T) {
	_, d := openIsolated(t)
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	n := openNetwork(t, d, g)
	type connKey struct{}
	server := &http.Server{
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, _ := r.Context().Value(connKey{}).(net.Conn)
			_, _ = fmt.Fprintf(w, "from the gateway: %t\n", n.FromGateway(c))
		}),
	}
	go func() { _ = server.Serve(n.Server) }()
	t.Cleanup(func() { _ = server.Close() })
	at := netip.MustParseAddrPort(strings.TrimPrefix(g.Ask("/env", "name", "SERVER"), "http://"))
	for range 2 { // also on connections that are used again
		if got := g.Ask("/call", "path", "x"); got != "from the gateway: true\n" {
			t.Errorf("the gateway's own call is %q", got)
		}
		const program = `timeout 10 bash -c 'exec 3<>/dev/tcp/%s/%d && printf "GET / HTTP/1.0\r\n\r\n" >&3 && cat <&3' 2>&1`
		for _, host := range []string{at.Addr().String(), "::ffff:" + at.Addr().String()} {
			if got := g.Shell(program, host, at.Port()); !strings.Contains(got, "from the gateway: false") {
				t.Errorf("a program's call to %s is %q", host, got)
			}
		}
	}
	g.Stop(0)
}
