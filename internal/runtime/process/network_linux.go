package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A socket belongs to the namespace of the thread that made it, wherever it is used
// later. So whoever enters a namespace only makes sockets there: a thread of the server
// if the server is root. A program with several threads cannot enter a user namespace, so
// the server of an ordinary user starts itself once more, in the namespace, for each
// request, and gets the sockets through a unix socket.

// helperName is the argument by which this program is the helper of an ordinary user's
// server.
const helperName = "agento-namespace-helper"

// init makes every program with this package the helper, test programs too: one that
// ignored the argument would start itself again and again.
func init() {
	if len(os.Args) == 2 && os.Args[1] == helperName {
		if err := serveHelper(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			unix.Exit(1)
		}
		unix.Exit(0) // os.Exit waits a second in a program with the race detector
	}
}

// do executes a request in the namespace and returns the sockets that it made.
func (n namespace) do(ctx context.Context, r namespaceRequest) ([]*os.File, error) {
	if os.Getuid() != 0 {
		return n.doInHelper(ctx, r)
	}
	type result struct {
		files []*os.File
		err   error
	}
	done := make(chan result)
	go func() {
		goruntime.LockOSThread()
		files, left, err := n.doInThread(r)
		if left {
			goruntime.UnlockOSThread() // otherwise the thread ends with the goroutine
		}
		done <- result{files, err}
	}()
	res := <-done
	return res.files, res.err
}

// doInThread executes a request with the calling thread in the namespace. It reports
// whether the thread has left the namespace again.
func (n namespace) doInThread(r namespaceRequest) (files []*os.File, left bool, err error) {
	before, err := unix.Open(threadNetwork, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, true, fmt.Errorf("open the network namespace of the server: %w", err)
	}
	defer func() { _ = unix.Close(before) }()
	fd, err := unix.Open(n.path("net"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, true, fmt.Errorf("open the network namespace: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := n.check(); err != nil {
		return nil, true, err
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return nil, true, fmt.Errorf("enter the network namespace: %w", err)
	}
	files, err = r.execute()
	return files, unix.Setns(before, unix.CLONE_NEWNET) == nil, err
}

// threadNetwork is the network namespace of the calling thread.
const threadNetwork = "/proc/thread-self/ns/net"

func (n namespace) path(kind string) string { return fmt.Sprintf("/proc/%d/ns/%s", n.shim, kind) }

// check refuses the machine's own network, and a process that is no longer the shim.
func (n namespace) check() error {
	own, err := os.Readlink(threadNetwork)
	if err != nil {
		return err
	}
	other, err := os.Readlink(n.path("net"))
	switch {
	case err != nil:
		return err
	case own == other:
		return errors.New("the gateway has no network namespace of its own: stop it with `agento gateways stop`")
	case n.nonce != "" && !isShim(n.shim, n.nonce):
		return fmt.Errorf("process %d is no longer the gateway's", n.shim)
	}
	return nil
}

// doInHelper executes a request in a process that has entered the user namespace and the
// network namespace.
func (n namespace) doInHelper(ctx context.Context, r namespaceRequest) ([]*os.File, error) {
	if err := n.check(); err != nil {
		return nil, err
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer func() { _ = ours.Close() }()
	program, err := os.Open("/proc/self/exe") // its path may be another program by now
	if err != nil {
		return nil, errors.Join(err, theirs.Close())
	}
	request, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, namespaceTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", "--preserve-credentials", "--user", "--net", "--target", strconv.Itoa(n.shim), "--", "/proc/self/fd/4", helperName)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.Stdin = strings.NewReader(string(request))
	cmd.ExtraFiles = []*os.File{theirs, program}
	var output strings.Builder
	cmd.Stderr = &output
	err = cmd.Run()
	_, _ = theirs.Close(), program.Close()
	if err != nil {
		return nil, fmt.Errorf("enter the network namespace: %w: %s", err, strings.TrimSpace(output.String()))
	}
	return receiveFiles(ours)
}

func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	theirs = os.NewFile(uintptr(fds[1]), "helper")
	f := os.NewFile(uintptr(fds[0]), "server")
	defer func() { _ = f.Close() }()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return c.(*net.UnixConn), theirs, nil
}

// serveHelper executes the request on standard input, and sends the sockets that it made
// to descriptor 3.
func serveHelper() error {
	goruntime.LockOSThread()
	var r namespaceRequest
	if err := json.NewDecoder(os.Stdin).Decode(&r); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	files, err := r.execute()
	if err != nil {
		return err
	}
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	return unix.Sendmsg(3, []byte{byte(len(fds))}, unix.UnixRights(fds...), nil, 0)
}

// maxSockets is how many sockets one request may make.
const maxSockets = 16

func receiveFiles(c *net.UnixConn) ([]*os.File, error) {
	data, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4*maxSockets))
	_, n, _, _, err := c.ReadMsgUnix(data, oob)
	if err != nil {
		return nil, fmt.Errorf("receive sockets: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			_ = unix.SetNonblock(fd, true) // or the runtime would need a thread for each
			files = append(files, os.NewFile(uintptr(fd), "socket"))
		}
	}
	if len(files) != int(data[0]) {
		closeAll(files)
		return nil, fmt.Errorf("%d sockets instead of %d", len(files), data[0])
	}
	return files, nil
}

