package access

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

// Window is the time over which requests are counted.
const Window = time.Minute

// limiterShards is a power of two, so that the shard is a mask away.
const limiterShards = 64

// Limiter holds each key to its limit in every Window that one could choose: a
// request counts for exactly one Window from its own moment on. A key costs 8
// bytes for each request of its limit, and nothing once it has been idle for two
// Windows and others call. All calls must read one clock, time.Now; two that come
// a little out of order are taken in the order they come. Safe for concurrent use.
type Limiter struct {
	start  time.Time
	seed   maphash.Seed
	sweep  atomic.Int64 // when the next shard is swept, since start
	turn   atomic.Uint32
	shards [limiterShards]shard
}

type shard struct {
	mu      sync.Mutex
	windows map[string]*window // guarded by mu
	_       [48]byte           // a cache line each
}

// Decision is the answer to one request, and what the caller is told of the rest.
type Decision struct {
	OK         bool
	Limit      int           // requests a Window
	Remaining  int           // requests that would be allowed now, after this one
	Reset      time.Time     // when the oldest counted request leaves, and Remaining grows
	RetryAfter time.Duration // if not OK: until the next request is allowed
}

// NewLimiter makes a limiter that has seen nothing.
func NewLimiter() *Limiter {
	l := &Limiter{start: time.Now(), seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].windows = map[string]*window{}
	}
	return l
}

// Allow counts a request of a key at now, if fewer than limit were counted in the
// Window before. A refused request does not count. A limit outside 1 to
// MaxRateLimit is taken for the nearer of the two.
func (l *Limiter) Allow(keyID string, limit int, now time.Time) Decision {
	limit = min(max(limit, 1), MaxRateLimit)
	t := int64(now.Sub(l.start))
	s := &l.shards[maphash.String(l.seed, keyID)%limiterShards]
	s.mu.Lock()
	ok, count, next := s.take(keyID, limit, t)
	s.mu.Unlock()
	l.forget(t)
	wait := time.Duration(next + int64(Window) - t)
	d := Decision{OK: ok, Limit: limit, Remaining: max(limit-count, 0), Reset: now.Add(wait)}
	if !ok {
		d.RetryAfter = wait
	}
	return d
}

// Err returns nil if the request was allowed.
// Faults: RateLimited.
func (d Decision) Err() error {
	if d.OK {
		return nil
	}
	return limited(d.RetryAfter, "This API key has used up its requests for now. Slow down")
}

// ResetUnix is Reset for the X-RateLimit-Reset header, rounded up: at that second
// the room is really there.
func (d Decision) ResetUnix() int64 {
	s := d.Reset.Unix()
	if d.Reset.Nanosecond() > 0 {
		s++
	}
	return s
}

// RetryAfterSeconds is RetryAfter for the Retry-After header, rounded up.
func (d Decision) RetryAfterSeconds() int64 { return ceilSeconds(d.RetryAfter) }

// take counts a request at t if there is room. It returns how many count now,
// and the time of the one that must leave before Remaining grows.
func (s *shard) take(keyID string, limit int, t int64) (ok bool, count int, next int64) {
	w := s.windows[keyID]
	if w == nil {
		w = newWindow(limit)
		s.windows[keyID] = w
	}
	w.leave(t)
	w.fit(limit)
	if w.count < limit {
		w.add(t)
		ok = true
	}
	return ok, w.count, w.at(w.count - min(w.count, limit))
}

// forget sweeps the shards that are due, each once a Window, so that no request
// waits for a sweep of everything while requests are many.
func (l *Limiter) forget(t int64) {
	const step = int64(Window) / limiterShards
	due := l.sweep.Load()
	if t < due {
		return
	}
	n := (t-due)/step + 1
	if !l.sweep.CompareAndSwap(due, due+n*step) {
		return
	}
	for range min(n, limiterShards) {
		s := &l.shards[l.turn.Add(1)%limiterShards]
		s.mu.Lock()
		forgetIdle(s.windows, t)
		s.mu.Unlock()
	}
}
