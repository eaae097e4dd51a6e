package egress

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"agento.host/agento/internal/runtime"
)

const (
	// keepAlive finds hosts that have gone.
	keepAlive = 30 * time.Second
	// outsideBuffer bounds what the kernel keeps of a connection whose reader is slow. It
	// allows 4 MB/s at 50 ms.
	outsideBuffer = 192 << 10
	// insideBuffer is the same towards the agent, where there is no delay. The kernel
	// doubles both.
	insideBuffer = 64 << 10
	// acceptRetry is how long accepting waits after an error, such as that there are no
	// descriptors left.
	acceptRetry = 50 * time.Millisecond
)

// inside is the agent's end of a connection: a runtime.Outgoing, or a *net.TCPConn that the kernel has
// redirected.
type inside interface {
	net.Conn
	CloseWrite() error
}

// flow is one connection of an agent to the outside.
type flow struct {
	a      *attachment
	to     destination
	client inside
	cancel context.CancelFunc // ends the dial

	in, out atomic.Int64 // bytes since takeBytes
	active  atomic.Int64 // when the last byte was transferred, in Unix nanoseconds

	mu     sync.Mutex
	remote *net.TCPConn // nil: not connected; guarded by mu
	ended  bool         // reset was called; guarded by mu
}

// accept serves connections until the listener is closed.
func (a *attachment) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			if a.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			a.warn("accepting an agent's connection failed, retrying", "error", err)
			select {
			case <-time.After(acceptRetry):
				continue
			case <-a.ctx.Done():
				return
			}
		}
		client, ok := c.(inside)
		if !ok {
			_ = c.Close()
			continue
		}
		a.admit(client)
	}
}

// admit serves a connection unless it is refused at once.
func (a *attachment) admit(c inside) {
	d, err := a.whereTo(c)
	if err != nil && refusalOf(err) == nil {
		a.warn("the destination of an agent's connection is not known", "error", err)
		abort(c)
		return
	}
	if err == nil {
		err = a.check(a.currentPolicy(), d)
	}
	f := &flow{a: a, to: d, client: c}
	f.touch(time.Now())
	var dialing context.Context
	dialing, f.cancel = context.WithTimeout(a.ctx, a.m.limits.DialTimeout)
	if err == nil {
		err = a.add(f)
	}
	if err != nil {
		a.refuse(d, refusalOf(err))
		_ = f.answer(err) // the agent has gone
		f.reset()
		return
	}
	a.group.Go(func() { f.serve(dialing) })
}

// whereTo returns where a connection goes. Errors: a refusal, for what is no destination.
func (a *attachment) whereTo(c inside) (destination, error) {
	switch c := c.(type) {
	case runtime.Outgoing:
		return a.named(c.Destination())
	case *net.TCPConn:
		to, err := a.m.original(c)
		if err != nil {
			return destination{}, err
		}
		return a.destinationOf(to)
	}
	return destination{}, errors.New("it is neither redirected nor of a proxy")
}

// answer tells an agent that has named its destination whether the connection is made.
func (f *flow) answer(err error) error {
	o, ok := f.client.(runtime.Outgoing)
	switch {
	case !ok:
		return nil
	case err == nil:
		return o.Accept()
	}
	text := "The connection could not be made."
	if r := refusalOf(err); r != nil {
		text = "The connection is not allowed: " + r.detail + "."
	}
	return o.Refuse(text)
}

// add adds an open connection. The error is a refusal if there are too many.
func (a *attachment) add(f *flow) error {
	a.mu.Lock()
	full := len(a.flows) >= a.m.limits.Connections
	if !full {
		a.flows[f] = struct{}{}
	}
	a.mu.Unlock()
	if full {
		a.hitLimit("open connections", a.m.limits.Connections)
		return &refusal{reason: ByLimit, detail: "the agent has " + strconv.Itoa(a.m.limits.Connections) + " open connections"}
	}
	if a.ctx.Err() != nil { // close has reset the others before
		f.reset()
	}
	return nil
}

// abort closes a connection so that the other side gets a reset at once.
func abort(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

// reset aborts both sides. It may be called several times, at any time.
func (f *flow) reset() {
	f.cancel()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	abort(f.client)
	if f.remote != nil {
		abort(f.remote)
	}
}

// connect makes c the remote side. It reports whether the flow has not been reset.
func (f *flow) connect(c *net.TCPConn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		abort(c)
		return false
	}
	f.remote = c
	return true
}

func (f *flow) touch(now time.Time) { f.active.Store(now.UnixNano()) }

func (f *flow) lastActive() time.Time { return time.Unix(0, f.active.Load()) }

