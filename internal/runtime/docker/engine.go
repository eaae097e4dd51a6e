package docker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

const (
	// dialTimeout bounds a connect to the engine. Source: 0.1 ms on a socket, a round trip over SSH.
	dialTimeout = 10 * time.Second
	// callTimeout bounds a call that looks at something. Source: 1 to 20 ms; an engine that is
	// loading many containers needs seconds.
	callTimeout = 30 * time.Second
	// changeTimeout bounds a call that creates, starts, ends or removes something. Source: 0.1 to
	// 0.5 s; a disk that is busy needs many seconds.
	changeTimeout = 2 * time.Minute
	// negotiationAge is how old a negotiation of the version may be when a connection is made. It
	// is short because an engine that was upgraded has broken all connections, and not zero
	// because one call can make several.
	negotiationAge = time.Second
)

// engine is the connection to a container engine. It negotiates the version of the API again
// whenever it has connected again, because the engine may be another one then.
type engine struct {
	dialer func(context.Context) (net.Conn, error)

	mu           sync.Mutex     // held while the version is negotiated
	client       *client.Client // guarded by mu
	negotiatedAt time.Time      // guarded by mu

	stale atomic.Bool // the version has to be negotiated before the next call
}

// newEngine returns a connection to the engine at host, or to which dial connects. It connects when
// it is used.
func newEngine(host string, dial func(context.Context) (net.Conn, error)) (*engine, error) {
	e := &engine{dialer: dial}
	e.stale.Store(true)
	if dial != nil {
		return e, nil
	}
	network, address, ok := strings.Cut(host, "://")
	if !ok || address == "" || network != "unix" && network != "tcp" {
		return nil, fmt.Errorf("the address of the container engine is %q: use unix:///path/of/the/socket or tcp://host:port", host)
	}
	e.dialer = func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, network, address) }
	return e, nil
}

func (e *engine) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := e.dialer(ctx)
	if err == nil {
		e.stale.Store(true)
	}
	return conn, err
}

// api returns a client that speaks the engine's version.
func (e *engine) api(ctx context.Context) (*client.Client, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.client != nil && (!e.stale.Load() || time.Since(e.negotiatedAt) < negotiationAge) {
		return e.client, nil
	}
	if e.client != nil {
		e.client.Close() //nolint:errcheck // it only closes idle connections
	}
	// A client is not safe to negotiate again while others use it, so that there is a new one.
	c, err := client.New(client.WithHost("unix:///engine"), client.WithDialContext(e.dial))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := c.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return nil, fmt.Errorf("ask the container engine for its version: %w", err)
	}
	e.client, e.negotiatedAt = c, time.Now()
	e.stale.Store(false)
	return c, nil
}

// versionRefused reports whether the engine has refused the version of a call: it was replaced by
// another one since the version was negotiated.
func versionRefused(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "is too new") || strings.Contains(err.Error(), "is too old")) && strings.Contains(err.Error(), "version")
}

// call makes one call of the engine's API, within a time limit.
func call[T any](ctx context.Context, e *engine, limit time.Duration, do func(context.Context, *client.Client) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return open(ctx, e, do)
}

// open is call without a time limit, for calls whose result is a stream.
func open[T any](ctx context.Context, e *engine, do func(context.Context, *client.Client) (T, error)) (T, error) {
	for again := true; ; again = false {
		c, err := e.api(ctx)
		if err != nil {
			var none T
			return none, err
		}
		result, err := do(ctx, c)
		if !again || !versionRefused(err) {
			return result, err
		}
		e.mu.Lock()
		if e.client == c {
			e.client = nil
		}
		e.mu.Unlock()
	}
}

func isNotFound(err error) bool { return errdefs.IsNotFound(err) }

// isConflict reports whether an object has the name, or is in a state, that prevents the call.
func isConflict(err error) bool { return errdefs.IsConflict(err) }

// ignoreMissing returns nil if an object that should be removed does not exist.
func ignoreMissing(err error) error {
	if isNotFound(err) {
		return nil
	}
	return err
}

// pause waits. It returns ctx's error if ctx ends first.
func pause(ctx context.Context, t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

var errNoAnswer = errors.New("the container engine does not answer")
