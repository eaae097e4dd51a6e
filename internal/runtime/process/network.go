package process

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// The addresses in the network namespace of an agent. An agent cannot listen on ports
// below 1024, so it cannot take the server's while no server has them.
const (
	gatewayPort = 18789        // the gateway's
	serverPort  = 14           // runtime.Network.Server
	outPort     = 15           // runtime.Network.Out
	dnsHost     = "127.0.0.53" // runtime.Network.DNS; 127.0.0.1 is no name server for some programs
	dnsPort     = 53
)

// ports are the loopback ports of a gateway that uses the machine's network.
type ports struct {
	Gateway int `json:"gateway"`
	Server  int `json:"server"`
}

const placePrefix = "process/"

// newPlace returns a place that differs from all others. A gateway is found by the files
// in its agent's directory.
func newPlace() runtime.Place { return runtime.Place(placePrefix + rand.Text()[:10]) }

func checkPlace(place runtime.Place) error {
	if !strings.HasPrefix(string(place), placePrefix) {
		return fmt.Errorf("not a place of this driver: %q", place)
	}
	return nil
}

// choosePorts returns free ports for a gateway that uses the machine's network, and the
// zero ports for one with a network of its own.
func choosePorts(b sandbox) (p ports, err error) {
	if !b.off {
		return p, nil
	}
	for _, port := range []*int{&p.Gateway, &p.Server} {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return p, err
		}
		defer func() { _ = l.Close() }() // after the loop, so that the ports differ
		*port = l.Addr().(*net.TCPAddr).Port
	}
	return p, nil
}

// gatewayPort returns the port of the gateway in its network.
func (r record) gatewayPort() int {
	if r.Ports.Gateway != 0 {
		return r.Ports.Gateway
	}
	return gatewayPort
}

// serverPort returns the port of the server in the gateway's network.
func (r record) serverPort() int {
	if r.Ports.Server != 0 {
		return r.Ports.Server
	}
	return serverPort
}

// running returns the record of a gateway that runs at a place, and the pid of its shim.
// Errors: runtime.ErrNotRunning.
func (d *Driver) running(place runtime.Place, id identity.AgentID) (rec record, pid int, err error) {
	a, err := d.agent(id)
	if err != nil {
		return rec, 0, err
	}
	if rec, err = a.record(); err != nil {
		return rec, 0, err
	}
	pid, alive := d.alive(a, rec)
	if rec.Place != place || !alive || rec.isMoved(a) || !rec.FrozenAt.IsZero() {
		return rec, 0, runtime.ErrNotRunning
	}
	return rec, pid, nil
}

// Dial implements runtime.Driver.
func (d *Driver) Dial(ctx context.Context, place runtime.Place, id identity.AgentID) (net.Conn, error) {
	rec, pid, err := d.running(place, id)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", id, err)
	}
	var conn net.Conn
	if rec.Sandboxed {
		conn, err = d.sockets.dial(ctx, namespaceOf(pid, rec), rec.gatewayPort())
	} else {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp4", loopback(rec.gatewayPort()))
	}
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", id, err)
	}
	return conn, nil
}

// Network implements runtime.Driver.
func (d *Driver) Network(ctx context.Context, place runtime.Place, id identity.AgentID) (*runtime.Network, error) {
	rec, pid, err := d.running(place, id)
	if err != nil {
		return nil, fmt.Errorf("network of %s: %w", id, err)
	}
	var n *runtime.Network
	if rec.Sandboxed {
		n, err = openNetwork(ctx, namespaceOf(pid, rec))
	} else {
		n, err = listenOnMachine(ctx, rec.serverPort())
	}
	if err != nil {
		return nil, fmt.Errorf("network of %s: %w", id, err)
	}
	n.FromGateway = func(c net.Conn) bool { return isGateways(pid, rec.Sandboxed, c) }
	return n, nil
}

func listenOnMachine(ctx context.Context, port int) (*runtime.Network, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", loopback(port))
	if err != nil {
		return nil, err
	}
	return &runtime.Network{Server: l}, nil
}

// openNetwork makes the server's listeners in a namespace.
func openNetwork(ctx context.Context, ns namespace) (*runtime.Network, error) {
	files, err := ns.do(ctx, namespaceRequest{Listen: true})
	if err != nil {
		return nil, err
	}
	defer closeAll(files)
	n := &runtime.Network{SetRoutes: func(ctx context.Context, routes []netip.Prefix) error {
		_, err := ns.do(ctx, namespaceRequest{SetRoutes: true, Routes: routes})
		return err
	}}
	if n.Server, err = net.FileListener(files[0]); err != nil {
		return nil, err
	}
	if n.Out, err = net.FileListener(files[1]); err != nil {
		return nil, errors.Join(err, n.Server.Close())
	}
	if n.DNS, err = net.FilePacketConn(files[2]); err != nil {
		return nil, errors.Join(err, n.Server.Close(), n.Out.Close())
	}
	return n, nil
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// namespace is the network namespace of a gateway that runs.
type namespace struct {
	shim  int    // pid of the shim, which has the namespace
	nonce string // of the shim; another process may have its pid
}

func namespaceOf(pid int, rec record) namespace { return namespace{shim: pid, nonce: rec.Nonce} }

// namespaceRequest is what is to be done in a namespace, in this order.
type namespaceRequest struct {
	Configure bool           `json:"configure,omitempty"` // prepares a new namespace
	SetRoutes bool           `json:"setRoutes,omitempty"` // replaces the routes by Routes
	Routes    []netip.Prefix `json:"routes,omitempty"`
	Listen    bool           `json:"listen,omitempty"`  // makes the listeners of a runtime.Network, in the order of its fields
	Sockets   int            `json:"sockets,omitempty"` // makes TCP sockets that are not connected
}

// namespaceTimeout bounds a request: one takes 1-30 ms.
const namespaceTimeout = 20 * time.Second
