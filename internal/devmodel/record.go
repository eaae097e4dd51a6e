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

// Call is one request to the model and its outcome.
type Call struct {
	Request
	Number int // 1 for the model's first request

	done      chan struct{}
	cancelled bool // written before done is closed
}

// Done returns a channel that is closed when the answer has ended, complete or not.
func (c *Call) Done() <-chan struct{} { return c.done }

// Cancelled waits for the end of the answer and reports whether the caller
// disconnected before it.
func (c *Call) Cancelled(ctx context.Context) (bool, error) {
	select {
	case <-c.done:
		return c.cancelled, nil
	case <-ctx.Done():
		return false, fmt.Errorf("wait for the end of model call %d: %w", c.Number, ctx.Err())
	}
}

func (c *Call) end(cancelled bool) {
	c.cancelled = cancelled
	close(c.done)
}

// callLog keeps the latest calls, within limits.
type callLog struct {
	maxCalls, maxBytes int

	mu    sync.Mutex
	calls []*Call       // guarded by mu; oldest first
	bytes int           // guarded by mu; sum of the bodies in calls
	count int           // guarded by mu; of all calls
	next  chan struct{} // guarded by mu; closed at the next call
}

func newCallLog(maxCalls, maxBytes int) *callLog {
	if maxCalls <= 0 {
		maxCalls = keepRequests
	}
	if maxBytes <= 0 {
		maxBytes = keepBytes
	}
	return &callLog{maxCalls: maxCalls, maxBytes: maxBytes, next: make(chan struct{})}
}

// Requests returns the calls that the log still has, oldest first.
func (l *callLog) Requests() []*Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*Call(nil), l.calls...)
}

// Count returns the number of all requests to the model.
func (l *callLog) Count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// Wait waits for the model's n-th request and returns it; the first is 1.
// Errors: if ctx ends first, or if the log no longer has the request.
func (l *callLog) Wait(ctx context.Context, n int) (*Call, error) {
	call, err := l.WaitFor(ctx, func(c *Call) bool { return c.Number >= n })
	if err != nil {
		return nil, fmt.Errorf("model request %d: %w", n, err)
	}
	if call.Number != n {
		return nil, fmt.Errorf("model request %d is no longer in the log; %d is the oldest", n, call.Number)
	}
	return call, nil
}

// WaitFor returns the first request of the log that matches, and waits for one if
// there is none.
// Errors: if ctx ends first.
func (l *callLog) WaitFor(ctx context.Context, match func(*Call) bool) (*Call, error) {
	seen := 0
	for {
		calls, next := l.since(seen)
		for _, c := range calls {
			if match(c) {
				return c, nil
			}
			seen = c.Number
		}
		select {
		case <-next:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a model request: %w", ctx.Err())
		}
	}
}

// since returns the calls after number n, and a channel that is closed at the next
// call.
func (l *callLog) since(n int) ([]*Call, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := len(l.calls)
	for i > 0 && l.calls[i-1].Number > n {
		i--
	}
	return append([]*Call(nil), l.calls[i:]...), l.next
}

func (l *callLog) add(request Request) *Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	call := &Call{Request: request, Number: l.count, done: make(chan struct{})}
	l.calls = append(l.calls, call)
	l.bytes += len(request.Body)
	for len(l.calls) > 1 && (len(l.calls) > l.maxCalls || l.bytes > l.maxBytes) {
		l.bytes -= len(l.calls[0].Body)
		l.calls[0] = nil
		l.calls = l.calls[1:]
	}
	close(l.next)
	l.next = make(chan struct{})
	return call
}
