package access

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

func TestRequestOverTheLimitIsAllowedWhenTheOldestExpires(t *testing.T) {
	l := NewLimiter()
	start := time.Now()
	for i := range 120 {
		d := l.Allow("key", 120, start.Add(time.Duration(i)*100*time.Millisecond))
		if !d.OK || d.Remaining != 119-i || d.Limit != 120 || !d.Reset.Equal(start.Add(Window)) || d.RetryAfter != 0 || d.Err() != nil {
			t.Fatalf("%d: %+v", i, d)
		}
	}
	d := l.Allow("key", 120, start.Add(12500*time.Millisecond))
	if d.OK || d.Remaining != 0 || d.RetryAfter != 47500*time.Millisecond || d.RetryAfterSeconds() != 48 {
		t.Fatalf("%+v", d)
	}
	if f := wantFault(t, d.Err(), fault.RateLimited); f.RetryAfter != 48*time.Second {
		t.Error(f.RetryAfter)
	}
	if d := l.Allow("key", 120, start.Add(Window-1)); d.OK {
		t.Error("allowed a nanosecond early")
	}
	if d := l.Allow("key", 120, start.Add(Window)); !d.OK || d.Remaining != 0 || !d.Reset.Equal(start.Add(Window+100*time.Millisecond)) {
		t.Errorf("%+v", d)
	}
	if d := l.Allow("key", 120, start.Add(Window)); d.OK {
		t.Error("one expired and two were allowed")
	}
	if d := l.Allow("other", 120, start.Add(Window)); !d.OK || d.Remaining != 119 {
		t.Errorf("another key: %+v", d)
	}
}

// Limits above maxExact take no memory in proportion, let exactly as many requests through,
// and never more in a Window.
func TestHighLimitsAreCountedInBoundedMemory(t *testing.T) {
	for _, limit := range []int{maxExact, maxExact + 1, 10_000, MaxRateLimit} {
		l, at := NewLimiter(), time.Now()
		start, allowed := at, 0
		for i := range limit + 100 {
			at = start.Add(time.Duration(i) * 40 * time.Second / time.Duration(limit))
			d := l.Allow("key", limit, at)
			if d.OK {
				allowed++
			}
			if d.OK != (i < limit) || d.Remaining != max(limit-i-1, 0) || d.Limit != limit {
				t.Fatalf("limit %d, request %d: %+v", limit, i, d)
			}
		}
		if allowed != limit {
			t.Errorf("limit %d: %d were allowed", limit, allowed)
		}
		w := l.windowOf("key")
		if size := cap(w.ring) * int(unsafe.Sizeof(entry{})); size > 17<<10 {
			t.Errorf("limit %d: %d bytes", limit, size)
		}
		refused := l.Allow("key", limit, at)
		if refused.OK || refused.RetryAfter <= 0 || refused.RetryAfter > Window {
			t.Errorf("limit %d: %+v", limit, refused)
		}
		if d := l.Allow("key", limit, at.Add(refused.RetryAfter-1)); d.OK {
			t.Errorf("limit %d: allowed before its time", limit)
		}
		if d := l.Allow("key", limit, at.Add(refused.RetryAfter)); !d.OK {
			t.Errorf("limit %d: not allowed at its time: %+v", limit, d)
		}
		if d := l.Allow("key", limit, at.Add(2*Window)); d.Remaining != limit-1 {
			t.Errorf("limit %d: %+v", limit, d)
		}
	}
}

// Requests that share an entry expire with the last of them.
func TestNoPeriodHasMoreRequestsThanAHighLimit(t *testing.T) {
	const limit = 2000
	r := rand.New(rand.NewPCG(1, 1))
	l, at := NewLimiter(), time.Now()
	var allowed []time.Time
	for range 60_000 {
		at = at.Add(time.Duration(r.Int64N(int64(6 * time.Millisecond))))
		if l.Allow("key", limit, at).OK {
			allowed = append(allowed, at)
		}
	}
	for i := range allowed[:len(allowed)-limit] {
		if gap := allowed[i+limit].Sub(allowed[i]); gap < Window {
			t.Fatalf("%d requests in %v", limit+1, gap)
		}
	}
	if len(allowed) < 2*limit {
		t.Errorf("only %d were allowed", len(allowed))
	}
}

