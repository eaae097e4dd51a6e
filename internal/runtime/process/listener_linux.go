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

// listenerOf returns the inode of the socket that listens on a loopback port,
// empty if none does. known is false where the system does not say.
func listenerOf(port int) (inode string, known bool) {
	if inode, ok := askForListener(port); ok {
		return inode, true
	}
	// The kernel may lack the part that answers. Its tables say the same, in
	// milliseconds.
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		if inode, ok := listenerIn(file, port); ok {
			return inode, true
		}
	}
	return "", has("/proc/net", "tcp")
}

// Sizes and offsets of linux/inet_diag.h, behind the netlink header.
const (
	diagRequest  = 56
	diagSource   = 8  // source port in the request, then the other's, then addresses
	diagInode    = 68 // in the answer
	diagByFamily = 20 // SOCK_DIAG_BY_FAMILY
)

// askForListener asks the kernel for the socket to which it would deliver a
// connection to a loopback port.
func askForListener(port int) (string, bool) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return "", false
	}
	defer func() { _ = unix.Close(fd) }()
	req := make([]byte, unix.NLMSG_HDRLEN+diagRequest)
	binary.NativeEndian.PutUint32(req[0:], uint32(len(req)))
	binary.NativeEndian.PutUint16(req[4:], diagByFamily)
	binary.NativeEndian.PutUint16(req[6:], unix.NLM_F_REQUEST)
	body := req[unix.NLMSG_HDRLEN:]
	body[0], body[1] = unix.AF_INET, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(body[4:], ^uint32(0)) // in any state
	binary.BigEndian.PutUint16(body[diagSource:], uint16(port))
	copy(body[diagSource+4:], []byte{127, 0, 0, 1})
	for i := diagRequest - 8; i < diagRequest; i++ {
		body[i] = 0xff // no cookie
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

func listenerIn(file string, port int) (inode string, ok bool) {
	end := fmt.Sprintf(":%04X", port)
	err := eachLine(file, func(text string) {
		f := strings.Fields(text)
		if len(f) > 9 && f[3] == "0A" && strings.HasSuffix(f[1], end) && !ok {
			inode, ok = f[9], true
		}
	})
	return inode, ok && err == nil
}

// holdsSocket says whether one of the processes has a socket open, or whether
// none of them lets us see. One that has ended has nothing open.
func holdsSocket(pids []int, inode string) bool {
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
