package gateway

import (
	"context"
	"sync"

	"agento.host/agento/internal/identity"
)

// homeLocks is one lock for each agent's home: a sync must not overwrite an edit
// that is being absorbed, nor write into a home that is being removed.
type homeLocks struct {
	mu    sync.Mutex
	locks map[identity.AgentID]*homeLock // of the homes that are locked or waited for; guarded by mu
}

type homeLock struct {
	held  chan struct{} // has an element while the lock is held
	users int           // holding or waiting; guarded by homeLocks.mu
}

func newHomeLocks() *homeLocks { return &homeLocks{locks: map[identity.AgentID]*homeLock{}} }

// lock waits for the lock of an agent's home. Errors: ctx's.
func (h *homeLocks) lock(ctx context.Context, id identity.AgentID) (unlock func(), err error) {
	h.mu.Lock()
	l := h.locks[id]
	if l == nil {
		l = &homeLock{held: make(chan struct{}, 1)}
		h.locks[id] = l
	}
	l.users++
	h.mu.Unlock()
	select {
	case l.held <- struct{}{}:
		return func() { <-l.held; h.release(id, l) }, nil
	case <-ctx.Done():
		h.release(id, l)
		return nil, ctx.Err()
	}
}

func (h *homeLocks) release(id identity.AgentID, l *homeLock) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(h.locks, id)
	}
}
