package mcp

import (
	"context"
	"sync"
)

// callID names a call of a client: request ids are unique within a session, and the names of
// sessions within a caller.
type callID struct{ session, request string }

// calls are the calls that run, so that other requests of their clients can cancel them.
type calls struct {
	mu      sync.Mutex
	running map[callID]context.CancelCauseFunc // guarded by mu
}

// add adds a call until the returned function is called. A call that has the id of another
// one is not added: it cannot be cancelled.
func (c *calls) add(id callID, cancel context.CancelCauseFunc) (remove func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running[id] != nil {
		return func() {}
	}
	c.running[id] = cancel
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.running, id)
	}
}

// cancel cancels a call, if it runs.
func (c *calls) cancel(id callID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cancel := c.running[id]; cancel != nil {
		cancel(errCancelled)
	}
}

// cancelAll cancels the calls of a session.
func (c *calls) cancelAll(session string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, cancel := range c.running {
		if id.session == session {
			cancel(errCancelled)
		}
	}
}
