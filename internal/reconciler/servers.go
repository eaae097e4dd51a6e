package reconciler

import (
	"context"
	"errors"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// Pool chooses servers for gateways and keeps room on them. The memory of the machine of this process
// is not its business: the reconciler keeps that itself.
type Pool interface {
	// Place chooses a server for the gateway of an agent, and keeps room for it there until Release.
	// home is the server where the agent's home is, which is the only one then; empty: it has none yet.
	// Errors: one that wraps runtime.ErrNoCapacity.
	Place(ctx context.Context, id identity.AgentID, region, home string, bytes int64) (server string, err error)
	// Take keeps room on a server for a gateway that runs there already.
	Take(id identity.AgentID, server string, bytes int64)
	// Release gives the room of an agent back, if it has some.
	Release(id identity.AgentID)
}

// isHere reports whether the home of an agent is on the machine of this process.
func (r *Reconciler) isHere(a agent.Agent) bool { return a.Server == "" || a.Server == r.server }

// chooseServer waits until a server can take the gateway of an agent, and keeps room for it there, but
// on the machine of this process. It calls onWait with the reason while it waits. Errors: onWait's, ctx's.
func (r *Reconciler) chooseServer(ctx context.Context, id identity.AgentID, region, home string, bytes int64, onWait func(why error) error) (string, error) {
	if r.pool == nil {
		return r.server, nil
	}
	again := time.NewTicker(roomInterval)
	defer again.Stop()
	for {
		server, err := r.pool.Place(ctx, id, region, home, bytes)
		if err == nil || !errors.Is(err, runtime.ErrNoCapacity) {
			return server, err
		}
		if err := onWait(err); err != nil {
			return "", err
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-again.C:
		}
	}
}

// occupy gives room to a gateway that runs already and uses so much memory.
func (r *Reconciler) occupy(a agent.Agent, used int64) {
	if r.isHere(a) {
		r.admission.occupy(a.ID, r.expect(used))
		return
	}
	if r.pool != nil {
		r.pool.Take(a.ID, a.Server, r.expect(used))
	}
}

// leave takes the room of an agent away, which has no gateway any more.
func (r *Reconciler) leave(id identity.AgentID) {
	r.admission.leave(id)
	if r.pool != nil {
		r.pool.Release(id)
	}
}

// slotsOf returns what decides which gateways may boot at the same time on a server.
func (r *Reconciler) slotsOf(server string) *admission {
	if server == "" || server == r.server {
		return r.admission
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.slots[server]
	if m == nil {
		m = newAdmission(0, r.maxBoots, false, func(identity.AgentID) {})
		r.slots[server] = m
	}
	return m
}
