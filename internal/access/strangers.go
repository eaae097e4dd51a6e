package access

import (
	"context"
	"hash/maphash"
	"net/netip"
	"time"

	"agento.host/agento/internal/fault"
)

const (
	// maxFailures is how many unknown keys one address may present a Window.
	maxFailures = 30
	// strangerStripes times maxAddresses bounds the addresses kept: 16,384, about 6 MB.
	strangerStripes = 64
	maxAddresses    = 256
	// networkBits: whoever has an IPv6 address commonly has its whole /64.
	networkBits = 64
)

// strangers counts unknown keys by the address they came from. Lookups of one
// address take turns, so that no burst slips past the limit while the database
// answers, and a burst with one good key is never taken for an attack.
type strangers struct {
	start   time.Time
	seed    maphash.Seed
	stripes [strangerStripes]stripe
}

// stripe holds the addresses of one hash. Whoever has put into busy owns the rest.
type stripe struct {
	busy    chan struct{}
	windows map[netip.Addr]*window // guarded by busy
	crowd   *window                // guarded by busy
}

// turn is the right to ask the database for one address, until done.
type turn struct {
	stripe *stripe
	window *window
	at     int64
}

func newStrangers() *strangers {
	s := &strangers{start: time.Now(), seed: maphash.MakeSeed()}
	for i := range s.stripes {
		s.stripes[i].busy = make(chan struct{}, 1)
		s.stripes[i].windows = map[netip.Addr]*window{}
		s.stripes[i].crowd = newWindow(maxFailures)
	}
	return s
}

// wait returns when it is this address's turn. The caller ends it with done.
func (s *strangers) wait(ctx context.Context, addr netip.Addr) (turn, error) {
	addr = network(addr)
	p := &s.stripes[maphash.Comparable(s.seed, addr)%strangerStripes]
	select {
	case p.busy <- struct{}{}:
	case <-ctx.Done():
		return turn{}, ctx.Err()
	}
	at := int64(time.Since(s.start))
	w := p.find(addr, at)
	w.leave(at)
	return turn{stripe: p, window: w, at: at}, nil
}

// allowed returns nil while the address has failures left.
// Faults: RateLimited.
func (t turn) allowed() error {
	if t.window.count < maxFailures {
		return nil
	}
	return limited(time.Duration(t.window.oldest()+int64(Window)-t.at),
		"Too many requests with unknown API keys came from this address. Check the key")
}

// failed counts one unknown key.
func (t turn) failed() {
	if t.window.count < maxFailures {
		t.window.add(t.at)
	}
}

func (t turn) done() { <-t.stripe.busy }

// find returns the window of an address. When the stripe is full of addresses
// that failed within the Window, those that come share one: memory stays bounded
// and no count is lost.
func (p *stripe) find(addr netip.Addr, at int64) *window {
	if w := p.windows[addr]; w != nil {
		return w
	}
	if len(p.windows) >= maxAddresses {
		forgetIdle(p.windows, at)
	}
	if len(p.windows) >= maxAddresses {
		return p.crowd
	}
	w := newWindow(maxFailures)
	p.windows[addr] = w
	return w
}

// network is what one client is known by: its IPv4 address, or its IPv6 network.
func network(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		if p, err := addr.Prefix(networkBits); err == nil {
			return p.Addr()
		}
	}
	return addr
}

// limited says how long to wait, in whole seconds, after which it is really over.
func limited(wait time.Duration, why string) error {
	seconds := ceilSeconds(wait)
	f := fault.New(fault.RateLimited, "%s, and try again in %d s.", why, seconds)
	f.RetryAfter = time.Duration(seconds) * time.Second
	return f
}

func ceilSeconds(d time.Duration) int64 {
	return int64((d + time.Second - 1) / time.Second)
}
