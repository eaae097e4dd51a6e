package agent

import (
	"maps"
	"sync"
)

// notes collects what is to be written, the last word on each agent. An agent
// whose last word is what was written before costs nothing.
type notes struct {
	mu      sync.Mutex
	pending map[string]note // guarded by mu
	known   map[string]note // what was handed out last; guarded by mu
	news    chan struct{}
}

func newNotes() *notes {
	return &notes{pending: map[string]note{}, known: map[string]note{}, news: make(chan struct{}, 1)}
}

func (n *notes) put(id string, v note) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if before, heard := n.known[id]; heard && before == v {
		delete(n.pending, id)
		return
	}
	n.pending[id] = v
	select {
	case n.news <- struct{}{}:
	default:
	}
}

func (n *notes) take() map[string]note {
	n.mu.Lock()
	defer n.mu.Unlock()
	taken := n.pending
	n.pending = map[string]note{}
	maps.Copy(n.known, taken)
	return taken
}
