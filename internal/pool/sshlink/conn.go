package sshlink

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// chunk is the most data that is in the hands of one of the goroutines of a connection. It
// is the packet size of SSH.
const chunk = 32 << 10

// Conn is a connection to a socket or port of the server. It has what a *net.UnixConn has
// and a channel of SSH has not: deadlines, and errors where a connection was cut off.
type Conn struct {
	owner  *connection
	ch     ssh.Channel
	remote net.Addr

	closeOnce   sync.Once
	closed      chan struct{} // closed by Close
	readUntil   deadline
	writeUntil  deadline
	received    chan []byte   // what was read of the channel; closed at its end
	taken       chan struct{} // a chunk of received was used up
	readError   error         // set before received is closed
	readMu      sync.Mutex    // guards rest
	rest        []byte        // of the last chunk
	writeMu     sync.Mutex    // guards what follows
	toWrite     chan writing
	written     chan error
	writeFailed error // all later writes fail with it
}

// writing is a piece of data to write, or the end of it.
type writing struct {
	data []byte
	end  bool
}

func newConn(owner *connection, o opened, to net.Addr) *Conn {
	c := &Conn{
		owner: owner, ch: o.channel, remote: to, closed: make(chan struct{}),
		received: make(chan []byte), taken: make(chan struct{}), toWrite: make(chan writing), written: make(chan error, 1),
	}
	go ssh.DiscardRequests(o.requests)
	go func() { _, _ = io.Copy(io.Discard, o.channel.Stderr()) }() // it takes part in the window of the channel
	go c.receive()
	go c.send()
	return c
}

// receive reads the channel, one chunk ahead of Read.
func (c *Conn) receive() {
	defer close(c.received)
	buffer := make([]byte, chunk)
	for {
		n, err := c.ch.Read(buffer)
		if n > 0 {
			select {
			case c.received <- buffer[:n]:
			case <-c.closed:
				return
			}
			select {
			case <-c.taken:
			case <-c.closed:
				return
			}
		}
		if err != nil {
			c.readError = c.endOfChannel(err)
			return
		}
	}
}

// endOfChannel returns why a channel has ended. It ends with io.EOF also when its connection
// was lost: what came until then must not look whole.
func (c *Conn) endOfChannel(err error) error {
	if errors.Is(err, io.EOF) && c.owner.alive() {
		return io.EOF
	}
	return c.lost(err)
}

func (c *Conn) lost(err error) error {
	if reason := c.owner.err(); reason != nil {
		err = reason
	} else if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) { // of the connection, and not by Close
		err = io.ErrUnexpectedEOF
	}
	return &net.OpError{Op: "ssh", Net: c.remote.Network(), Addr: c.remote, Err: fmt.Errorf("cut off: %w", err)}
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if c.readUntil.passed() {
		return 0, os.ErrDeadlineExceeded
	}
	for len(c.rest) == 0 {
		if len(p) == 0 {
			return 0, nil
		}
		err := c.readUntil.wait(func(timer <-chan time.Time, changed <-chan struct{}) (bool, error) {
			select {
			case <-c.closed:
				return true, net.ErrClosed
			case data, ok := <-c.received:
				c.rest = data
				return true, c.endUnless(ok)
			case <-timer:
			case <-changed:
			}
			return false, nil
		})
		if err != nil {
			return 0, err
		}
	}
	n := copy(p, c.rest)
	if c.rest = c.rest[n:]; len(c.rest) == 0 {
		select {
		case c.taken <- struct{}{}:
		case <-c.closed:
		}
	}
	return n, nil
}

// endUnless returns why nothing more is received.
func (c *Conn) endUnless(received bool) error {
	switch {
	case received:
		return nil
	case c.readError != nil:
		return c.readError
	}
	return net.ErrClosed
}

// send writes to the channel what Write hands over. It ends with the connection or its
// channel, also while it waits for the server to make room.
func (c *Conn) send() {
	for {
		select {
		case w := <-c.toWrite:
			if w.end {
				c.written <- c.ch.CloseWrite()
				continue
			}
			_, err := c.ch.Write(w.data)
			c.written <- err
		case <-c.closed:
			return
		}
	}
}

// Write implements net.Conn. After a write that has not ended before its deadline, it is not
// known what was sent, so that all later ones fail, too.
func (c *Conn) Write(p []byte) (n int, err error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	buffer := []byte(nil)
	for n < len(p) || n == 0 && len(p) == 0 {
		size := min(chunk, len(p)-n)
		buffer = append(buffer[:0], p[n:n+size]...) // p must not be kept
		if err := c.handOver(writing{data: buffer}); err != nil {
			return n, err
		}
		if n += size; size == 0 {
			break
		}
	}
	return n, nil
}

// CloseWrite ends what is sent. What is received goes on.
func (c *Conn) CloseWrite() error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	return c.handOver(writing{end: true})
}

func (c *Conn) handOver(w writing) error {
	if c.writeFailed != nil {
		return c.writeFailed
	}
	if c.writeUntil.passed() {
		return os.ErrDeadlineExceeded
	}
	handed := false
	to := c.toWrite
	err := c.writeUntil.wait(func(timer <-chan time.Time, changed <-chan struct{}) (bool, error) {
		select {
		case to <- w:
			handed, to = true, nil
		case err := <-c.written:
			return true, err
		case <-c.closed:
			return true, net.ErrClosed
		case <-timer:
		case <-changed:
		}
		return false, nil
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded) && !handed:
		return err
	case errors.Is(err, os.ErrDeadlineExceeded) || c.isClosed():
		c.writeFailed = err
	default:
		c.writeFailed = c.lost(err)
	}
	return c.writeFailed
}

// isClosed reports whether Close was called.
func (c *Conn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// Close implements net.Conn. It does not wait for the server.
func (c *Conn) Close() error {
	c.closeOnce.Do(func() {
		close(c.closed)
		go func() { _ = c.ch.Close() }() // it has ended, or its connection has
	})
	return nil
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return remote{c.remote.Network(), "ssh"} }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadline(&c.readUntil, t) }

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(&c.writeUntil, t) }

func (c *Conn) setDeadline(d *deadline, t time.Time) error {
	select {
	case <-c.closed:
		return net.ErrClosed
	default:
		d.set(t)
		return nil
	}
}
