package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"
)

const (
	// pingEvery is the pause between two pings.
	pingEvery = 4 * time.Second
	// silence is how long nothing may come until a connection is taken for dead. With the pause
	// between two looks it is below the 20 s that the design allows.
	silence = 15 * time.Second
	// maxPings is how many pings the other end may send in silence. Each costs memory until it is
	// answered.
	maxPings = 60
	// closeTimeout is how long one end keeps a stream that it has closed and the other has not.
	closeTimeout = 30 * time.Second
	// MaxStreams is how many streams may be open. Source: 320 of the agent, 256 of Dial, requests,
	// and as many that are being closed.
	MaxStreams = 1500
)

// Errors of a Mux that has ended by itself.
var (
	errSilent = errors.New("nothing was heard from the other end for 15 s")
	errPings  = errors.New("the other end sends too many pings")
	// ErrStreams means that the other end has opened too many streams.
	ErrStreams = errors.New("the other end opens too many streams")
)

// Mux is one connection with many streams, which notices that it is dead.
type Mux struct {
	*yamux.Session
	conn *watchedConn
	once sync.Once
	err  error // why the session was closed; set by once
}

// NewMux multiplexes a connection. The two ends differ in client.
func NewMux(conn io.ReadWriteCloser, client bool) (*Mux, error) {
	config := yamux.DefaultConfig()
	config.EnableKeepAlive = false              // ours counts everything that is heard
	config.ConnectionWriteTimeout = 2 * silence // until then we have closed it
	config.StreamCloseTimeout = closeTimeout    // a stream has its own mark for half close
	config.StreamOpenTimeout = 0                // both ends accept at once
	config.LogOutput, config.Logger = nil, log.New(io.Discard, "", 0)
	m := &Mux{conn: &watchedConn{ReadWriteCloser: conn}}
	m.conn.heard.Store(time.Now().UnixNano())
	open := yamux.Server
	if client {
		open = yamux.Client
	}
	var err error
	if m.Session, err = open(m.conn, config); err != nil {
		return nil, err
	}
	go m.ping()
	go m.watch()
	return m, nil
}

// CloseFor closes the connection. The first reason counts.
func (m *Mux) CloseFor(reason error) {
	m.once.Do(func() { m.err = reason })
	_ = m.Close() // returns no errors
}

// Reason returns why the connection was closed, given what an Accept has returned.
func (m *Mux) Reason(err error) error {
	m.once.Do(func() {
		m.err = err
		if errors.Is(err, io.EOF) || errors.Is(err, yamux.ErrSessionShutdown) {
			m.err = errors.New("the connection was closed by the other end")
		}
	})
	return m.err
}

// Accept returns the next stream of the other end.
func (m *Mux) Accept() (*yamux.Stream, error) {
	s, err := m.AcceptStream()
	if err == nil && m.NumStreams() > MaxStreams {
		m.CloseFor(ErrStreams)
		return nil, ErrStreams
	}
	return s, err
}

func (m *Mux) ping() {
	t := time.NewTicker(pingEvery)
	defer t.Stop()
	for {
		select {
		case <-m.CloseChan():
			return
		case <-t.C:
			_, _ = m.Ping() // watch judges
		}
	}
}

// watch closes the connection when nothing is heard any more.
func (m *Mux) watch() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	last := time.Now()
	for {
		select {
		case <-m.CloseChan():
			return
		case <-t.C:
		}
		now := time.Now()
		if now.Sub(last) > 5*time.Second {
			m.conn.heard.Store(now.UnixNano()) // this process stood still itself, and has not listened
		}
		last = now
		if now.UnixNano()-m.conn.heard.Load() > int64(silence) {
			m.CloseFor(errSilent)
			return
		}
	}
}

// watchedConn notes when something was heard, and counts pings. It writes a frame at once, which
// yamux writes in two parts: each goes through three processes of the engine.
type watchedConn struct {
	io.ReadWriteCloser
	heard atomic.Int64 // when, in nanoseconds
	frame []byte       // the head of a frame whose body follows; of Write, which one goroutine calls

	// Of Read, which one goroutine calls.
	head  [12]byte
	have  int   // bytes of head that are read
	skip  int64 // bytes of a body that are still to come
	pings int
	since time.Time // when pings began to be counted
}

func (c *watchedConn) Write(p []byte) (int, error) {
	if len(c.frame) == 0 && len(p) == len(c.head) && p[1] == frameData && binary.BigEndian.Uint32(p[8:]) > 0 {
		c.frame = append(c.frame, p...)
		return len(p), nil
	}
	if len(c.frame) == 0 {
		return c.ReadWriteCloser.Write(p)
	}
	c.frame = append(c.frame, p...)
	_, err := c.ReadWriteCloser.Write(c.frame)
	c.frame = c.frame[:0]
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.ReadWriteCloser.Read(p)
	if n > 0 {
		c.heard.Store(time.Now().UnixNano())
		if e := c.look(p[:n]); e != nil {
			return 0, e
		}
	}
	return n, err
}

// Types of yamux's frames.
const (
	frameData = 0
	framePing = 2
)

// look finds the frames in what was read: a version, a type, two bytes of flags, four of a
// stream, four of a length, which is that of a body if the type is 0.
func (c *watchedConn) look(p []byte) error {
	for len(p) > 0 {
		if c.skip > 0 {
			n := min(c.skip, int64(len(p)))
			c.skip -= n
			p = p[n:]
			continue
		}
		n := copy(c.head[c.have:], p)
		c.have += n
		p = p[n:]
		if c.have < len(c.head) {
			return nil
		}
		c.have = 0
		switch c.head[1] {
		case frameData:
			c.skip = int64(binary.BigEndian.Uint32(c.head[8:]))
		case framePing:
			if err := c.countPing(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *watchedConn) countPing() error {
	if now := time.Now(); now.Sub(c.since) > silence {
		c.since, c.pings = now, 0
	}
	if c.pings++; c.pings > maxPings {
		return fmt.Errorf("%w: more than %d in %v", errPings, maxPings, silence)
	}
	return nil
}