// takeBytes returns what was transferred since the last call.
func (f *flow) takeBytes() Destination {
	return Destination{BytesIn: f.in.Swap(0), BytesOut: f.out.Swap(0), LastAt: f.lastActive().UTC()}
}

// serve dials, without waiting for bytes, and copies until both sides have ended.
func (f *flow) serve(dialing context.Context) {
	a := f.a
	defer a.remove(f)
	remote, err := a.dial(dialing, f.to)
	if err != nil {
		if r := refusalOf(err); r != nil {
			a.refuse(f.to, r)
		} else {
			a.countDestination(f.to, Destination{Failed: 1, LastAt: time.Now().UTC()})
		}
		_ = f.answer(err) // the agent has gone
		f.reset()
		return
	}
	if !f.connect(remote) {
		return
	}
	if err := f.answer(nil); err != nil {
		f.reset()
		return
	}
	now := time.Now()
	f.touch(now)
	a.countDestination(f.to, Destination{Connections: 1, LastAt: now.UTC()})
	f.copyBoth(remote)
}

// remove closes a connection and counts the rest of its bytes.
func (a *attachment) remove(f *flow) {
	f.cancel()
	_ = f.client.Close()
	f.mu.Lock()
	if f.remote != nil {
		_ = f.remote.Close()
	}
	f.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.flows, f)
	if c := f.takeBytes(); c.BytesIn+c.BytesOut > 0 {
		a.counted.addDestination(destinationKey{a.id, f.to.host(), f.to.port}, c)
	}
}

// dial connects to a destination. Errors: a refusal, if the policy or the guard does not
// allow it.
func (a *attachment) dial(ctx context.Context, d destination) (*net.TCPConn, error) {
	p := a.currentPolicy() // it may have changed since the connection was admitted
	if err := a.check(p, d); err != nil {
		return nil, err
	}
	_, listed := p.allows(d)
	guard := a.m.guard(listed)
	addrs, err := a.resolve(ctx, d)
	if err != nil {
		return nil, err
	}
	var allowed []netip.AddrPort
	var refused error
	for _, at := range addrs {
		if err := guard.Check(at); err != nil {
			refused = errors.Join(refused, err)
			continue
		}
		allowed = append(allowed, at)
	}
	if len(allowed) == 0 && refused != nil {
		return nil, refused
	}
	dial := a.m.dial
	if dial == nil {
		dial = guard.DialContext
	}
	return dialFirst(ctx, dial, allowed)
}

// resolve returns the addresses of a destination, IPv4 first.
func (a *attachment) resolve(ctx context.Context, d destination) ([]netip.AddrPort, error) {
	if d.name == "" {
		return []netip.AddrPort{netip.AddrPortFrom(d.addr, d.port)}, nil
	}
	ips, err := a.m.resolver.LookupNetIP(ctx, "ip", d.name+".") // never a name of the machine's own domain
	if err != nil {
		return nil, err
	}
	addrs := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		addrs[i] = netip.AddrPortFrom(ip.Unmap(), d.port)
	}
	slices.SortStableFunc(addrs, func(x, y netip.AddrPort) int { return cmp.Compare(x.Addr().BitLen(), y.Addr().BitLen()) })
	return addrs, nil
}

// minAttempt is how long an address may take to answer before the next one is tried, if
// there is time for that.
const minAttempt = 2 * time.Second

// dialFirst connects to the first address that answers.
func dialFirst(ctx context.Context, dial func(ctx context.Context, network, address string) (net.Conn, error), addrs []netip.AddrPort) (*net.TCPConn, error) {
	failed := errors.New("the name has no address")
	for i, at := range addrs {
		c, err := dialOne(ctx, dial, at, len(addrs)-i)
		if err == nil {
			return c, nil
		}
		failed = err
		if ctx.Err() != nil {
			break
		}
	}
	return nil, failed
}

// dialOne connects to an address, in its share of the time that is left.
func dialOne(ctx context.Context, dial func(ctx context.Context, network, address string) (net.Conn, error), at netip.AddrPort, left int) (*net.TCPConn, error) {
	if end, ok := ctx.Deadline(); ok && left > 1 {
		share := max(time.Until(end)/time.Duration(left), minAttempt)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, share)
		defer cancel()
	}
	c, err := dial(ctx, "tcp", at.String())
	if err != nil {
		return nil, err
	}
	remote, ok := c.(*net.TCPConn)
	if !ok {
		return nil, errors.Join(errors.New("the connection is not TCP"), c.Close())
	}
	return remote, nil
}
