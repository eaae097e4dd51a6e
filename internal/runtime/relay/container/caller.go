//go:build linux

package container

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// callers tell which process has opened a connection to the relay.
type callers struct {
	once sync.Once
	tell bool // it can be told here
}

// of returns which process has opened a connection, 0 if that is not known, and whether the
// gateway has. It says that the gateway has if it cannot be told here at all. A connection that
// nobody has open any more is not the gateway's: nobody would get the answer.
func (c *callers) of(conn *net.TCPConn, g *gateway) (pid int, isGateways bool) {
	if c.once.Do(c.try); !c.tell || g == nil {
		return 0, true
	}
	socket, err := clientSocket(conn)
	switch {
	case err != nil:
		return 0, true
	case socket == "":
		return 0, false
	case hasOpen(g.pid, socket):
		return g.pid, true
	}
	for _, pid := range descendants(os.Getpid()) {
		if hasOpen(pid, socket) {
			return pid, false
		}
	}
	return 0, false
}

// try finds out whether it can be told, by a connection of the relay with itself. A sandbox that
// has a kernel of its own may show no sockets.
func (c *callers) try() {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return
	}
	defer func() { _ = l.Close() }()
	client, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		return
	}
	defer func() { _ = client.Close() }()
	server, err := l.Accept()
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	if t, ok := server.(*net.TCPConn); ok {
		socket, err := clientSocket(t)
		c.tell = err == nil && socket != "" && hasOpen(os.Getpid(), socket)
	}
}

// clientSocket returns the name of the socket at the other end of a connection of this network,
// as links in /proc have it; empty if no process has it open.
func clientSocket(conn *net.TCPConn) (string, error) {
	server, ok1 := conn.LocalAddr().(*net.TCPAddr)
	client, ok2 := conn.RemoteAddr().(*net.TCPAddr)
	if !ok1 || !ok2 {
		return "", fmt.Errorf("a %T has no address", conn)
	}
	from, to := client.AddrPort(), server.AddrPort()
	socket, err := socketBetween("/proc/self/net/tcp", hex4(from), hex4(to))
	if err != nil || socket != "" {
		return socket, err
	}
	// An IPv6 socket may have connected to the IPv4 address.
	socket, err = socketBetween("/proc/self/net/tcp6", hex6(from), hex6(to))
	if os.IsNotExist(err) {
		return "", nil
	}
	return socket, err
}

// hex4 returns an address as /proc/net/tcp has it on a little-endian machine.
func hex4(a netip.AddrPort) string {
	ip := a.Addr().Unmap().As4()
	return fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], a.Port())
}

func hex6(a netip.AddrPort) string { return "0000000000000000FFFF0000" + hex4(a) }

func socketBetween(table, local, remote string) (string, error) {
	f, err := os.Open(table)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		const localAddress, remoteAddress, inode = 1, 2, 9
		if f := strings.Fields(lines.Text()); len(f) > inode && f[localAddress] == local && f[remoteAddress] == remote && f[inode] != "0" {
			return "socket:[" + f[inode] + "]", nil
		}
	}
	return "", lines.Err()
}

// hasOpen reports whether a process has a socket open, or hides what it has open.
func hasOpen(pid int, socket string) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	open, err := os.ReadDir(dir)
	if err != nil {
		return !os.IsNotExist(err)
	}
	for _, f := range open {
		target, err := os.Readlink(filepath.Join(dir, f.Name()))
		if target == socket || err != nil && !os.IsNotExist(err) {
			return true
		}
	}
	return false
}
