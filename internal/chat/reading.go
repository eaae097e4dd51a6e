package chat

import (
	"context"
	"sync"
	"time"

	"agento.host/agento/internal/identity"
)

// readerGrace is how long the turn of a Prompt goes on without a reader. A client repeats its
// request in this time if the connection broke.
const readerGrace = 3 * time.Second

// closingTime is how long an equal request waits for the connection of the one before it to be
// closed: a client that gives up closes it and repeats the request at once, and a proxy between may
// pass the new request on first.
const closingTime = 250 * time.Millisecond

// Reading is a request that reads the turn of a Prompt.
type Reading struct {
	Turn    Turn
	service *Service
	joined  bool // another request has started the turn
}

// Leave ends the reading. If the reader has disconnected, and no other one comes in three seconds,
// the turn is cancelled. Call it once.
func (r *Reading) Leave(disconnected bool) { r.service.readers.leave(r, disconnected) }

// readers are the readers of the turns of prompts that this server has accepted.
type readers struct {
	mu        sync.Mutex
	byTurn    map[identity.TurnID]*readersOfTurn // guarded by mu
	abandoned int                                // how many of byTurn have a grace; guarded by mu
}

// readersOfTurn are guarded by readers.mu.
type readersOfTurn struct {
	request string        // what equal requests have in common
	closed  chan struct{} // closed when the reader that has started the turn leaves

	count  int
	joined int         // how often a reader has come after all had disconnected
	grace  *time.Timer // ends the turn, if it has not ended; nil unless all readers have disconnected
	ending bool        // the turn is being cancelled
}

func newReaders() *readers { return &readers{byTurn: map[identity.TurnID]*readersOfTurn{}} }

// begin returns the reading of the request that has started a turn.
func (a *readers) begin(s *Service, t Turn, request string) *Reading {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.byTurn[t.ID] = &readersOfTurn{request: request, closed: make(chan struct{}), count: 1}
	return &Reading{Turn: t, service: s}
}

// awaitClosing waits for a moment if a request that is equal is being answered: its client may have
// given up.
func (a *readers) awaitClosing(ctx context.Context, request string) {
	limited, cancel := context.WithTimeout(ctx, closingTime)
	defer cancel()
	for _, closed := range a.open(request) {
		select {
		case <-closed:
			return
		case <-limited.Done():
			return
		}
	}
}

// open returns what is closed when the readers leave that have started turns with a request.
func (a *readers) open(request string) (open []<-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, of := range a.byTurn {
		if of.request == request && of.count > 0 {
			open = append(open, of.closed)
		}
	}
	return open
}

// left reports whether all readers of a turn have just disconnected.
func (a *readers) left(id identity.TurnID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	of := a.byTurn[id]
	return of != nil && of.grace != nil && !of.ending
}

// anyLeft reports whether all readers of some turn have just disconnected.
func (a *readers) anyLeft() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.abandoned > 0
}

// join returns a reading of a turn that another request has started. It returns nil if the turn
// is being cancelled and, unless the client says that it repeats a request, if not all readers have
// just disconnected.
func (a *readers) join(s *Service, t Turn, said bool) *Reading {
	a.mu.Lock()
	defer a.mu.Unlock()
	of := a.byTurn[t.ID]
	switch {
	case of == nil && !said, of != nil && (of.ending || of.grace == nil && !said):
		return nil
	case of == nil:
		of = &readersOfTurn{closed: make(chan struct{})}
		a.byTurn[t.ID] = of
	case of.grace != nil:
		of.grace.Stop()
		of.grace = nil
		of.joined++
		a.abandoned--
	}
	of.count++
	return &Reading{Turn: t, service: s, joined: true}
}

func (a *readers) leave(r *Reading, disconnected bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	of := a.byTurn[r.Turn.ID]
	if !r.joined {
		close(of.closed)
	}
	if of.count--; of.count > 0 {
		return
	}
	if !disconnected {
		delete(a.byTurn, r.Turn.ID)
		return
	}
	a.abandoned++
	joined := of.joined
	of.grace = time.AfterFunc(readerGrace, func() { a.end(r, of, joined) })
}

// end cancels a turn that nobody has joined since it had been joined so often.
func (a *readers) end(r *Reading, of *readersOfTurn, joined int) {
	a.mu.Lock()
	if of.joined != joined {
		a.mu.Unlock()
		return
	}
	of.ending = true
	a.mu.Unlock()
	_, _ = r.service.cancel(context.Background(), r.Turn) // nobody waits for the result
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.byTurn, r.Turn.ID)
	a.abandoned--
}
