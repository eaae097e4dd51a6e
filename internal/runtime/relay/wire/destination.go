package wire

import (
	"fmt"
	"net/netip"
	"strings"
)

// Kind is what an incoming connection is.
type Kind string

// The kinds of connections.
const (
	ToServer Kind = "server"
	ToOut    Kind = "out" // the control plane answers with a Decision before anything else
)

// Incoming begins every stream that the relay opens: a connection of the agent. Then the stream
// is a Conn.
type Incoming struct {
	Kind        Kind
	ClientPort  uint16
	PID         int  // of the process that has opened the connection; 0: not known
	FromGateway bool // the gateway has opened it, or that cannot be told
	Host        string
	Port        uint16
}

// Check returns an error if this is no connection that a relay reports.
func (i Incoming) Check() error {
	switch i.Kind {
	case ToServer:
		return nil
	case ToOut:
		return CheckDestination(i.Host, i.Port)
	}
	return fmt.Errorf("no kind of connection: %q", i.Kind)
}

// Decision is the control plane's answer to a connection to the outside.
type Decision struct {
	Accepted bool
	Reason   string
}

// CheckDestination returns an error if nothing can be at a destination: a name or an IP address,
// and a port.
func CheckDestination(host string, port uint16) error {
	if port == 0 {
		return fmt.Errorf("no port")
	}
	if strings.Contains(host, ":") {
		if a, err := netip.ParseAddr(host); err != nil || a.Zone() != "" {
			return fmt.Errorf("not an address: %q", Printable(host, 100))
		}
		return nil
	}
	if host == "" || len(host) > 253 {
		return fmt.Errorf("not a name of a host: %q", Printable(host, 100))
	}
	for _, c := range []byte(host) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_':
		default:
			return fmt.Errorf("not a name of a host: %q", Printable(host, 100))
		}
	}
	return nil
}
