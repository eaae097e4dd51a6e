package process

import (
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// newPlace returns a place with a port and a random word. The word distinguishes it
// from other places with the same port.
func newPlace(port int) runtime.Place {
	return runtime.Place(fmt.Sprintf("%d/%s", port, rand.Text()[:8]))
}

func portOf(place runtime.Place) (int, error) {
	text, _, ok := strings.Cut(string(place), "/")
	port, err := strconv.Atoi(text)
	if !ok || err != nil || port < 1 || port > 65535 {
		return 0, fmt.Errorf("not a place of this driver: %q", place)
	}
	return port, nil
}

// portAllocator assigns loopback ports to agents, each port to one agent.
type portAllocator struct {
	from, to int

	mu       sync.Mutex
	agents   map[int]identity.AgentID    // by port; guarded by mu
	ports    map[identity.AgentID]int    // guarded by mu
	verified map[identity.AgentID]string // nonce and inode of the socket that is known to be the gateway's; guarded by mu
}

func newPortAllocator(from, to int) *portAllocator {
	return &portAllocator{
		from: from, to: to, agents: map[int]identity.AgentID{}, ports: map[identity.AgentID]int{}, verified: map[identity.AgentID]string{},
	}
}

// allocate returns a place with a free port. It searches from a random port, so that
// a released port is not used again soon. Errors: runtime.ErrNoCapacity.
func (p *portAllocator) allocate(id identity.AgentID) (runtime.Place, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.to - p.from + 1
	start := mathrand.IntN(n) //nolint:gosec // a port is no secret
	for i := range n {
		port := p.from + (start+i)%n
		if p.agents[port] == "" && isPortFree(port) {
			p.assign(port, id)
			return newPlace(port), nil
		}
	}
	return "", fmt.Errorf("no free port from %d to %d: %w", p.from, p.to, runtime.ErrNoCapacity)
}

func (p *portAllocator) assign(port int, id identity.AgentID) {
	if old, ok := p.ports[id]; ok && p.agents[old] == id {
		delete(p.agents, old)
	}
	p.agents[port], p.ports[id] = id, port
}

// reserve records that an agent already uses a port.
func (p *portAllocator) reserve(port int, id identity.AgentID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.agents[port] == "" {
		p.assign(port, id)
	}
}

// release frees the port of an agent.
func (p *portAllocator) release(id identity.AgentID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if port, ok := p.ports[id]; ok && p.agents[port] == id {
		delete(p.agents, port)
	}
	delete(p.ports, id)
	delete(p.verified, id)
}

func isPortFree(port int) bool {
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	return err == nil && l.Close() == nil
}

var errNotGateway = errors.New("another process listens on the gateway's port")

// verifyListener checks that the socket which listens on a port belongs to a process
// of the gateway. All agents share the loopback network, so one of them could listen
// on a port before the gateway of another does.
func (p *portAllocator) verifyListener(port int, id identity.AgentID, nonce string, pids func() []int) error {
	inode, known := listenerOf(port)
	if !known {
		return nil
	}
	if inode == "" {
		return errNotGateway // the process that accepted the connection has closed its listener
	}
	p.mu.Lock()
	verified := p.verified[id] == nonce+inode
	p.mu.Unlock()
	if verified {
		return nil
	}
	if !haveSocket(pids(), inode) {
		return errNotGateway
	}
	p.mu.Lock()
	p.verified[id] = nonce + inode
	p.mu.Unlock()
	return nil
}
