//go:build linux

package container

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/hashicorp/yamux"

	"agento.host/agento/internal/runtime/relay/wire"
)

const (
	// requestHeadTimeout is how long a program may take to say what it wants of the proxy.
	requestHeadTimeout = 30 * time.Second
	// decisionTimeout is how long the control plane may take to connect.
	decisionTimeout = 90 * time.Second
)

// serveAgent begins to take the agent's connections.
func (r *relay) serveAgent() error {
	for _, l := range []struct {
		address string
		slots   chan struct{}
		serve   func(*net.TCPConn)
	}{{r.server, r.slots.server, r.serveServer}, {r.proxy, r.slots.out, r.serveProxy}} {
		address, err := net.ResolveTCPAddr("tcp4", l.address)
		if err != nil {
			return err
		}
		listener, err := net.ListenTCP("tcp4", address)
		if err != nil {
			return fmt.Errorf("listen for the agent: %w", err)
		}
		go r.acceptAgent(listener, l.slots, l.serve)
	}
	return nil
}

// acceptAgent takes the agent's connections. It resets those for which there is no session or no
// room.
func (r *relay) acceptAgent(l *net.TCPListener, slots chan struct{}, serve func(*net.TCPConn)) {
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			time.Sleep(10 * time.Millisecond) // no descriptors are left, perhaps
			continue
		}
		if r.current() == nil {
			reset(c)
			continue
		}
		select {
		case slots <- struct{}{}:
			go func() {
				defer func() { <-slots }()
				serve(c)
			}()
		default:
			reset(c)
		}
	}
}

// begin opens a stream for a connection of the agent; nil if there is no session.
func (r *relay) begin(c *net.TCPConn, in wire.Incoming) *yamux.Stream {
	mux := r.current()
	if mux == nil {
		return nil
	}
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		in.ClientPort = uint16(a.Port)
	}
	s, err := mux.OpenStream()
	if err != nil {
		return nil
	}
	if err := wire.WriteMessage(s, in); err != nil {
		_ = s.Close()
		return nil
	}
	return s
}

// serveServer carries a connection to the server.
func (r *relay) serveServer(c *net.TCPConn) {
	pid, isGateways := r.caller.of(c, r.running())
	s := r.begin(c, wire.Incoming{Kind: wire.ToServer, PID: pid, FromGateway: isGateways})
	if s == nil {
		reset(c)
		return
	}
	join(wire.NewConn(s, c.LocalAddr(), c.RemoteAddr()), c, c)
}

// wanted is what a program wants of the proxy.
type wanted struct {
	host string
	port uint16
	// first is what the other end gets first.
	first []byte
	// rest has what follows of the program.
	rest io.Reader
	// answer tells the program what became of it, in its protocol.
	answer answerer
}

// answerer writes the answers of one protocol.
type answerer interface {
	accepted(w io.Writer) error
	refused(w io.Writer, reason string) error
	failed(w io.Writer) error
}

// readWanted reads what a program wants. w gets what its protocol answers before.
func readWanted(r *bufio.Reader, w io.Writer) (wanted, error) {
	first, err := r.Peek(1)
	if err != nil {
		return wanted{}, err
	}
	if first[0] == socksVersion {
		return readSOCKS(r, w)
	}
	return readHTTP(r)
}

// serveProxy carries a connection to the outside.
func (r *relay) serveProxy(c *net.TCPConn) {
	_ = c.SetDeadline(time.Now().Add(requestHeadTimeout))
	in := bufio.NewReaderSize(c, maxHead)
	want, err := readWanted(in, c)
	if err != nil {
		if bad := (*badRequest)(nil); asBadRequest(err, &bad) {
			_, _ = c.Write(bad.answer)
			linger(c)
			return
		}
		reset(c)
		return
	}
	_ = c.SetDeadline(time.Time{})
	s := r.begin(c, wire.Incoming{Kind: wire.ToOut, Host: want.host, Port: want.port})
	if s == nil {
		_ = want.answer.failed(c)
		linger(c)
		return
	}
	var d wire.Decision
	_ = s.SetReadDeadline(time.Now().Add(decisionTimeout))
	if err := wire.ReadMessage(s, &d, wire.MaxAnswer); err != nil || !d.Accepted {
		_ = s.Close()
		if err != nil {
			_ = want.answer.failed(c)
		} else {
			_ = want.answer.refused(c, wire.Printable(d.Reason, 500))
		}
		linger(c)
		return
	}
	_ = s.SetReadDeadline(time.Time{})
	out := wire.NewConn(s, c.LocalAddr(), c.RemoteAddr())
	err = want.answer.accepted(c)
	if err == nil && len(want.first) > 0 {
		_, err = out.Write(want.first)
	}
	if err != nil {
		out.Reset()
		reset(c)
		return
	}
	if want.rest == io.Reader(in) && in.Buffered() == 0 {
		want.rest = c
	}
	join(out, c, want.rest)
}

// linger closes a connection so that its program gets what was written, also if it has sent more
// than was read.
func linger(c *net.TCPConn) {
	_ = c.CloseWrite()
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
	_, _ = io.CopyN(io.Discard, c, 1<<20)
	_ = c.Close()
}
