package gateway

// LockedHomes returns how many homes are locked or waited for.
func (m *Manager) LockedHomes() int {
	m.homes.mu.Lock()
	defer m.homes.mu.Unlock()
	return len(m.homes.locks)
}
