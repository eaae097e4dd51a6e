package gateway

import (
	"context"
	"sync"
	"time"

	"agento.host/agento/internal/identity"
)

// activity knows which agents have turns on this server. A turn goes in through the door of its
// agent, which is closed while the gateway is held, suspended or woken: messages wait there, so that
// none is given to a gateway that is about to end.
type activity struct {
	mu     sync.Mutex
	agents map[identity.AgentID]*use // guarded by mu
}

// use is the use of one gateway.
type use struct {
	open   int           // turns
	last   time.Time     // when the last one ended; zero: none has
	given  time.Time     // when the gateway last got messages of a channel
	life   int           // counts the suspends
	closed chan struct{} // not nil while the door is closed; closed when it opens
}

func newActivity() *activity { return &activity{agents: map[identity.AgentID]*use{}} }

// of returns the use of an agent's gateway. The caller holds mu.
func (v *activity) of(id identity.AgentID) *use {
	u := v.agents[id]
	if u == nil {
		u = &use{}
		v.agents[id] = u
	}
	return u
}

// enter waits until the door of an agent is open, and begins a turn. life tells whether the
// gateway is still the one that the caller is connected to. The caller calls leave.
func (v *activity) enter(ctx context.Context, id identity.AgentID) (life int, leave func(), err error) {
	u, err := v.lockOpen(ctx, id)
	if err != nil {
		return 0, nil, err
	}
	defer v.mu.Unlock()
	u.open++
	return u.life, sync.OnceFunc(func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		u.open--
		u.last = time.Now()
	}), nil
}

// deliver waits until the door of an agent is open, and lets messages of a channel in: the door stays
// open until the gateway has begun with them, and can tell.
func (v *activity) deliver(ctx context.Context, id identity.AgentID) error {
	u, err := v.lockOpen(ctx, id)
	if err != nil {
		return err
	}
	defer v.mu.Unlock()
	u.given = time.Now()
	u.last = u.given
	return nil
}

// used takes note of a sign of an agent that has no turn of this server.
func (v *activity) used(id identity.AgentID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.of(id).last = time.Now()
}

// deliveryTime is how long a gateway has to begin with the messages of a channel that it got.
// Source: it stores them in milliseconds, and waits up to a few seconds for further parts of one.
const deliveryTime = 10 * time.Second

// begins reports whether the gateway may have messages that it has not begun with.
func (u *use) begins() bool { return time.Since(u.given) < deliveryTime }

// lockOpen waits until the door of an agent is open, and returns with mu locked.
func (v *activity) lockOpen(ctx context.Context, id identity.AgentID) (*use, error) {
	for {
		v.mu.Lock()
		u := v.of(id)
		if u.closed == nil {
			return u, nil
		}
		opened := u.closed
		v.mu.Unlock()
		select {
		case <-opened:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// life returns the number of an agent's present life.
func (v *activity) life(id identity.AgentID) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	if u := v.agents[id]; u != nil {
		return u.life
	}
	return 0
}

// lastUse returns when the last turn of an agent ended, and whether it has one now.
func (v *activity) lastUse(id identity.AgentID) (last time.Time, busy bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if u := v.agents[id]; u != nil {
		return u.last, u.open > 0 || u.closed != nil || u.begins()
	}
	return time.Time{}, false
}

// shut closes the door of an agent, unless it has a turn or begins one. The caller opens it, and
// says whether the gateway was suspended.
func (v *activity) shut(id identity.AgentID) (open func(suspended bool), ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.of(id).begins() {
		return nil, false
	}
	return v.shutIdle(id)
}

// shutIdle is shut for a gateway that does not begin a turn. The caller holds mu.
func (v *activity) shutIdle(id identity.AgentID) (open func(suspended bool), ok bool) {
	u := v.of(id)
	if u.open > 0 || u.closed != nil {
		return nil, false
	}
	u.closed = make(chan struct{})
	return func(suspended bool) {
		v.mu.Lock()
		defer v.mu.Unlock()
		if suspended {
			u.life++
		}
		close(u.closed)
		u.closed = nil
	}, true
}

// forget drops what is known of an agent that is removed.
func (v *activity) forget(id identity.AgentID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if u := v.agents[id]; u != nil && u.open == 0 && u.closed == nil {
		delete(v.agents, id)
	}
}

// awaitShut is shut for a gateway that does not run: a turn that it has ends at once.
func (v *activity) awaitShut(ctx context.Context, id identity.AgentID) (open func(suspended bool), err error) {
	for {
		v.mu.Lock()
		open, ok := v.shutIdle(id)
		v.mu.Unlock()
		if ok {
			return open, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(shutPause):
		}
	}
}

// shutPause is the pause between two tries of awaitShut.
const shutPause = 20 * time.Millisecond
