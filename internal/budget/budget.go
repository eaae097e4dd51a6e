// Package budget shares what all tenants use: memory for bodies and answers,
// connections, streams, and turns at slow work. A Budget is a fair semaphore whose
// holders are accounts, keys or agents; Connections limits those of a listener; Timed
// bounds the time of a request whose other end does not move.
//
// golang.org/x/sync/semaphore has neither limits by holder nor turns between holders.
package budget

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"agento.host/agento/internal/fault"
)

// Settings of a Budget. A limit of 0 is none.
type Settings struct {
	Resource string        // what is shared, for the log
	Total    int64         // what all holders have together, at most
	Each     int64         // what one holder has, at most
	Wait     time.Duration // how long Acquire waits for its turn
	// Refusal tells a holder that has all it may have what to do: "This account has too
	// many open requests. Send fewer at once."
	Refusal string
	Log     *slog.Logger // names holders that are refused, each once a minute; nil: nothing is logged
	// Refused is called with Resource for each refusal. Nil means that nobody is told.
	Refused func(resource string)
}

// Budget is a semaphore that is fair to its holders: each has a queue of its own, and the
// queues take turns. It is safe for concurrent use. The nil Budget has no limits.
type Budget struct {
	s        Settings
	refusals refusalLog

	mu      sync.Mutex
	used    int64              // guarded by mu
	holders map[string]*holder // guarded by mu; those that have something or wait
	waiting []*holder          // guarded by mu; those that wait, the next first
}

type holder struct {
	name  string
	used  int64
	queue []*waiter
}

type waiter struct {
	n     int64
	ready chan struct{} // closed when it has got n
}

// New returns a budget of which nothing is used.
func New(s Settings) *Budget {
	return &Budget{s: s, refusals: newRefusalLog(s.Log, s.Refused), holders: map[string]*holder{}}
}

// Acquire takes n for a holder, waiting for its turn. More than the holder may ever have
// counts as all of it. The caller calls release, which may be repeated, when it needs n no
// more.
// Errors: ctx's. Faults: RateLimited, if the holder has all it may have; Unavailable, if
// all holders together have.
func (b *Budget) Acquire(ctx context.Context, name string, n int64) (release func(), err error) {
	if b == nil || n <= 0 {
		return func() {}, nil
	}
	for _, limit := range []int64{b.s.Each, b.s.Total} {
		if limit > 0 {
			n = min(n, limit)
		}
	}
	w := &waiter{n: n, ready: make(chan struct{})}
	b.enqueue(name, w)
	if err := b.await(ctx, w); err != nil {
		if refused := b.giveUp(name, w, err); refused != nil {
			return nil, refused
		}
	}
	return sync.OnceFunc(func() { b.release(name, n) }), nil
}

// errRefused is the error of a waiter whose turn has not come in time.
var errRefused = errors.New("the budget is used up")

// await returns when it is the waiter's turn. Errors: ctx's; errRefused.
func (b *Budget) await(ctx context.Context, w *waiter) error {
	select {
	case <-w.ready:
		return nil
	default:
	}
	if b.s.Wait <= 0 {
		return errRefused
	}
	timer := time.NewTimer(b.s.Wait)
	defer timer.Stop()
	select {
	case <-w.ready:
		return nil
	case <-timer.C:
		return errRefused
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *Budget) enqueue(name string, w *waiter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.holders[name]
	if h == nil {
		h = &holder{name: name}
		b.holders[name] = h
	}
	if h.queue = append(h.queue, w); len(h.queue) == 1 {
		b.waiting = append(b.waiting, h)
	}
	b.grantLocked()
}

// grantLocked gives the holders that wait what is free, one after the other. A holder that has
// all it may have is passed over; one for which too little is free keeps its turn, so
// that many small takers cannot starve a large one.
func (b *Budget) grantLocked() {
	for i := 0; i < len(b.waiting); {
		h := b.waiting[i]
		w := h.queue[0]
		if b.isFullLocked(h, w.n) {
			i++
			continue
		}
		if b.s.Total > 0 && b.used+w.n > b.s.Total {
			return
		}
		b.used += w.n
		h.used += w.n
		close(w.ready)
		h.queue = h.queue[1:]
		b.waiting = slices.Delete(b.waiting, i, i+1)
		if len(h.queue) > 0 {
			b.waiting = append(b.waiting, h) // behind the others
		}
	}
}

// isFullLocked reports whether n is more than a holder may take now.
func (b *Budget) isFullLocked(h *holder, n int64) bool {
	return b.s.Each > 0 && h.used+n > b.s.Each
}

// giveUp removes a waiter and returns the reason for which it got nothing, or nil if it
// has got its share meanwhile.
func (b *Budget) giveUp(name string, w *waiter, reason error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.holders[name]
	i := -1
	if h != nil {
		i = slices.Index(h.queue, w)
	}
	if i < 0 {
		if errors.Is(reason, errRefused) {
			return nil
		}
		b.releaseLocked(name, w.n) // ctx has ended: the caller does not go on
		return reason
	}
	own, used := b.isFullLocked(h, w.n), h.used
	if h.queue = slices.Delete(h.queue, i, i+1); len(h.queue) == 0 {
		b.waiting = slices.DeleteFunc(b.waiting, func(o *holder) bool { return o == h })
	}
	b.forgetLocked(h)
	b.grantLocked() // it may have kept its turn from the others
	switch {
	case !errors.Is(reason, errRefused):
		return reason
	case own:
		b.refusals.note("a holder has used its budget", b.s.Resource, name, used)
		return retryLater(fault.RateLimited, b.s.Refusal)
	}
	b.refusals.note("a budget is used up", b.s.Resource, name, b.used)
	return retryLater(fault.Unavailable, "The server is busy.")
}

func (b *Budget) release(name string, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.releaseLocked(name, n)
}

func (b *Budget) releaseLocked(name string, n int64) {
	h := b.holders[name]
	h.used -= n
	b.used -= n
	b.forgetLocked(h)
	b.grantLocked()
}

// forgetLocked forgets a holder that has nothing and does not wait.
func (b *Budget) forgetLocked(h *holder) {
	if h.used == 0 && len(h.queue) == 0 {
		delete(b.holders, h.name)
	}
}

// retryAfter is the Retry-After of what is refused.
const retryAfter = 5 * time.Second

// retryLater returns a fault that tells when to try again.
func retryLater(code fault.Code, sentence string) *fault.Fault {
	f := fault.New(code, "%s Try again in %d s.", sentence, int(retryAfter.Seconds()))
	f.RetryAfter = retryAfter
	return f
}
