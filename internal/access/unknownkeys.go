package access

import (
	"hash/maphash"
	"net/netip"
	"sync"
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

// unknownKeyLimiter counts unknown keys by client address.
type unknownKeyLimiter struct {
	start  time.Time
	seed   maphash.Seed
	shards [addressShards]addressShard
}

// addressShard holds the addresses of one hash.
type addressShard struct {
	mu       sync.Mutex
	windows  map[netip.Addr]*window // guarded by mu
	overflow *window                // shared by the addresses beyond maxAddresses; guarded by mu
}

func newUnknownKeyLimiter() *unknownKeyLimiter {
	l := &unknownKeyLimiter{start: time.Now(), seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].windows = map[netip.Addr]*window{}
		l.shards[i].overflow = newWindow(maxFailures)
	}
	return l
}

// count counts an unknown key that an address has presented.
// Faults: RateLimited, if the address has presented too many within the Window; then the
// key is not counted.
func (l *unknownKeyLimiter) count(addr netip.Addr) error {
	addr = clientNetwork(addr)
	shard := &l.shards[maphash.Comparable(l.seed, addr)%addressShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	at := int64(time.Since(l.start))
	w := shard.windowLocked(addr, at)
	w.expire(at)
	if w.count < maxFailures {
		w.add(at)
		return nil
	}
	return rateLimited(time.Duration(w.oldest()+int64(Window)-at),
		"Too many requests with unknown API keys came from this address. Check the key")
}

// state returns what an address may still present, without counting anything.
func (l *unknownKeyLimiter) state(addr netip.Addr) Decision {
	addr = clientNetwork(addr)
	shard := &l.shards[maphash.Comparable(l.seed, addr)%addressShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	now := time.Now()
	at := int64(now.Sub(l.start))
	w := shard.windows[addr]
	if w == nil && len(shard.windows) >= maxAddresses {
		w = shard.overflow
	}
	d := Decision{OK: true, Limit: maxFailures, Remaining: maxFailures, Reset: now}
	if w == nil {
		return d
	}
	w.expire(at)
	d.Remaining = maxFailures - w.count
	if w.count > 0 {
		wait := time.Duration(w.oldest() + int64(Window) - at)
		d.Reset = now.Add(wait)
		if d.OK = d.Remaining > 0; !d.OK {
			d.RetryAfter = wait
		}
	}
	return d
}

// windowLocked returns the window of an address, for a caller that holds mu. If the shard is full of addresses that
// failed within the Window, all further addresses share the overflow window: memory
// stays bounded and every failure is counted.
func (s *addressShard) windowLocked(addr netip.Addr, at int64) *window {
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
