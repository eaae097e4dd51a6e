package sshlink

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// line is one of the connections of a link: there is none, it is being made, or it is there.
type line struct {
	link *Link

	mu       sync.Mutex // guards what follows
	current  *connection
	attempt  *attempt // nil: none goes on
	failures int      // in a row
	next     time.Time
	since    time.Time // of the last change
	last     error
	final    error // nothing is tried any more
}

// attempt is a connection that is being made, for all who wait for it.
type attempt struct {
	done chan struct{}
	conn *connection
	err  error
}

// get returns the connection, and makes it if there is none. Who gives up waiting does not
// end the attempt: the next one needs it, too.
func (l *line) get(ctx context.Context) (*connection, error) {
	l.mu.Lock()
	switch {
	case l.final != nil:
		defer l.mu.Unlock()
		return nil, l.final
	case l.current != nil:
		defer l.mu.Unlock()
		return l.current, nil
	case l.attempt == nil && time.Now().Before(l.next):
		defer l.mu.Unlock()
		return nil, l.last
	case l.attempt == nil:
		l.attempt = &attempt{done: make(chan struct{})}
		l.link.work.Add(1)
		go l.connect(l.attempt)
	}
	a := l.attempt
	l.mu.Unlock()
	select {
	case <-a.done:
		return a.conn, a.err
	case <-ctx.Done():
		return nil, l.link.named(errors.Join(errors.New("no connection yet"), ctx.Err()))
	}
}

// connect makes a connection. It takes part in l.link.work until the connection has ended.
func (l *line) connect(a *attempt) {
	defer l.link.work.Done()
	select {
	case l.link.handshake <- struct{}{}:
		a.conn, a.err = l.link.connect(l.link.ctx)
		<-l.link.handshake
	case <-l.link.ctx.Done():
		a.err = ErrClosed
	}
	l.mu.Lock()
	l.attempt = nil
	if a.err == nil && l.final != nil { // it was closed meanwhile
		a.conn.end(l.final)
		a.conn, a.err = nil, l.final
	}
	if a.err != nil {
		a.err = l.link.named(a.err)
		l.failed(a.err)
	} else {
		l.current, l.since, l.last, l.next = a.conn, time.Now(), nil, time.Time{}
	}
	l.mu.Unlock()
	if changed := (*HostKeyError)(nil); errors.As(a.err, &changed) {
		l.link.hostKeyChanged(changed, a.err)
	}
	close(a.done)
	if a.conn == nil {
		return
	}
	began := time.Now()
	a.conn.watch() // until it ends
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current = nil
	if time.Since(began) > settled {
		l.failures = 0
	}
	l.failed(l.link.named(a.conn.err()))
}

// failed plans the next attempt. Only the first failure after a time without any is logged:
// the server's state has it from then on. l.mu is held.
func (l *line) failed(err error) {
	if l.final != nil {
		return
	}
	if changed := (*HostKeyError)(nil); l.failures == 0 && !errors.As(err, &changed) {
		l.link.s.Log.Warn("the connection to a server failed: it is tried again", "server", l.link.s.Name, "error", err)
	}
	l.failures++
	l.last, l.since = err, time.Now()
	l.next = l.since.Add(backoff(l.failures, l.link.s.MinBackoff, l.link.s.MaxBackoff))
}

// backoff returns the pause after some failures in a row. Half of it is random, so that
// servers that were lost together are not connected together.
func backoff(failures int, least, most time.Duration) time.Duration {
	d := least << min(failures-1, 20)
	if d <= 0 || d > most {
		d = most
	}
	return d/2 + rand.N(d/2+1) //nolint:gosec // a pause is no secret
}

// pause returns how long the next attempt waits.
func (l *line) pause() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Until(l.next)
}

// hostKeyChanged ends everything with the server.
func (l *Link) hostKeyChanged(changed *HostKeyError, err error) {
	if !l.stop(err) {
		return
	}
	l.s.Log.Error("the host key of a server has changed: nothing is done with the server until its operator has confirmed the new one", "server", l.s.Name, "error", err)
	if l.s.HostKeyChanged != nil {
		l.s.HostKeyChanged(changed)
	}
}

// close ends the connection for good. It reports whether nothing else had before.
func (l *line) close(err error) bool {
	l.mu.Lock()
	first := l.final == nil
	if first {
		l.final, l.last = err, err
	}
	c := l.current
	l.mu.Unlock()
	if c != nil {
		c.end(err)
	}
	return first
}

func (l *line) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := l.get(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := c.open(ctx, network, address)
	if err != nil {
		return nil, l.link.named(err)
	}
	return conn, nil
}

func (l *line) state() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := State{Since: l.since, LastError: l.last, NextTry: l.next}
	if l.final != nil {
		s.NextTry = time.Time{}
	}
	if l.current != nil {
		s.Connected = true
		l.current.mu.Lock()
		s.RoundTrip, s.AnsweredAt, s.Unopened = l.current.roundTrip, l.current.answeredAt, l.current.unopened
		l.current.mu.Unlock()
	}
	return s
}
