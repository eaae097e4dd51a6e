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
	bufferSize = 32 << 10
	// largeSize is how much is read at once of a connection that has filled its buffer. It
	// saves a third of the CPU time of large transfers.
	largeSize = 256 << 10
	// maxLarge is how many large buffers an agent may hold: those of readers that are slow
	// must not fill the memory.
	maxLarge = 16
	// minCost is what the transfer of a few bytes counts for in the limit of bytes: it costs
	// the server as much time. While it waits, the bytes that follow are collected.
	minCost = 4 << 10
	// maxGreetingReads bounds the pieces of a greeting: it is read anew with each.
	maxGreetingReads = 100
	// greetingTimeout is how long a greeting may take from its first byte.
	greetingTimeout = 10 * time.Second
)

// buffers and largeBuffers are of slices. They are held only while bytes are there to be
// copied: an idle connection has none.
var (
	buffers      = sync.Pool{New: func() any { return newBuffer(bufferSize) }}
	largeBuffers = sync.Pool{New: func() any { return newBuffer(largeSize) }}
)

func newBuffer(size int) *[]byte {
	b := make([]byte, size)
	return &b
}

// copyBoth copies in both directions until both have ended. The end of one is passed on,
// and the other continues. An error resets both sides.
func (f *flow) copyBoth(remote *net.TCPConn) {
	prepare(f.client, insideBuffer)
	prepare(remote, outsideBuffer)
	var incoming sync.WaitGroup
	incoming.Go(func() { f.endOf(f.receive(remote), f.client) })
	f.endOf(f.send(remote), remote)
	incoming.Wait()
}

// prepare sets what a connection may cost. It works without that, so errors are ignored.
func prepare(conn net.Conn, buffer int) {
	c, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	_ = c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive})
	_ = c.SetReadBuffer(buffer)
	_ = c.SetWriteBuffer(buffer)
}

// endOf passes on the end of a direction.
func (f *flow) endOf(err error, to inside) {
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
	held, n, err := src.read(f.a, false)
	if err != nil || n == 0 {
		return true, err
	}
	defer f.a.putBuffer(held)
	buf := *held
	if err := f.client.SetReadDeadline(time.Now().Add(greetingTimeout)); err != nil {
		return false, err
	}
	for reads := 1; ; reads++ {
		kind, host := readGreeting(buf[:n])
		if err := f.checkGreeting(kind, host, n == len(buf) || reads == maxGreetingReads); err != nil {
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
// for, or no host although its protocol does. last says that no more is read of it.
func (f *flow) checkGreeting(kind greeting, host string, last bool) error {
	switch {
	case (kind == tlsGreeting || kind == httpGreeting) && host != f.to.name:
		return f.otherName("its first bytes name the host " + quote(host))
	case kind == unreadable, kind == incomplete && last:
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
func (f *flow) pump(dst, src net.Conn, count func(int)) error {
	r, err := newReader(src)
	if err != nil {
		return err
	}
	full := false // the last buffer was
	for {
		buf, n, err := r.read(f.a, full)
		if err != nil || n == 0 {
			return err
		}
		full = n == len(*buf)
		err = f.transfer(dst, (*buf)[:n], count)
		f.a.putBuffer(buf)
		if err != nil {
			return err
		}
	}
}

// getBuffer returns a buffer; a large one if that is asked for and the agent does not hold
// too many.
func (a *attachment) getBuffer(large bool) *[]byte {
	if !large {
		return buffers.Get().(*[]byte)
	}
	if a.large.Add(1) > maxLarge {
		a.large.Add(-1)
		return buffers.Get().(*[]byte)
	}
	return largeBuffers.Get().(*[]byte)
}

func (a *attachment) putBuffer(buf *[]byte) {
	switch len(*buf) {
	case bufferSize:
		buffers.Put(buf)
	case largeSize:
		a.large.Add(-1)
		largeBuffers.Put(buf)
	}
}

// transfer writes b, no faster than the agent may.
func (f *flow) transfer(dst net.Conn, b []byte, count func(int)) error {
	now := time.Now()
	f.touch(now)
	if limit, cost := f.a.bytes, max(len(b), minCost); limit != nil && !limit.AllowN(now, cost) {
		f.a.hitLimit("bytes a second", f.a.m.limits.BytesPerSecond)
		if err := limit.WaitN(f.a.ctx, cost); err != nil {
			return err
		}
	}
	n, err := dst.Write(b)
	count(n)
	return err
}

// reader reads from a connection without holding a buffer while nothing is there.
type reader interface {
	// read waits for bytes and returns them in a buffer that the caller gives back with
	// putBuffer. n is 0 at the end, and then there is no buffer. large asks for a large buffer
	// if bytes are there already.
	read(a *attachment, large bool) (buf *[]byte, n int, err error)
}

func newReader(c net.Conn) (reader, error) {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return &streamReader{c: c, small: newBuffer(smallSize)}, nil
	}
	raw, err := t.SyscallConn()
	return socketReader{raw}, err
}

// socketReader reads from a socket.
type socketReader struct{ raw syscall.RawConn }

func (r socketReader) read(a *attachment, large bool) (buf *[]byte, n int, err error) {
	failed := r.raw.Read(func(fd uintptr) (done bool) {
		buf = a.getBuffer(large)
		if n, err = ignoringEINTR(int(fd), *buf); n > 0 {
			return true
		}
		a.putBuffer(buf)
		buf, large = nil, false
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

// smallSize is what a streamReader holds while it waits.
const smallSize = 2 << 10

// streamReader reads from a connection that is no socket. It waits with a small buffer of its own,
// and reads with those that all share while its connection has more.
type streamReader struct {
	c     net.Conn
	small *[]byte
	more  bool // the last read has filled its buffer
}

func (r *streamReader) read(a *attachment, large bool) (buf *[]byte, n int, err error) {
	if buf = r.small; r.more {
		buf = a.getBuffer(large)
	}
	n, err = r.c.Read(*buf)
	r.more = n == len(*buf)
	if n > 0 {
		return buf, n, nil // an error comes again
	}
	a.putBuffer(buf)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return nil, 0, err
}
