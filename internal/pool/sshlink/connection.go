package sshlink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// maxForeign is how many channels the other side may try to open on one connection. A
// server opens none.
const maxForeign = 1000

// connection is one SSH connection. All its queues are read: one without a reader would
// stop the connection, keepalives too.
type connection struct {
	link   *Link
	client ssh.Conn
	raw    net.Conn
	done   chan struct{} // closed when it has ended

	mu         sync.Mutex // guards what follows
	failure    error      // why it was ended
	roundTrip  time.Duration
	answeredAt time.Time
	unopened   int
}

// connect dials, checks the host key and logs in. Each step has a deadline: that of
// ssh.ClientConfig covers only the TCP connection.
func (l *Link) connect(ctx context.Context) (*connection, error) {
	keys, err := l.s.Keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the key to log in with: %w", err)
	}
	if len(l.s.HostKeys) == 0 {
		return nil, errors.New("no host key of the server is known")
	}
	raw, err := dialTCP(ctx, l.s.Address, l.s.ConnectTimeout)
	if err != nil {
		return nil, err
	}
	offered := &offeredKeys{}
	config := &ssh.ClientConfig{
		User: l.s.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(offered.watch(keys)...)},
		HostKeyAlgorithms: algorithmsOf(l.s.HostKeys), HostKeyCallback: pinned{l.s.HostKeys}.check,
		ClientVersion: "SSH-2.0-agento",
	}
	client, channels, requests, err := handshake(ctx, raw, l.s.Address, config, l.s.HandshakeTimeout)
	if err != nil {
		return nil, l.explain(ctx, err, keys)
	}
	c := &connection{link: l, client: client, raw: raw, done: make(chan struct{}), answeredAt: time.Now()}
	l.work.Go(func() { c.refuse(channels) })
	l.work.Go(func() { ssh.DiscardRequests(requests) }) // answers them, too
	if used := offered.last(); l.s.LoggedIn != nil && used != nil {
		l.s.LoggedIn(used)
	}
	return c, nil
}

func dialTCP(ctx context.Context, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be reached: %w", address, err)
	}
	return raw, nil
}

// handshake is ssh.NewClientConn with a deadline for all of it. It closes raw if it fails.
func handshake(ctx context.Context, raw net.Conn, address string, config *ssh.ClientConfig, timeout time.Duration) (ssh.Conn, <-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	if err := raw.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, nil, nil, errors.Join(err, raw.Close())
	}
	client, channels, requests, err := ssh.NewClientConn(raw, address, config)
	if err == nil {
		err = raw.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = raw.Close() // err says why
		if timedOut := net.Error(nil); errors.As(err, &timedOut) && timedOut.Timeout() {
			err = fmt.Errorf("%s accepts connections, but has not finished the SSH handshake within %s: %w", address, timeout, err)
		}
		return nil, nil, nil, err
	}
	return client, channels, requests, nil
}

// refuse refuses the channels that the server opens, at once.
func (c *connection) refuse(channels <-chan ssh.NewChannel) {
	n := 0
	for ch := range channels {
		if n++; n > maxForeign {
			c.end(fmt.Errorf("the server tried to open more than %d channels: it is no usual sshd", maxForeign))
			continue // until the queue is closed
		}
		_ = ch.Reject(ssh.Prohibited, "this client opens channels only") // fails if the connection has ended
	}
}

// end ends the connection. The first reason stays.
func (c *connection) end(reason error) {
	c.mu.Lock()
	if c.failure == nil {
		c.failure = reason
	}
	c.mu.Unlock()
	_ = c.raw.Close() // whatever writes or reads now fails; closing the SSH connection would wait for a writer
}

// err returns why the connection has ended.
func (c *connection) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failure
}

// watch sends keepalives until the connection has ended.
func (c *connection) watch() {
	ended := make(chan error, 1)
	go func() { ended <- c.client.Wait() }()
	answers := make(chan time.Duration, 1)
	asked, missed := false, 0
	ask := func() {
		began := time.Now()
		// Any answer will do: sshd refuses the request, which is how it answers it.
		if _, _, err := c.client.SendRequest("keepalive@openssh.com", true, nil); err == nil {
			answers <- time.Since(began)
		}
	}
	tick := time.NewTicker(c.link.s.Keepalive)
	defer tick.Stop()
	defer close(c.done)
	go ask()
	asked = true
	for {
		select {
		case err := <-ended:
			c.end(fmt.Errorf("the connection was lost: %w", err))
			return
		case d := <-answers:
			asked, missed = false, 0
			c.answered(d)
		case <-tick.C:
			if !asked {
				asked = true
				go ask()
				continue
			}
			// One that is not answered holds up the next one, so it counts again.
			if missed++; missed == missedKeepalives {
				c.end(fmt.Errorf("the server has not answered for %s, although the connection looks alive: packets are lost, or it hangs", time.Duration(missedKeepalives)*c.link.s.Keepalive))
			}
		}
	}
}

func (c *connection) answered(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.roundTrip, c.answeredAt = d, time.Now()
}

// alive reports whether the connection can still send. It does after the last channel ended
// if the server has ended the channel, and does not if the connection was lost: only this
// tells a stream that is whole from one that was cut off.
func (c *connection) alive() bool {
	_, _, err := c.client.SendRequest("keepalive@openssh.com", false, nil)
	return err == nil
}
