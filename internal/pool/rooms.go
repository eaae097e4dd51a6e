package pool

import (
	"sync"

	"agento.host/agento/internal/identity"
)

// Rooms keeps which agent has room on which server, so that placements at the same time see
// each other's. An agent has room from Place until Release, whether or not it has been
// started. It is safe for concurrent use.
type Rooms struct {
	mu    sync.Mutex
	taken map[identity.AgentID]room // guarded by mu
	used  map[string]use            // by server, the sums of taken; guarded by mu
}

type room struct {
	server   string
	memory   int64
	promised int64 // bytes of the disk that are not in what the server measures yet
}

type use struct {
	agents           int
	memory, promised int64
}

// NewRooms returns rooms of which none is taken.
func NewRooms() *Rooms { return &Rooms{taken: map[identity.AgentID]room{}, used: map[string]use{}} }

// Place chooses a server for an agent and takes room on it. An agent that has room keeps it if
// it is on a server that can still take the agent; otherwise it gets another. What is used of
// the candidates is filled in. Errors: *NoRoomError; the agent has no room then, unless it had some on
// the server of its home, where its gateway may run.
func (r *Rooms) Place(servers []Candidate, id identity.AgentID, n Need) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	had, ok := r.taken[id]
	keeps := ok && had.server == n.Home
	if ok && n.Home == "" {
		n.Home = had.server
	}
	r.remove(id)
	all := make([]Candidate, len(servers))
	for i, c := range servers {
		u := r.used[c.Name]
		c.UsedAgents, c.UsedMemory = u.agents, u.memory
		if c.Disk >= 0 {
			c.Disk = max(c.Disk-u.promised, 0)
		}
		all[i] = c
	}
	name, err := Choose(all, n)
	switch {
	case err == nil:
		r.add(id, room{name, n.Memory, n.Disk})
	case keeps:
		r.add(id, had)
	}
	return name, err
}

// Take records that an agent has room on a server, as its record says after a restart of ours.
func (r *Rooms) Take(id identity.AgentID, server string, memory int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(id)
	r.add(id, room{server: server, memory: memory})
}

// Started records that the home of an agent is there: it is in what the server measures, and
// not promised on top of that any more.
func (r *Rooms) Started(id identity.AgentID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if had, ok := r.taken[id]; ok {
		r.remove(id)
		had.promised = 0
		r.add(id, had)
	}
}

// Release gives the room of an agent back. It does nothing if the agent has none.
func (r *Rooms) Release(id identity.AgentID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(id)
}

// Used returns what is taken of a server.
func (r *Rooms) Used(server string) (agents int, memory int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used[server].agents, r.used[server].memory
}

// add and remove are called while r.mu is held.
func (r *Rooms) add(id identity.AgentID, t room) {
	r.taken[id] = t
	u := r.used[t.server]
	r.used[t.server] = use{u.agents + 1, u.memory + t.memory, u.promised + t.promised}
}

func (r *Rooms) remove(id identity.AgentID) {
	t, ok := r.taken[id]
	if !ok {
		return
	}
	delete(r.taken, id)
	if u := r.used[t.server]; u.agents > 1 {
		r.used[t.server] = use{u.agents - 1, u.memory - t.memory, u.promised - t.promised}
	} else {
		delete(r.used, t.server)
	}
}