// A limit that changes keeps what was counted.
func TestLimitChangesBetweenExactAndShared(t *testing.T) {
	l, at := NewLimiter(), time.Now()
	for range 50 {
		l.Allow("key", 100, at)
	}
	for range 50 {
		l.Allow("key", MaxRateLimit, at.Add(time.Second))
	}
	if d := l.Allow("key", 100, at.Add(time.Second)); d.OK || d.RetryAfter != Window-time.Second {
		t.Errorf("%+v", d)
	}
	if d := l.Allow("key", 101, at.Add(time.Second)); !d.OK || d.Remaining != 0 {
		t.Errorf("%+v", d)
	}
	if d := l.Allow("key", 60, at.Add(Window)); !d.OK || d.Remaining != 8 {
		t.Errorf("%+v", d)
	}
}

func TestUnlimitedCountsNothing(t *testing.T) {
	l, at := NewLimiter(), time.Now()
	for range 1000 {
		if d := l.Allow("key", Unlimited, at); !d.OK || d.Limit != Unlimited || d.Remaining != Unlimited || !d.Reset.Equal(at) {
			t.Fatalf("%+v", d)
		}
	}
	if l.size() != 0 {
		t.Error("an unlimited key takes memory")
	}
}

func (l *Limiter) windowOf(key identity.KeyID) *window {
	return l.shards[maphash.String(l.seed, string(key))%limiterShards].windows[key]
}

func TestHeadersAreRoundedUp(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	if got := (Decision{Reset: at}).ResetUnix(); got != 1_700_000_000 {
		t.Error(got)
	}
	if got := (Decision{Reset: at.Add(1)}).ResetUnix(); got != 1_700_000_001 {
		t.Error(got)
	}
	for wait, want := range map[time.Duration]int64{1: 1, time.Second: 1, time.Second + 1: 2, Window: 60} {
		if got := (Decision{RetryAfter: wait}).RetryAfterSeconds(); got != want {
			t.Errorf("%v: %d", wait, got)
		}
	}
}

func TestLimitsAreClamped(t *testing.T) {
	l := NewLimiter()
	if d := l.Allow("none", 0, time.Now()); !d.OK || d.Limit != 1 {
		t.Errorf("%+v", d)
	}
	if d := l.Allow("huge", 1<<40, time.Now()); !d.OK || d.Limit != MaxRateLimit {
		t.Errorf("%+v", d)
	}
}

// model is a simple limiter that keeps every time.
type model map[string][]time.Time

func (m model) allow(key string, limit int, now time.Time) Decision {
	in := slices.DeleteFunc(m[key], func(at time.Time) bool { return now.Sub(at) >= Window })
	ok := len(in) < limit
	if ok {
		in = append(in, now)
	}
	m[key] = in
	d := Decision{OK: ok, Limit: limit, Remaining: max(0, limit-len(in))}
	d.Reset = in[max(0, len(in)-limit)].Add(Window)
	if !ok {
		d.RetryAfter = d.Reset.Sub(now)
	}
	return d
}

func TestLimiterAgreesWithASimpleModel(t *testing.T) {
	steps := []time.Duration{0, 1, time.Millisecond, 700 * time.Millisecond, time.Second, 9 * time.Second, Window - 1, Window, Window + 1, 3 * Window}
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		l, m := NewLimiter(), model{}
		now := l.start.Add(time.Duration(r.Int64N(int64(Window))))
		limits := []int{1 + r.IntN(3), 5, 1 + r.IntN(40)}
		for i := range 3000 {
			if r.IntN(4) == 0 {
				now = now.Add(steps[min(r.IntN(len(steps)), r.IntN(len(steps)))])
			}
			if r.IntN(200) == 0 {
				limits[r.IntN(len(limits))] = 1 + r.IntN(40)
			}
			n := r.IntN(len(limits))
			key := fmt.Sprint("key", n)
			got, want := l.Allow(identity.KeyID(key), limits[n], now), m.allow(key, limits[n], now)
			if got != want {
				t.Fatalf("seed %d, request %d:\n got %+v\nwant %+v", seed, i, got, want)
			}
		}
	}
}

func TestNoPeriodHasMoreRequestsThanTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter()
		var mu sync.Mutex
		var allowed []time.Time
		var all sync.WaitGroup
		for worker := range 8 {
			all.Go(func() {
				r := rand.New(rand.NewPCG(uint64(worker), 2))
				for range 500 {
					time.Sleep(time.Duration(r.Int64N(int64(2 * time.Second))))
					if at := time.Now(); l.Allow("key", 50, at).OK {
						mu.Lock()
						allowed = append(allowed, at)
						mu.Unlock()
					}
				}
			})
		}
		all.Wait()
		slices.SortFunc(allowed, time.Time.Compare)
		for i := range allowed[:len(allowed)-50] {
			if gap := allowed[i+50].Sub(allowed[i]); gap < Window {
				t.Fatalf("51 requests in %v", gap)
			}
		}
		if len(allowed) < 400 {
			t.Errorf("only %d were allowed", len(allowed))
		}
	})
}

func TestConcurrentRequestsGetExactlyTheLimit(t *testing.T) {
	l := NewLimiter()
	at := time.Now()
	var allowed atomic.Int64
	var all sync.WaitGroup
	for worker := range 16 {
		all.Go(func() {
			for i := range 200 {
				if l.Allow("key", 120, at).OK {
					allowed.Add(1)
				}
				l.Allow(identity.KeyID(fmt.Sprint("other", worker, i)), 10, at.Add(time.Duration(i)*time.Millisecond))
			}
		})
	}
	all.Wait()
	if allowed.Load() != 120 {
		t.Errorf("%d allowed", allowed.Load())
	}
}

// A request that read the clock earlier but is counted later does not make the other
// one expire earlier.
func TestOutOfOrderTimesDoNotShortenTheWindow(t *testing.T) {
	l := NewLimiter()
	start := time.Now()
	l.Allow("key", 2, start.Add(time.Second))
	l.Allow("key", 2, start)
	d := l.Allow("key", 2, start.Add(Window))
	if d.OK || d.RetryAfter != time.Second {
		t.Errorf("%+v", d)
	}
}

func (l *Limiter) size() int {
	n := 0
	for i := range l.shards {
		l.shards[i].mu.Lock()
		n += len(l.shards[i].windows)
		l.shards[i].mu.Unlock()
	}
	return n
}

func TestIdleKeysAreRemovedAndBusyOnesStay(t *testing.T) {
	l := NewLimiter()
	start := time.Now()
	for i := range 10_000 {
		l.Allow(identity.KeyID(fmt.Sprint("idle", i)), 2, start)
	}
	for s := range 125 {
		l.Allow("busy", 120, start.Add(time.Duration(s)*time.Second))
	}
	if n := l.size(); n != 1 {
		t.Errorf("%d keys kept", n)
	}
	if d := l.Allow("busy", 120, start.Add(124*time.Second)); d.Remaining != 59 {
		t.Errorf("%+v", d)
	}
}

func TestAllowAllocatesNothing(t *testing.T) {
	l := NewLimiter()
	at := time.Now()
	l.Allow("key", 120, at)
	allocs := testing.AllocsPerRun(1000, func() {
		at = at.Add(500 * time.Millisecond)
		if !l.Allow("key", 120, at).OK {
			t.Fatal("refused")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkLimiter(b *testing.B) {
	b.Run("allowed", func(b *testing.B) {
		l := NewLimiter()
		at := time.Now()
		b.ReportAllocs()
		for b.Loop() {
			at = at.Add(Window / 120)
			l.Allow("key_0123456789abcdef01234567", 120, at)
		}
	})
	b.Run("refused", func(b *testing.B) {
		l := NewLimiter()
		at := time.Now()
		b.ReportAllocs()
		for b.Loop() {
			l.Allow("key_0123456789abcdef01234567", 120, at)
		}
	})
	b.Run("10000keys", func(b *testing.B) {
		l := NewLimiter()
		keys := make([]identity.KeyID, 10_000)
		at := time.Now()
		for i := range keys {
			keys[i] = identity.KeyID(newID("key_"))
			l.Allow(keys[i], 120, at)
		}
		var next atomic.Uint32
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			i, at := int(next.Add(5000)), at
			for pb.Next() {
				i++
				at = at.Add(time.Millisecond)
				l.Allow(keys[i%len(keys)], 120, at)
			}
		})
	})
}

// BenchmarkLimiterWithClock also reads the clock, as a request does.
func BenchmarkLimiterWithClock(b *testing.B) {
	l := NewLimiter()
	b.ReportAllocs()
	for b.Loop() {
		l.Allow("key_0123456789abcdef01234567", MaxRateLimit, time.Now())
	}
}
