package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
)

// socketName is the socket in the data directory.
const socketName = "admin.sock"

// maxSocketPath is the longest path of a socket: 107 bytes on Linux, 103 on macOS.
const maxSocketPath = 103

// Listen listens on the socket of a data directory. It replaces the socket of a server
// that was killed, so the caller has the lock of the directory. Connections of other
// users than the server's and root are closed. Closing the listener removes the socket.
func Listen(ctx context.Context, dir string) (net.Listener, error) {
	l, err := listen(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", filepath.Join(dir, socketName), err)
	}
	return l, nil
}

func listen(ctx context.Context, dir string) (_ net.Listener, err error) {
	// The socket gets its name when its mode is right.
	const newName = socketName + ".new"
	path, newPath := filepath.Join(dir, socketName), filepath.Join(dir, newName)
	if err := os.Remove(newPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	address, release, err := shortPath(dir, newName)
	if err != nil {
		return nil, err
	}
	defer release()
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", address)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close(), os.Remove(newPath))
		}
	}()
	unix, ok := l.(*net.UnixListener)
	if !ok {
		return nil, fmt.Errorf("%T is not a Unix listener", l)
	}
	unix.SetUnlinkOnClose(false) // it is renamed
	if err := os.Chmod(newPath, 0o600); err != nil {
		return nil, err
	}
	if err := os.Rename(newPath, path); err != nil {
		return nil, err
	}
	return &listener{UnixListener: unix, path: path}, nil
}

// shortPath returns a path of a file in a directory that is short enough for a socket.
// It is valid until release is called.
func shortPath(dir, name string) (path string, release func(), err error) {
	if path = filepath.Join(dir, name); len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	if runtime.GOOS != "linux" {
		return "", nil, fmt.Errorf("the path is longer than %d bytes: choose a shorter --data", maxSocketPath)
	}
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return "", nil, err
	}
	return filepath.Join("/proc/self/fd", strconv.Itoa(int(d.Fd())), name), func() { _ = d.Close() }, nil
}

// listener accepts connections of the server's user and of root.
type listener struct {
	*net.UnixListener
	path string
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if uid, err := peerUID(conn); err == nil && (uid == 0 || uid == os.Geteuid()) {
			return conn, nil
		}
		_ = conn.Close()
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	err := l.UnixListener.Close()
	if err == nil {
		err = os.Remove(l.path)
	}
	return err
}
