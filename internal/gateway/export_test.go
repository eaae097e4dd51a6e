package gateway

import (
	"context"
	"time"

	"agento.host/agento/internal/identity"
)

// LockedHomes returns how many homes are locked or waited for.
func (m *Manager) LockedHomes() int {
	m.homes.mu.Lock()
	defer m.homes.mu.Unlock()
	return len(m.homes.locks)
}

// TryHold is Manager.Hold without waiting for a busy gateway.
func TryHold(ctx context.Context, m *Manager, id identity.AgentID) (release func() (time.Duration, error), err error) {
	return m.tryHold(ctx, id)
}
