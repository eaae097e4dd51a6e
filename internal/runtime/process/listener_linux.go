package process

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// listenerOf returns the inode of the socket that listens on a loopback port, or ""
// if there is none. known is false if the system does not report it.
func listenerOf(port int) (inode string, known bool) {
	if inode, ok := queryListener(port); ok {
		return inode, true
	}
	// The kernel may be built without socket diagnostics. Its tables have the same
	// data, but reading them takes milliseconds.
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		if inode, ok := readListenerTable(file, port); ok {
			return inode, true
		}
	}
	return "", fileExists("/proc/net", "tcp")
}

// Sizes and offsets of the structs in linux/inet_diag.h, without the netlink
// header.
const (
	diagRequest  = 56
	diagSource   = 8  // source port in the request; the destination port and the addresses follow
	diagInode    = 68 // in the answer
	diagByFamily = 20 // SOCK_DIAG_BY_FAMILY
)

// queryListener asks the kernel for the socket to which it would deliver a
// connection to a loopback port.
func queryListener(port int) (string, bool) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return "", false
	}
	defer func() { _ = unix.Close(fd) }()
	req := make([]byte, unix.NLMSG_HDRLEN+diagRequest)
	binary.NativeEndian.PutUint32(req[0:], uint32(len(req)))
	binary.NativeEndian.PutUint16(req[4:], diagByFamily)
	binary.NativeEndian.PutUint16(req[6:], unix.NLM_F_REQUEST)
	msg := req[unix.NLMSG_HDRLEN:]
	msg[0], msg[1] = unix.AF_INET, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(msg[4:], ^uint32(0)) // in any state
	binary.BigEndian.PutUint16(msg[diagSource:], uint16(port))
	copy(msg[diagSource+4:], []byte{127, 0, 0, 1})
	for i := diagRequest - 8; i < diagRequest; i++ {
		msg[i] = 0xff // no cookie
	}
	if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return "", false
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil || n < unix.NLMSG_HDRLEN+diagInode+4 || binary.NativeEndian.Uint16(answer[4:]) != diagByFamily {
		return "", false
	}
	inode := binary.NativeEndian.Uint32(answer[unix.NLMSG_HDRLEN+diagInode:])
	return strconv.FormatUint(uint64(inode), 10), inode != 0
}

// readListenerTable finds the listener of a port in a table such as /proc/net/tcp.
func readListenerTable(file string, port int) (inode string, ok bool) {
	end := fmt.Sprintf(":%04X", port)
	err := eachLine(file, func(text string) {
		f := strings.Fields(text)
		if len(f) > 9 && f[3] == "0A" && strings.HasSuffix(f[1], end) && !ok {
			inode, ok = f[9], true
		}
	})
	return inode, ok && err == nil
}

// haveSocket reports whether one of the processes has a socket open. It also
// reports true if the files of all the processes that run are hidden from us. A
// process that has ended has no open files.
func haveSocket(pids []int, inode string) bool {
	target := "socket:[" + inode + "]"
	seen, hidden := false, false
	for _, pid := range pids {
		fds, err := os.ReadDir(procPath(pid, "fd"))
		if err != nil {
			hidden = hidden || errors.Is(err, fs.ErrPermission)
			continue
		}
		seen = true
		for _, fd := range fds {
			if link, err := os.Readlink(filepath.Join(procPath(pid, "fd"), fd.Name())); err == nil && link == target {
				return true
			}
		}
	}
	return hidden && !seen
}
