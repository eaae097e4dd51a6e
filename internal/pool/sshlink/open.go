package sshlink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"
)

// The data of the requests that open a channel: OpenSSH's PROTOCOL, 2.4, and RFC 4254, 7.2.
type (
	streamLocal struct {
		Path     string
		Reserved string
		Zero     uint32
	}
	directTCP struct {
		Host     string
		Port     uint32
		FromHost string
		FromPort uint32
	}
)

// opened is the result of opening a channel.
type opened struct {
	channel  ssh.Channel
	requests <-chan *ssh.Request
	err      error
}

// open connects to a socket or port of the server. A server that does not answer some of
// these requests in a row loses the connection, although it answers keepalives.
func (c *connection) open(ctx context.Context, network, address string) (net.Conn, error) {
	kind, data, err := openRequest(network, address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.link.s.OpenTimeout)
	defer cancel()
	result := make(chan opened, 1)
	go func() {
		var o opened
		o.channel, o.requests, o.err = c.client.OpenChannel(kind, data)
		result <- o
	}()
	select {
	case o := <-result:
		c.opened()
		if o.err != nil {
			return nil, c.explainOpen(o.err, network, address)
		}
		return newConn(c, o, remote{network, address}), nil
	case <-ctx.Done():
		go discard(result)
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, ctx.Err()
		}
		c.notOpened()
		return nil, fmt.Errorf("the server has not opened %s in time: %w", address, ctx.Err())
	}
}

func openRequest(network, address string) (kind string, data []byte, err error) {
	switch network {
	case "unix":
		return "direct-streamlocal@openssh.com", ssh.Marshal(streamLocal{Path: address}), nil
	case "tcp":
		host, text, err := net.SplitHostPort(address)
		if err != nil {
			return "", nil, err
		}
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return "", nil, fmt.Errorf("port of %s: %w", address, err)
		}
		return "direct-tcpip", ssh.Marshal(directTCP{host, uint32(port), "127.0.0.1", 0}), nil
	}
	return "", nil, net.UnknownNetworkError(network)
}

// discard closes a channel that opens too late.
func discard(result <-chan opened) {
	o := <-result
	if o.err != nil {
		return
	}
	go ssh.DiscardRequests(o.requests)
	go func() { _, _ = io.Copy(io.Discard, o.channel.Stderr()) }()
	_ = o.channel.Close() // the connection is lost otherwise, and the channel with it
}

func (c *connection) opened() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unopened, c.answeredAt = 0, time.Now()
}

func (c *connection) notOpened() {
	c.mu.Lock()
	c.unopened++
	n := c.unopened
	c.mu.Unlock()
	if n >= missedOpens {
		c.end(fmt.Errorf("the server has opened nothing for %d requests in a row, although it answers keepalives", n))
	}
}

func (c *connection) explainOpen(err error, network, address string) error {
	refused := (*ssh.OpenChannelError)(nil)
	if !errors.As(err, &refused) {
		if reason := c.err(); reason != nil {
			return reason
		}
		return fmt.Errorf("the connection was lost: %w", err)
	}
	if refused.Reason == ssh.Prohibited || refused.Reason == ssh.UnknownChannelType {
		return &ForwardingError{Network: network, Address: address, Err: err}
	}
	return &RefusedError{Network: network, Address: address, Err: err}
}

// remote is the address of a socket or port of the server.
type remote struct{ network, address string }

// Network implements net.Addr.
func (a remote) Network() string { return a.network }

// String implements net.Addr.
func (a remote) String() string { return a.address }
