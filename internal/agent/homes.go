package agent

import (
	"context"
	"sync"
)

// homes lets one at a time into each agent's home: a delivery must not write over
// an edit that is just being taken over, nor into a home that is being removed.
type homes struct {
	mu   sync.Mutex
	open map[string]*door // of agents whose home somebody is in; guarded by mu
}

type door struct {
	key   chan struct{} // holds one token
	users int           // inside or waiting; guarded by homes.mu
}

func newHomes() *homes { return &homes{open: map[string]*door{}} }

// enter waits for the home of an agent to be free. Call leave when done with it.
func (h *homes) enter(ctx context.Context, id string) (leave func(), err error) {
	h.mu.Lock()
	d := h.open[id]
	if d == nil {
		d = &door{key: make(chan struct{}, 1)}
		h.open[id] = d
	}
	d.users++
	h.mu.Unlock()
	select {
	case d.key <- struct{}{}:
		return func() { <-d.key; h.done(id, d) }, nil
	case <-ctx.Done():
		h.done(id, d)
		return nil, ctx.Err()
	}
}

func (h *homes) done(id string, d *door) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d.users--; d.users == 0 {
		delete(h.open, id)
	}
}
