package engines

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"agento.host/agento/internal/pool"
	"agento.host/agento/internal/pool/sshlink"
	"agento.host/agento/internal/runtime/docker"
)

// server is a server with its driver.
type server struct {
	pool   *Servers
	record pool.Server // as it was when the entry was made

	opening sync.Mutex         // held while the drivers are made
	driver  *docker.Driver     // nil until it is made, and then never changed; written while opening and Servers.mu are held
	stop    context.CancelFunc // of the driver's regular work; guarded by Servers.mu

	mu       sync.Mutex
	cleared  time.Time // since when the connection exists on which all was ended that should not run; guarded by mu
	clearing *clearing // nil: none goes on; guarded by mu
	failure  string    // that was logged last; guarded by mu

	// clearer is the driver by which it is ended: it connects before the other one may.
	clearer *docker.Driver // used by one clearing at a time
}

// clearing is the end of what a server should not run, for all who wait for it.
type clearing struct {
	done chan struct{}
	err  error
}

// connection returns the link to the server, and since when it is connected. Faults: Unavailable.
func (n *server) connection() (*sshlink.Link, time.Time, error) {
	link, status, ok := n.pool.Links.Of(n.record)
	switch {
	case ok && status.Connected:
		return link, status.Since, nil
	case status.LastError != nil:
		return nil, time.Time{}, unreachable(n.record.Name, status.LastError)
	}
	return nil, time.Time{}, unreachable(n.record.Name, errors.New("it is not connected yet"))
}

// open returns when the server's driver may be used. Faults: Unavailable.
func (s *Servers) open(ctx context.Context, n *server) error {
	_, since, err := n.connection()
	if err != nil {
		return err
	}
	if err := n.clear(ctx, since); err != nil {
		return err
	}
	return n.makeDriver()
}

// isOpen reports whether the driver may be used on the connection that exists since then, or that is
// being found out.
func (n *server) isOpen(since time.Time) bool {
	n.pool.mu.Lock()
	made := n.driver != nil
	n.pool.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.clearing != nil || made && n.cleared.Equal(since)
}

// makeDriver makes the driver of the server, if there is none yet.
func (n *server) makeDriver() error {
	n.opening.Lock()
	defer n.opening.Unlock()
	if n.driver != nil {
		return nil
	}
	d, err := n.newDriver(n.pool.Log.With("server", n.record.Name), n.dial)
	if err != nil {
		return err
	}
	s := n.pool
	s.mu.Lock()
	defer s.mu.Unlock()
	n.driver = d
	if s.run != nil && s.servers[n.record.Name] == n {
		s.run(n)
	}
	return nil
}

func (n *server) newDriver(log *slog.Logger, dial func(context.Context) (net.Conn, error)) (*docker.Driver, error) {
	settings := n.pool.Docker
	// A server that was removed and added again is another one: its agents are not those of the directory.
	settings.Server, settings.Dir = n.record.Name, filepath.Join(n.pool.Docker.Dir, n.record.ID)
	settings.Dial, settings.Log = dial, log
	d, err := docker.New(settings)
	if err != nil {
		return nil, fmt.Errorf("open the driver of the server %s: %w", n.record.Name, err)
	}
	return d, nil
}

// close ends what is done with a server that was removed.
func (n *server) close() {
	n.pool.mu.Lock()
	stop, d := n.stop, n.driver
	n.pool.mu.Unlock()
	if stop != nil {
		stop()
	}
	if d != nil {
		d.Close()
	}
}

// complain logs why the server cannot be used although it is connected, when that has changed.
func (n *server) complain(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	n.mu.Lock()
	changed := n.failure != text
	n.failure = text
	n.mu.Unlock()
	if _, _, lost := n.connection(); changed && err != nil && lost == nil {
		n.pool.Log.Warn("a server is connected, but cannot be used", "server", n.record.Name, "error", err)
	}
}

// dial connects to the server's engine for the driver. A driver lives longer than a connection, and
// must not use the next one before what should not run is ended.
func (n *server) dial(ctx context.Context) (net.Conn, error) {
	link, since, err := n.connection()
	if err != nil {
		return nil, err
	}
	if err := n.clear(ctx, since); err != nil {
		return nil, err
	}
	conn, err := link.DialContext(ctx, "unix", n.record.Socket)
	if err != nil {
		return nil, err
	}
	if _, now, err := n.connection(); err != nil || !now.Equal(since) { // it may be the next connection's
		return nil, errors.Join(unreachable(n.record.Name, errors.New("the connection was lost")), err, conn.Close())
	}
	return conn, nil
}

// dialFirst connects to the server's engine before what should not run is ended.
func (n *server) dialFirst(ctx context.Context) (net.Conn, error) {
	link, _, err := n.connection()
	if err != nil {
		return nil, err
	}
	return link.DialContext(ctx, "unix", n.record.Socket)
}

// clear returns when what the server should not run has ended, on the connection that exists since
// then. Who gives up waiting does not end the attempt. Faults: Unavailable.
func (n *server) clear(ctx context.Context, since time.Time) error {
	for {
		n.mu.Lock()
		if n.cleared.Equal(since) {
			n.mu.Unlock()
			return nil
		}
		c := n.clearing
		if c == nil {
			c = &clearing{done: make(chan struct{})}
			n.clearing = c
			n.pool.work.Go(func() { n.runClearing(c, since) })
		}
		n.mu.Unlock()
		select {
		case <-c.done:
		case <-ctx.Done():
			return n.unknown(ctx.Err())
		}
		if c.err != nil {
			return n.unknown(c.err)
		}
		// That was one of another connection, if it does not count.
		if _, now, err := n.connection(); err != nil {
			return err
		} else if !now.Equal(since) {
			since = now
		}
	}
}

func (n *server) unknown(err error) error {
	return unreachable(n.record.Name, fmt.Errorf("it is connected, but what it runs is not known yet: %w", err))
}

// clearTimeout bounds the look at what a server runs, and its end.
const clearTimeout = 2 * time.Minute

func (n *server) runClearing(c *clearing, since time.Time) {
	ctx, cancel := context.WithTimeout(n.pool.ctx, clearTimeout)
	defer cancel()
	c.err = n.endStale(ctx)
	n.mu.Lock()
	if n.clearing = nil; c.err == nil {
		n.cleared = since
	}
	n.mu.Unlock()
	close(c.done)
	n.pool.mu.Lock()
	d := n.driver
	n.pool.mu.Unlock()
	if d != nil && c.err == nil && d.CheckIsolation() != nil { // which may be because there was no connection
		_ = d.TestIsolation(ctx) // the driver says so
	}
}
