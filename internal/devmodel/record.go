package devmodel

import (
	"context"
	"fmt"
	"sync"
)

const (
	keepRequests = 100
	keepBytes    = 8 << 20
)

// Call is one request the model got, and what became of it.
type Call struct {
	Request
	Number int // 1 for the first since the model was made

	done      chan struct{}
	cancelled bool // written before done is closed
}

// Done is closed when the answer has ended, whole or not.
func (c *Call) Done() <-chan struct{} { return c.done }

// Cancelled waits for the end of the answer and says whether the caller left
// before it.
func (c *Call) Cancelled(ctx context.Context) (bool, error) {
	select {
	case <-c.done:
		return c.cancelled, nil
	case <-ctx.Done():
		return false, fmt.Errorf("await the end of model call %d: %w", c.Number, ctx.Err())
	}
}

func (c *Call) end(cancelled bool) {
	c.cancelled = cancelled
	close(c.done)
}

// record remembers the latest calls, within bounds.
type record struct {
	maxCalls, maxBytes int

	mu    sync.Mutex
	calls []*Call       // guarded by mu; oldest first
	bytes int           // guarded by mu; sum of the bodies in calls
	count int           // guarded by mu; all calls ever
	more  chan struct{} // guarded by mu; closed at the next call
}

func newRecord(maxCalls, maxBytes int) *record {
	if maxCalls <= 0 {
		maxCalls = keepRequests
	}
	if maxBytes <= 0 {
		maxBytes = keepBytes
	}
	return &record{maxCalls: maxCalls, maxBytes: maxBytes, more: make(chan struct{})}
}

// Requests returns the calls that are still remembered, oldest first.
func (r *record) Requests() []*Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*Call(nil), r.calls...)
}

// Count returns how many requests came since the model was made.
func (r *record) Count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

// Wait returns the n-th request since the model was made, 1 being the first, as
// soon as it comes. It fails if ctx ends before or the request is forgotten.
func (r *record) Wait(ctx context.Context, n int) (*Call, error) {
	call, err := r.WaitFor(ctx, func(c *Call) bool { return c.Number >= n })
	if err != nil {
		return nil, fmt.Errorf("model request %d: %w", n, err)
	}
	if call.Number != n {
		return nil, fmt.Errorf("model request %d is forgotten; %d is the oldest kept", n, call.Number)
	}
	return call, nil
}

// WaitFor returns the first remembered request that matches, as soon as it
// comes. It fails if ctx ends before.
func (r *record) WaitFor(ctx context.Context, match func(*Call) bool) (*Call, error) {
	seen := 0
	for {
		calls, more := r.since(seen)
		for _, c := range calls {
			if match(c) {
				return c, nil
			}
			seen = c.Number
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, fmt.Errorf("await a model request: %w", ctx.Err())
		}
	}
}

// since returns the calls after number n and what is closed at the next one.
func (r *record) since(n int) ([]*Call, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := len(r.calls)
	for i > 0 && r.calls[i-1].Number > n {
		i--
	}
	return append([]*Call(nil), r.calls[i:]...), r.more
}

func (r *record) add(request Request) *Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	call := &Call{Request: request, Number: r.count, done: make(chan struct{})}
	r.calls = append(r.calls, call)
	r.bytes += len(request.Body)
	for len(r.calls) > 1 && (len(r.calls) > r.maxCalls || r.bytes > r.maxBytes) {
		r.bytes -= len(r.calls[0].Body)
		r.calls[0] = nil
		r.calls = r.calls[1:]
	}
	close(r.more)
	r.more = make(chan struct{})
	return call
}
