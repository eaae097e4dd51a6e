package process

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// isGateways reports whether a connection to the server was opened by the gateway below a shim,
// and not by a program that it has started. It reports true if that cannot be told: in gVisor all
// sockets belong to one process.
func isGateways(shim int, sandboxed bool, c net.Conn) bool {
	from, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return true
	}
	gateway := gatewayProcess(shim, sandboxed)
	socket := socketOf(shim, from)
	if gateway == 0 || socket == "" {
		return true
	}
	open, err := os.ReadDir(procPath(gateway, "fd"))
	if err != nil {
		return true
	}
	for _, f := range open {
		target, err := os.Readlink(filepath.Join(procPath(gateway, "fd"), f.Name()))
		if target == socket || err != nil && !errors.Is(err, fs.ErrNotExist) { // another user's process shows nothing
			return true
		}
	}
	return false
}

// gatewayProcess returns the pid of the gateway below a shim; 0 if it is not known.
func gatewayProcess(shim int, sandboxed bool) int {
	for _, pid := range processTree(shim) {
		switch {
		case pid == shim, sandboxed && pidInside(pid) != 2:
		case sandboxed && isRunsc(pid):
			return 0
		default:
			return pid
		}
	}
	return 0
}

// mappedPrefix begins an IPv4 address in net/tcp6, as ::ffff: does in text.
const mappedPrefix = "0000000000000000FFFF0000"

// socketOf returns the name of the TCP socket with a local IPv4 address in the network of a
// process, as links in /proc have it; empty if there is none.
func socketOf(pid int, local *net.TCPAddr) string {
	ip := local.IP.To4()
	if ip == nil {
		return ""
	}
	address := fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], local.Port) // little-endian, as the machine
	socket := ""
	// A program may have reached the address by an IPv6 socket. There is no file if the process has ended.
	for name, address := range map[string]string{"net/tcp": address, "net/tcp6": mappedPrefix + address} {
		_ = eachLine(procPath(pid, name), func(text string) {
			const localAddress, inode = 1, 9
			if f := strings.Fields(text); len(f) > inode && f[localAddress] == address && f[inode] != "0" {
				socket = "socket:[" + f[inode] + "]"
			}
		})
	}
	return socket
}
