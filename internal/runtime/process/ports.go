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

	"agento.host/agento/internal/runtime"
)

// A place is a port and a word of its own, so that what is noted of one place
// never speaks for another.
func newPlace(port int) string { return fmt.Sprintf("%d/%s", port, rand.Text()[:8]) }

func portOf(place string) (int, error) {
	text, _, ok := strings.Cut(place, "/")
	port, err := strconv.Atoi(text)
	if !ok || err != nil || port < 1 || port > 65535 {
		return 0, fmt.Errorf("not a place of this driver: %q", place)
	}
	return port, nil
}

// portBook hands out loopback ports, no port to two agents.
type portBook struct {
	from, to int

	mu       sync.Mutex
	owner    map[int]string    // guarded by mu
	port     map[string]int    // of an id; guarded by mu
	listener map[string]string // of an id: its start and the socket known to be its own; guarded by mu
}

func newPortBook(from, to int) *portBook {
	return &portBook{from: from, to: to, owner: map[int]string{}, port: map[string]int{}, listener: map[string]string{}}
}

// take chooses a free port. It starts anywhere, so that a port comes back late.
func (b *portBook) take(id string) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.to - b.from + 1
	start := mathrand.IntN(n) //nolint:gosec // a port is no secret
	for i := range n {
		port := b.from + (start+i)%n
		if b.owner[port] == "" && free(port) {
			b.set(port, id)
			return newPlace(port), nil
		}
	}
	return "", fmt.Errorf("no free port from %d to %d: %w", b.from, b.to, runtime.ErrNoRoom)
}

func (b *portBook) set(port int, id string) {
	if old, ok := b.port[id]; ok && b.owner[old] == id {
		delete(b.owner, old)
	}
	b.owner[port], b.port[id] = id, port
}

// keep notes a port that an agent has already.
func (b *portBook) keep(port int, id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.owner[port] == "" {
		b.set(port, id)
	}
}

func (b *portBook) drop(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if port, ok := b.port[id]; ok && b.owner[port] == id {
		delete(b.owner, port)
	}
	delete(b.port, id)
	delete(b.listener, id)
}

func free(port int) bool {
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	return err == nil && l.Close() == nil
}

func (b *portBook) isFree(port int) bool { return free(port) }

var errImpostor = errors.New("what answers on the gateway's port is not the gateway")

// verify makes sure that the socket which listens on a port belongs to one of
// the gateway's processes: all agents share the loopback network, and one could
// sit on a port before its owner does.
func (b *portBook) verify(port int, id, nonce string, pids func() []int) error {
	inode, known := listenerOf(port)
	if !known {
		return nil
	}
	if inode == "" {
		return errImpostor // who took the connection has closed the door behind it
	}
	b.mu.Lock()
	verified := b.listener[id] == nonce+inode
	b.mu.Unlock()
	if verified {
		return nil
	}
	if !holdsSocket(pids(), inode) {
		return errImpostor
	}
	b.mu.Lock()
	b.listener[id] = nonce + inode
	b.mu.Unlock()
	return nil
}