// execute executes a request in the namespace of the calling thread.
func (r namespaceRequest) execute() (files []*os.File, err error) {
	defer func() {
		if err != nil {
			closeAll(files)
			files = nil
		}
	}()
	if r.Configure {
		if err := configure(); err != nil {
			return nil, err
		}
	}
	if r.SetRoutes {
		if err := setRoutes(r.Routes); err != nil {
			return nil, err
		}
	}
	if r.Listen {
		for _, l := range []struct {
			kind int
			host string
			port int
		}{{unix.SOCK_STREAM, "127.0.0.1", serverPort}, {unix.SOCK_STREAM, "127.0.0.1", outPort}, {unix.SOCK_DGRAM, dnsHost, dnsPort}} {
			f, err := listen(l.kind, netip.MustParseAddr(l.host), l.port)
			if err != nil {
				return files, err
			}
			files = append(files, f)
		}
	}
	for range min(r.Sockets, maxSockets) {
		fd, err := newSocket(unix.SOCK_STREAM)
		if err != nil {
			return files, err
		}
		files = append(files, os.NewFile(uintptr(fd), "socket"))
	}
	return files, nil
}

func newSocket(kind int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("make a socket: %w", err)
	}
	return fd, nil
}

// backlog is how many connections may wait until the server accepts them.
const backlog = 128

func listen(kind int, host netip.Addr, port int) (*os.File, error) {
	fd, err := newSocket(kind)
	if err != nil {
		return nil, err
	}
	if kind == unix.SOCK_STREAM { // connections of the last server may not have ended yet
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: host.As4(), Port: port})
	}
	if err == nil && kind == unix.SOCK_STREAM {
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s port %d: %w", host, port, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "listener"), nil
}

// socketMemory bounds the buffers of one connection in a namespace: a connection that
// nobody reads would otherwise hold up to 32 MB.
const socketMemory = "4096 65536 131072\n"

// configure makes a new namespace ready: loopback works, everything else that is TCP is
// redirected to the server, and the rest is refused.
func configure() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback device: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("start the loopback device: %w", err)
	}
	for _, name := range []string{"tcp_rmem", "tcp_wmem"} {
		// Where /proc/sys is read-only, the server's own buffers are still bounded.
		_ = os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(socketMemory), 0)
	}
	if err := addFirewall(); err != nil {
		return fmt.Errorf("set the rules of nftables: %w", err)
	}
	return nil
}

// setRoutes makes the addresses of these networks, and no others, the machine's own, so
// that connections to them come to the redirection. A namespace has no other routes in
// its main table.
func setRoutes(routes []netip.Prefix) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback device: %w", err)
	}
	filter := &netlink.Route{Table: unix.RT_TABLE_MAIN, Type: unix.RTN_LOCAL}
	present, err := netlink.RouteListFiltered(netlink.FAMILY_V4, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	have := map[string]bool{}
	for i := range present {
		name := present[i].Dst.String()
		if have[name] = true; slices.ContainsFunc(routes, func(p netip.Prefix) bool { return p.Masked().String() == name }) {
			continue
		}
		if err := netlink.RouteDel(&present[i]); err != nil {
			return fmt.Errorf("delete the route of %s: %w", name, err)
		}
	}
	for _, p := range routes {
		p = p.Masked()
		if !p.Addr().Is4() || have[p.String()] {
			continue
		}
		route := &netlink.Route{
			LinkIndex: lo.Attrs().Index, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST,
			Dst: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)},
		}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("add the route of %s: %w", p, err)
		}
	}
	return nil
}
