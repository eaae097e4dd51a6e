//go:build !linux

package process

import "net"

// isGateways cannot tell who has opened a connection.
func isGateways(int, bool, net.Conn) bool { return true }
