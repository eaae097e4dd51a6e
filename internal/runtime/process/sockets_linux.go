package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// socketPool keeps sockets in the namespaces of gateways that are not connected yet.
// The server of an ordinary user needs a process to make some (25 ms), so it makes
// several at once.
type socketPool struct {
	mu   sync.Mutex
	idle map[namespace][]*os.File // guarded by mu
}

const (
	// socketsAtOnce is how many sockets an ordinary user's server makes.
	socketsAtOnce = 8
	// socketAge is how long they are kept.
	socketAge = time.Minute
)

// dial connects to a port in a namespace.
func (p *socketPool) dial(ctx context.Context, ns namespace, port int) (net.Conn, error) {
	f, err := p.take(ctx, ns)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if err := connect(ctx, f, port); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

func (p *socketPool) take(ctx context.Context, ns namespace) (*os.File, error) {
	if f := p.pop(ns); f != nil {
		return f, nil
	}
	count := 1 // root makes one in 0.1 ms
	if os.Getuid() != 0 {
		count = socketsAtOnce
	}
	files, err := ns.do(ctx, namespaceRequest{Sockets: count})
	if err != nil {
		return nil, err
	}
	p.keep(ns, files[1:])
	return files[0], nil
}

func (p *socketPool) pop(ns namespace) *os.File {
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := p.idle[ns]
	if len(idle) == 0 {
		return nil
	}
	f := idle[len(idle)-1]
	if p.idle[ns] = idle[:len(idle)-1]; len(idle) == 1 {
		delete(p.idle, ns)
	}
	return f
}

func (p *socketPool) keep(ns namespace, files []*os.File) {
	if len(files) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.idle == nil {
		p.idle = map[namespace][]*os.File{}
	}
	p.idle[ns] = append(p.idle[ns], files...)
	time.AfterFunc(socketAge, func() { p.drop(ns, files) })
}

// drop closes those of the files that are still idle.
func (p *socketPool) drop(ns namespace, files []*os.File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle[ns] = slices.DeleteFunc(p.idle[ns], func(f *os.File) bool {
		if !slices.Contains(files, f) {
			return false
		}
		_ = f.Close()
		return true
	})
	if len(p.idle[ns]) == 0 {
		delete(p.idle, ns)
	}
}

// connect connects a socket to a loopback port of its namespace.
func connect(ctx context.Context, f *os.File, port int) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = f.SetWriteDeadline(deadline)
	}
	defer context.AfterFunc(ctx, func() { _ = f.SetWriteDeadline(time.Unix(1, 0)) })()
	var failed error
	began := false
	err = raw.Write(func(fd uintptr) bool {
		if !began {
			began = true
			failed = unix.Connect(int(fd), &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port})
			return !errors.Is(failed, unix.EINPROGRESS)
		}
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			failed = err
		case code != 0:
			failed = unix.Errno(code)
		default:
			failed = nil
		}
		return true
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return err
	case failed != nil:
		return fmt.Errorf("connect to %s in the gateway's network: %w", loopback(port), failed)
	}
	return nil
}
