// Package sshlink is the connection to a server over SSH: one connection that everything
// with the server shares, and a second one for copies, so that a copy holds nothing else
// up. It opens sockets and ports of the server (stream-local and TCP forwarding), and
// never a session or a program. A connection that is lost is noticed within four
// keepalives, and made again.
package sshlink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Settings configure a Link. The durations are for tests: zero is the default.
type Settings struct {
	Name    string // of the server, for errors
	User    string
	Address string // host:port

	// Keys returns the keys to log in with, in the order in which they are tried. It is
	// called for each connection, so that a key that was replaced is used at once.
	Keys func(ctx context.Context) ([]ssh.Signer, error)

	// HostKeys are the keys that the server may have, at least one; see ScanHostKeys. A
	// kind of key that is not among them is never asked for.
	HostKeys []ssh.PublicKey

	// LoggedIn is called after each login, with the key that the server has accepted. May be nil.
	LoggedIn func(used ssh.PublicKey)

	// HostKeyChanged is called once, when the server has shown another host key than it may
	// have. Nothing is done with the server from then on. May be nil.
	HostKeyChanged func(*HostKeyError)

	Log *slog.Logger // nil: none

	ConnectTimeout   time.Duration // of the TCP connection
	HandshakeTimeout time.Duration // of key exchange and login together
	OpenTimeout      time.Duration // of opening a socket or port of the server
	Keepalive        time.Duration // between two keepalives; three that are not answered end the connection
	MinBackoff       time.Duration // before the first repetition of a failed connection
	MaxBackoff       time.Duration
}

const (
	missedKeepalives = 3 // end a connection
	missedOpens      = 3 // in a row end a connection, although its keepalives are answered
)

// settled is how long a connection must last so that the next failure counts as the first.
const settled = 30 * time.Second

// ErrClosed is the error of a Link that was closed.
var ErrClosed = errors.New("the connection to the server was closed")

// Link is the connection to one server. It connects when it is used, or while Run runs. It
// is safe for concurrent use.
type Link struct {
	s         Settings
	ctx       context.Context // ends with Close
	end       context.CancelFunc
	handshake chan struct{} // has one element while a connection is made: one at a time
	work      sync.WaitGroup

	main, copies line
}

// New returns a link. The caller closes it.
func New(s Settings) *Link {
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{
		{&s.ConnectTimeout, 10 * time.Second}, {&s.HandshakeTimeout, 15 * time.Second}, {&s.OpenTimeout, 10 * time.Second},
		{&s.Keepalive, 5 * time.Second}, {&s.MinBackoff, 250 * time.Millisecond}, {&s.MaxBackoff, 30 * time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.standard
		}
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	ctx, end := context.WithCancel(context.Background())
	l := &Link{s: s, ctx: ctx, end: end, handshake: make(chan struct{}, 1)}
	l.main.link, l.copies.link = l, l
	return l
}

// Close ends both connections, and waits until nothing of the link runs.
func (l *Link) Close() error {
	l.end()
	l.stop(ErrClosed)
	l.work.Wait()
	return nil
}

// stop ends both connections for good. The first reason stays. It reports whether it was the first.
func (l *Link) stop(reason error) bool {
	first := l.main.close(reason)
	l.copies.close(reason)
	return first
}

// Run keeps the server connected until ctx ends or the server's host key has changed.
func (l *Link) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		c, err := l.main.get(ctx)
		if changed := (*HostKeyError)(nil); errors.As(err, &changed) || errors.Is(err, ErrClosed) {
			return nil
		}
		if err == nil {
			select {
			case <-c.done:
			case <-ctx.Done():
			}
			continue
		}
		pause := time.NewTimer(l.main.pause())
		select {
		case <-pause.C:
		case <-ctx.Done():
		case <-l.ctx.Done():
		}
		pause.Stop()
	}
	return nil
}

// Connect returns when the server is connected, without opening anything. Errors:
// *HostKeyError, *LoginError, ErrClosed.
func (l *Link) Connect(ctx context.Context) error {
	_, err := l.main.get(ctx)
	return err
}

// DialContext connects to a socket ("unix") or a port ("tcp") of the server. It waits for
// the connection to the server if one is being made, and fails at once with the last error
// while there is none. Connections have deadlines, and CloseWrite. Errors: *HostKeyError,
// *LoginError, *ForwardingError, *RefusedError, ErrClosed.
func (l *Link) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return l.main.dial(ctx, network, address)
}

// DialCopies is DialContext over the second connection, for copies: whatever they do, they
// do not hold up what uses DialContext.
func (l *Link) DialCopies(ctx context.Context, network, address string) (net.Conn, error) {
	return l.copies.dial(ctx, network, address)
}

// Dialer returns a dialer of one socket of the server, such as that of its container engine.
func (l *Link) Dialer(socket string) func(ctx context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) { return l.DialContext(ctx, "unix", socket) }
}

// publicSockets are sockets that every user of a server with systemd or D-Bus may open.
var publicSockets = []string{"/run/systemd/journal/stdout", "/run/dbus/system_bus_socket"}

// Forwards reports whether the server certainly forwards to sockets. It is for the error of a
// socket that cannot be opened, which does not tell. False: that is not known.
func (l *Link) Forwards(ctx context.Context) bool {
	for _, path := range publicSockets {
		if c, err := l.DialContext(ctx, "unix", path); err == nil {
			_ = c.Close() // nothing was sent
			return true
		}
	}
	return false
}

// State is what is known of a link.
type State struct {
	Connected bool
	Since     time.Time     // of Connected, or of its opposite; zero: it was never tried
	RoundTrip time.Duration // of the last keepalive that was answered
	// AnsweredAt is when the server has answered last.
	AnsweredAt time.Time
	// Unopened is how many sockets in a row the server has not opened in time: it is
	// connected, but the way through it is not.
	Unopened  int
	LastError error     // of the last connection that failed or was lost; nil while connected
	NextTry   time.Time // zero while connected
}

// State returns what is known of the connection. It does not connect.
func (l *Link) State() State { return l.main.state() }

// named adds the server's name to an error.
func (l *Link) named(err error) error {
	if err == nil || l.s.Name == "" {
		return err
	}
	return fmt.Errorf("server %s: %w", l.s.Name, err)
}
