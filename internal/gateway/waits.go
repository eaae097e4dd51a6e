package gateway

import (
	"context"
	"sync"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/identity"
)

// What a caller of Connect waits for.
const (
	waitsForRoom = "room" // there is no memory for the gateway
	waitsForWake = "wake"
	waitsForBoot = "boot"
)

// waits knows how many callers wait for the gateways of which agents, and what for.
type waits struct {
	mu     sync.Mutex
	agents map[identity.AgentID]*wait // guarded by mu
}

type wait struct {
	callers int
	reason  string // empty: not known yet
}

func newWaits() *waits { return &waits{agents: map[identity.AgentID]*wait{}} }

// begin adds a caller. It calls end, which reports whether it was the last one.
func (w *waits) begin(id identity.AgentID) (end func() (last bool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.agents[id] == nil {
		w.agents[id] = &wait{}
	}
	w.agents[id].callers++
	return func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		v := w.agents[id]
		if v.callers--; v.callers > 0 {
			return false
		}
		delete(w.agents, id)
		return true
	}
}

// note records what the callers wait for, as the record of the agent says.
func (w *waits) note(a agent.Agent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.agents[a.ID]
	switch {
	case v == nil:
	case a.WaitsForRoom():
		v.reason = waitsForRoom
	case a.IsAsleep():
		v.reason = waitsForWake
	default:
		v.reason = waitsForBoot
	}
}

// WaitsFor returns what the callers of Connect wait for: room, wake or boot; empty: nobody waits, or
// it is not known yet.
func (m *Manager) WaitsFor(id identity.AgentID) string {
	m.waits.mu.Lock()
	defer m.waits.mu.Unlock()
	if v := m.waits.agents[id]; v != nil {
		return v.reason
	}
	return ""
}

// stopWaiting ends the wait of a caller that has no gateway in the end. The agent need not wake if
// it was the last one.
func (m *Manager) stopWaiting(ctx context.Context, id identity.AgentID, end func() (last bool)) {
	if !end() {
		return
	}
	if err := m.store.WithdrawWake(context.WithoutCancel(ctx), id); err != nil { // it wakes for nobody then
		m.log.WarnContext(ctx, "withdrawing the wake of an agent failed", "agent", id, "error", err)
	}
}
