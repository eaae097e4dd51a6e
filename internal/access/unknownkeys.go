package access

import (
	"context"
	"hash/maphash"
	"net/netip"
	"time"

	"agento.host/agento/internal/fault"
)

const (
	// maxFailures is how many unknown keys one address may present per Window.
	maxFailures = 30
	// addressShards times maxAddresses bounds the addresses in memory: 16,384, about 6 MB.
	addressShards = 64
	maxAddresses  = 256
	// networkBits: a client with an IPv6 address usually has its whole /64 network.
	networkBits = 64
)

// unknownKeyLimiter counts unknown keys by client address. Requests of one address run
// one after the other: a burst cannot exceed the limit while the database answers, and
// a burst of requests with one valid key is not taken for an attack.
type unknownKeyLimiter struct {
	start  time.Time
	seed   maphash.Seed
	shards [addressShards]addressShard
}

// addressShard holds the addresses of one hash. busy is a mutex that can be waited for
// with a context.
type addressShard struct {
	busy     chan struct{}          // full while a slot is held
	windows  map[netip.Addr]*window // guarded by busy
	overflow *window                // shared by the addresses beyond maxAddresses; guarded by busy
}

// slot is the right to look up one unknown key of an address. Its holder must release
// it.
type slot struct {
	shard  *addressShard
	window *window
	at     int64
}

func newUnknownKeyLimiter() *unknownKeyLimiter {
	l := &unknownKeyLimiter{start: time.Now(), seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].busy = make(chan struct{}, 1)
		l.shards[i].windows = map[netip.Addr]*window{}
		l.shards[i].overflow = newWindow(maxFailures)
	}
	return l
}

// acquire waits until no other request of this address has a slot. The caller releases
// the slot. Errors: that of ctx.
func (l *unknownKeyLimiter) acquire(ctx context.Context, addr netip.Addr) (slot, error) {
	addr = clientNetwork(addr)
	shard := &l.shards[maphash.Comparable(l.seed, addr)%addressShards]
	select {
	case shard.busy <- struct{}{}:
	case <-ctx.Done():
		return slot{}, ctx.Err()
	}
	at := int64(time.Since(l.start))
	w := shard.window(addr, at)
	w.expire(at)
	return slot{shard: shard, window: w, at: at}, nil
}

// check returns nil while the address may present more unknown keys.
// Faults: RateLimited.
func (s slot) check() error {
	if s.window.count < maxFailures {
		return nil
	}
	return rateLimited(time.Duration(s.window.oldest()+int64(Window)-s.at),
		"Too many requests with unknown API keys came from this address. Check the key")
}

// countFailure counts one unknown key.
func (s slot) countFailure() {
	if s.window.count < maxFailures {
		s.window.add(s.at)
	}
}

func (s slot) release() { <-s.shard.busy }

// window returns the window of an address. If the shard is full of addresses that
// failed within the Window, all further addresses share the overflow window: memory
// stays bounded and every failure is counted.
func (s *addressShard) window(addr netip.Addr, at int64) *window {
	if w := s.windows[addr]; w != nil {
		return w
	}
	if len(s.windows) >= maxAddresses {
		removeIdle(s.windows, at)
	}
	if len(s.windows) >= maxAddresses {
		return s.overflow
	}
	w := newWindow(maxFailures)
	s.windows[addr] = w
	return w
}

// clientNetwork returns the address that stands for one client: its IPv4 address, or
// its IPv6 network.
func clientNetwork(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		if p, err := addr.Prefix(networkBits); err == nil {
			return p.Addr()
		}
	}
	return addr
}

// rateLimited returns a RateLimited fault. The wait is rounded up to whole seconds, so
// that a request after that time is allowed.
func rateLimited(wait time.Duration, reason string) error {
	seconds := ceilSeconds(wait)
	f := fault.New(fault.RateLimited, "%s, and try again in %d s.", reason, seconds)
	f.RetryAfter = time.Duration(seconds) * time.Second
	return f
}

func ceilSeconds(d time.Duration) int64 {
	return int64((d + time.Second - 1) / time.Second)
}
