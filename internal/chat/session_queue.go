package chat

import (
	"context"
	"sync"

	"agento.host/agento/internal/identity"
)

// sessionQueue runs the turns of each session one at a time, in the order in which
// they arrive.
type sessionQueue struct {
	mu   sync.Mutex
	last map[identity.SessionID]chan struct{} // closed when the session's last turn ends; guarded by mu
}

func newSessionQueue() *sessionQueue {
	return &sessionQueue{last: map[identity.SessionID]chan struct{}{}}
}

// wait waits for the earlier turns of the session and returns the function that ends
// this one. If ctx ends first, later turns still wait for the earlier ones.
func (q *sessionQueue) wait(ctx context.Context, session identity.SessionID) (func(), error) {
	this := make(chan struct{})
	q.mu.Lock()
	previous := q.last[session]
	q.last[session] = this
	q.mu.Unlock()
	done := func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.last[session] == this {
			delete(q.last, session)
		}
		close(this)
	}
	if previous == nil {
		return done, nil
	}
	select {
	case <-previous:
		return done, nil
	case <-ctx.Done():
		go func() { // ends with the previous turn
			<-previous
			done()
		}()
		return nil, ctx.Err()
	}
}
