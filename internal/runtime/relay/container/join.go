//go:build linux

package container

import (
	"io"
	"net"
	"time"

	"agento.host/agento/internal/runtime/relay/wire"
)

// stuck is how long a process in the container may leave a connection unread while there is
// something to read. A paused container does not count: the relay stands still, too.
const stuck = 5 * time.Minute

// join connects a stream and a socket of this container until both directions have ended. from
// has what comes from the socket.
func join(c *wire.Conn, t *net.TCPConn, from io.Reader) {
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, err := c.ReadFrom(from)
		if err == nil {
			err = c.CloseWrite()
		}
		if err != nil { // either end is gone, and the other must not take that for the end of what was sent
			c.Reset()
			reset(t)
		}
	}()
	_, err := io.CopyBuffer(progress{t}, onlyReader{c}, make([]byte, 32<<10))
	if err == nil {
		err = t.CloseWrite()
	}
	if err != nil {
		c.Reset()
		reset(t)
		<-sent
		return
	}
	gone := make(chan struct{})
	go func() {
		c.AwaitClose()
		close(gone)
	}()
	select {
	case <-sent:
	case <-gone: // it has closed its connection, and reads nothing more; the socket still sends what it has
		_ = t.Close()
		<-sent
	}
	_ = c.Close() // returns what does not matter any more
	_ = t.Close()
	<-gone
}

// reset ends a connection so that the other side sees that something is missing.
func reset(t *net.TCPConn) {
	_ = t.SetLinger(0)
	_ = t.Close()
}

// progress is a connection whose writes fail if nothing is read at the other end for too long.
type progress struct{ t *net.TCPConn }

func (p progress) Write(b []byte) (int, error) {
	if err := p.t.SetWriteDeadline(time.Now().Add(stuck)); err != nil {
		return 0, err
	}
	return p.t.Write(b)
}

// onlyReader hides other methods from io.Copy.
type onlyReader struct{ io.Reader }
