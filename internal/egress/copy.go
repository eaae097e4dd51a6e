package egress

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	// bufferSize is how much is read at once, and the size of the longest greeting.
	bufferSize = 64 << 10
	// greetingTimeout is how long a greeting may take from its first byte.
	greetingTimeout = 10 * time.Second
)

// buffers are held only while bytes are there to be copied: an idle connection has none.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// copyBoth copies in both directions until both have ended. The end of one is passed on,
// and the other continues. An error resets both sides.
func (f *flow) copyBoth(remote *net.TCPConn) {
	for _, c := range []*net.TCPConn{f.client, remote} {
		_ = c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive})
		_ = c.SetReadBuffer(socketBuffer)
		_ = c.SetWriteBuffer(socketBuffer)
	}
	var incoming sync.WaitGroup
	incoming.Go(func() { f.endOf(f.receive(remote), f.client) })
	f.endOf(f.send(remote), remote)
	incoming.Wait()
}

// endOf passes on the end of a direction.
func (f *flow) endOf(err error, to *net.TCPConn) {
	if err == nil {
		err = to.CloseWrite()
	}
	if err == nil {
		return
	}
	if r := refusalOf(err); r != nil {
		f.a.refuse(f.to, r)
	}
	f.reset()
}

// receive copies from the remote side to the agent.
func (f *flow) receive(remote *net.TCPConn) error {
	return f.pump(f.client, remote, func(n int) { f.in.Add(int64(n)) })
}

// send copies from the agent to the remote side. If the agent named a host when it
// connected, its first bytes must name the same.
func (f *flow) send(remote *net.TCPConn) error {
	count := func(n int) { f.out.Add(int64(n)) }
	if f.to.name != "" {
		if done, err := f.sendGreeting(remote, count); done || err != nil {
			return err
		}
	}
	return f.pump(remote, f.client, count)
}

// sendGreeting sends the first bytes once they are checked. done reports that the agent
// sends nothing more.
func (f *flow) sendGreeting(remote *net.TCPConn, count func(int)) (done bool, err error) {
	src, err := newReader(f.client)
	if err != nil {
		return false, err
	}
	buf, n, err := src.read()
	if err != nil || n == 0 {
		return true, err
	}
	defer buffers.Put(buf)
	if err := f.client.SetReadDeadline(time.Now().Add(greetingTimeout)); err != nil {
		return false, err
	}
	for {
		kind, host := readGreeting(buf[:n])
		if err := f.checkGreeting(kind, host, n); err != nil {
			return false, err
		}
		if kind != incomplete {
			break
		}
		if done {
			if looksNamed(buf[:n]) {
				return false, f.otherName("its first bytes do not show which host they are for")
			}
			break
		}
		more, err := f.client.Read(buf[n:])
		n += more
		switch {
		case errors.Is(err, io.EOF):
			done = true
		case isTimeout(err):
			return false, f.otherName("its first bytes do not show which host they are for")
		case err != nil:
			return false, err
		}
	}
	if err := f.client.SetReadDeadline(time.Time{}); err != nil {
		return false, err
	}
	if err := f.transfer(remote, buf[:n], count); err != nil {
		return false, err
	}
	return done, nil
}

// checkGreeting returns a refusal if a greeting names another host than the connection is
// for, or no host although its protocol does.
func (f *flow) checkGreeting(kind greeting, host string, n int) error {
	switch {
	case (kind == tlsGreeting || kind == httpGreeting) && host != f.to.name:
		return f.otherName("its first bytes name the host " + quote(host))
	case kind == unreadable, kind == incomplete && n == bufferSize:
		return f.otherName("its first bytes do not show which host they are for")
	}
	return nil
}

func (f *flow) otherName(detail string) error {
	return &refusal{reason: ByGreeting, detail: "the connection is for " + f.to.name + ", but " + detail}
}

func isTimeout(err error) bool {
	timeout := net.Error(nil)
	return errors.As(err, &timeout) && timeout.Timeout()
}

// pump copies until src ends.
func (f *flow) pump(dst, src *net.TCPConn, count func(int)) error {
	r, err := newReader(src)
	if err != nil {
		return err
	}
	for {
		buf, n, err := r.read()
		if err != nil || n == 0 {
			return err
		}
		err = f.transfer(dst, buf[:n], count)
		buffers.Put(buf)
		if err != nil {
			return err
		}
	}
}

// transfer writes b, no faster than the agent may.
func (f *flow) transfer(dst *net.TCPConn, b []byte, count func(int)) error {
	now := time.Now()
	f.touch(now)
	if limit := f.a.bytes; limit != nil && !limit.AllowN(now, len(b)) {
		f.a.hitLimit("bytes a second", f.a.m.limits.BytesPerSecond)
		if err := limit.WaitN(f.a.ctx, len(b)); err != nil {
			return err
		}
	}
	n, err := dst.Write(b)
	count(n)
	return err
}

// reader reads from a connection without holding a buffer while nothing is there.
type reader struct{ raw syscall.RawConn }

func newReader(c *net.TCPConn) (reader, error) {
	raw, err := c.SyscallConn()
	return reader{raw}, err
}

// read waits for bytes and returns them in a buffer that the caller puts back. n is 0 at
// the end, and then there is no buffer.
func (r reader) read() (buf *[bufferSize]byte, n int, err error) {
	failed := r.raw.Read(func(fd uintptr) (done bool) {
		buf = buffers.Get().(*[bufferSize]byte)
		if n, err = ignoringEINTR(int(fd), buf[:]); n > 0 {
			return true
		}
		buffers.Put(buf)
		buf = nil
		return !errors.Is(err, syscall.EAGAIN)
	})
	if failed != nil {
		err = failed
	}
	return buf, max(n, 0), err
}

func ignoringEINTR(fd int, b []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, b)
		if !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}
