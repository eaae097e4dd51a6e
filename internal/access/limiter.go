package access

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"agento.host/agento/internal/identity"
)

// Window is the time over which requests are counted.
const Window = time.Minute

// limiterShards is a power of two, so that a mask selects the shard.
const limiterShards = 64

// Limiter limits the requests of each key in every period of one Window: a request
// counts for exactly one Window from its own time on, or up to 60 ms longer if the limit
// is above maxExact. A key uses 16 bytes for each request of its limit, at most 16 KB, and
// nothing after it was idle for two Windows while other keys were used, or if it is
// Unlimited. All calls must read the same clock, time.Now. Two calls whose times are
// slightly out of order are counted in the order of the calls. It is safe for
// concurrent use.
type Limiter struct {
	start       time.Time
	seed        maphash.Seed
	nextCleanup atomic.Int64 // when the next shard is cleaned up, since start
	lastCleaned atomic.Uint32
	shards      [limiterShards]shard
}

type shard struct {
	mu      sync.Mutex
	windows map[identity.KeyID]*window // guarded by mu
	_       [48]byte                   // each shard has its own cache line
}

// Decision is the result for one request, with the numbers that its response reports.
type Decision struct {
	OK         bool
	Limit      int           // requests per Window
	Remaining  int           // requests that would be allowed now, after this one
	Reset      time.Time     // when the oldest counted request expires and Remaining grows
	RetryAfter time.Duration // if not OK: until the next request is allowed
}

// NewLimiter returns a limiter that has counted no request.
func NewLimiter() *Limiter {
	l := &Limiter{start: time.Now(), seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].windows = map[identity.KeyID]*window{}
	}
	return l
}

// Allow counts a request of a key at now, if fewer than limit were counted in the
// Window before. A refused request does not count. If limit is Unlimited, nothing is counted
// and every request is allowed. Another limit outside 1 to MaxRateLimit is replaced by the
// nearer of the two.
func (l *Limiter) Allow(key identity.KeyID, limit int, now time.Time) Decision {
	if limit == Unlimited {
		return Decision{OK: true, Limit: Unlimited, Remaining: Unlimited, Reset: now}
	}
	limit = min(max(limit, 1), MaxRateLimit)
	t := int64(now.Sub(l.start))
	s := &l.shards[maphash.String(l.seed, string(key))%limiterShards]
	s.mu.Lock()
	ok, count, next := s.allow(key, limit, t)
	s.mu.Unlock()
	l.cleanUp(t)
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
	return rateLimited(d.RetryAfter, "All requests that are allowed in a minute are used up. Slow down")
}

// ResetUnix returns Reset for the X-RateLimit-Reset header. It is rounded up, so that
// the request has expired in that second.
func (d Decision) ResetUnix() int64 {
	s := d.Reset.Unix()
	if d.Reset.Nanosecond() > 0 {
		s++
	}
	return s
}

// RetryAfterSeconds returns RetryAfter for the Retry-After header, rounded up.
func (d Decision) RetryAfterSeconds() int64 { return ceilSeconds(d.RetryAfter) }

// allow counts a request at t if the limit is not reached. It returns how many requests
// count now, and the time of the one that must expire before Remaining grows.
func (s *shard) allow(key identity.KeyID, limit int, t int64) (ok bool, count int, next int64) {
	w := s.windows[key]
	if w == nil {
		w = newWindow(limit)
		s.windows[key] = w
	}
	w.expire(t)
	w.resize(limit)
	if w.count < limit {
		w.add(t)
		ok = true
	}
	return ok, w.count, w.at(w.count - min(w.count, limit))
}

// cleanUp removes the idle keys of the shards that are due. Each shard is due once per
// Window, so that no request waits for the cleanup of all of them while there are many
// requests.
func (l *Limiter) cleanUp(t int64) {
	const interval = int64(Window) / limiterShards
	due := l.nextCleanup.Load()
	if t < due {
		return
	}
	n := (t-due)/interval + 1
	if !l.nextCleanup.CompareAndSwap(due, due+n*interval) {
		return
	}
	for range min(n, limiterShards) {
		s := &l.shards[l.lastCleaned.Add(1)%limiterShards]
		s.mu.Lock()
		removeIdle(s.windows, t)
		s.mu.Unlock()
	}
}
