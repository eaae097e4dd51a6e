package chat

import (
	"context"
	"sync"
)

// lanes let one turn of a session go at a time, in the order in which they came.
type lanes struct {
	mu   sync.Mutex
	last map[string]chan struct{} // by session: closed when its last turn is over; guarded by mu
}

func newLanes() *lanes { return &lanes{last: map[string]chan struct{}{}} }

// enter waits for the turns before this one and returns the function that ends it.
// If ctx ends first, those behind still wait for those before.
func (l *lanes) enter(ctx context.Context, session string) (func(), error) {
	mine := make(chan struct{})
	l.mu.Lock()
	before := l.last[session]
	l.last[session] = mine
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.last[session] == mine {
			delete(l.last, session)
		}
		close(mine)
	}
	if before == nil {
		return leave, nil
	}
	select {
	case <-before:
		return leave, nil
	case <-ctx.Done():
		go func() { // ends when the turn before does, which its own caller sees to
			<-before
			leave()
		}()
		return nil, ctx.Err()
	}
}
