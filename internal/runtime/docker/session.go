package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/relay"
)

const (
	// connectTimeout bounds how long a relay may take until it takes a connection. Source: 0.1 s after
	// the start of its container.
	connectTimeout = 30 * time.Second
	// minBackoff and maxBackoff bound the pause after a connection that has failed or was lost at once.
	minBackoff, maxBackoff = 50 * time.Millisecond, 5 * time.Second
	// stableAfter is how long a session lives until its loss is not a failure of the connection any
	// more.
	stableAfter = 10 * time.Second
)

// link is the one connection to the relay of an agent's gateway. It is made when it is needed, and made
// again when it is needed after a loss.
type link struct {
	turn chan struct{} // has a token while nobody connects

	mu          sync.Mutex
	session     *relay.Session // guarded by mu; nil: none was made yet, or it was closed
	place       runtime.Place  // of the session; guarded by mu
	network     *network       // that the server has open; guarded by mu
	connectedAt time.Time      // guarded by mu
	paused      bool           // whether the driver has paused the container last, or let it go on; guarded by mu
	pausedAt    time.Time      // when; guarded by mu
	failures    int            // connections in a row that failed or were lost at once; guarded by mu
}

func (d *Driver) link(id identity.AgentID) *link {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.links[id]
	if l == nil {
		l = &link{turn: make(chan struct{}, 1)}
		l.turn <- struct{}{}
		d.links[id] = l
	}
	return l
}

// current returns the session with the gateway of a place, or nil if there is none.
func (l *link) current(place runtime.Place) *relay.Session {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == nil || l.place != place || isLost(l.session) {
		return nil
	}
	return l.session
}

func isLost(s *relay.Session) bool {
	select {
	case <-s.Done():
		return true
	default:
		return false
	}
}

// lossTimeout is how long a session may take to know that it is lost, after the requests on it do.
const lossTimeout = 20 * time.Millisecond

// failedBy reports whether a request has failed because its session is lost.
func failedBy(s *relay.Session, err error) bool {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, runtime.ErrTooLarge) || errors.Is(err, runtime.ErrNotRunning) {
		return false
	}
	select {
	case <-s.Done():
		return true
	case <-time.After(lossTimeout):
		return false
	}
}

// close ends the session, if there is one.
func (l *link) close() {
	l.mu.Lock()
	s := l.session
	l.session, l.failures = nil, 0
	l.mu.Unlock()
	if s != nil {
		_ = s.Close() // its end is all that matters
	}
}

// set makes s the session. A session that had lived for a moment only makes the next one wait.
func (l *link) set(s *relay.Session, place runtime.Place) {
	l.mu.Lock()
	l.session, l.place, l.connectedAt = s, place, time.Now()
	l.mu.Unlock()
	go l.serveNetwork(s)
}

// backoff returns how long to wait before the next connection.
func (l *link) backoff() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session != nil { // it was lost
		l.failures++
		if time.Since(l.connectedAt) > stableAfter {
			l.failures = 0
		}
		l.session = nil
	}
	if l.failures == 0 {
		return 0
	}
	return min(minBackoff<<min(l.failures-1, 10), maxBackoff)
}

func (l *link) failed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures++
}

// session returns the session with the relay of a running gateway. Errors: ErrNotRunning.
func (d *Driver) session(ctx context.Context, a agent, place runtime.Place) (*relay.Session, error) {
	l := d.link(a.id)
	if s := l.current(place); s != nil {
		return s, nil
	}
	select {
	case <-l.turn:
		defer func() { l.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s := l.current(place); s != nil {
		return s, nil
	}
	c, rec, err := d.running(ctx, a, place)
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, l.backoff()); err != nil {
		return nil, err
	}
	s, err := d.connect(ctx, c.ID, relay.Identity{Agent: a.id, Place: rec.Place, Epoch: rec.Epoch, Key: rec.Key})
	if err != nil {
		l.failed()
		return nil, err
	}
	l.set(s, place)
	return s, nil
}

// running returns the container and the record of the gateway of a place. Errors: ErrNotRunning, also
// if it is frozen.
func (d *Driver) running(ctx context.Context, a agent, place runtime.Place) (*container.InspectResponse, record, error) {
	c, err := d.gateway(ctx, a)
	if isErrForeign(err) {
		err, c = nil, nil
	}
	if err != nil {
		return nil, record{}, err
	}
	if !runs(c) || c.State.Paused || !isAt(c, place) {
		return nil, record{}, runtime.ErrNotRunning
	}
	rec, err := a.record()
	if err != nil {
		return nil, rec, err
	}
	if rec.Place != place || rec.Epoch != epochOf(c.Config.Labels) {
		return nil, rec, errors.New("the key of the gateway's relay is lost: restart the agent")
	}
	return c, rec, nil
}

// connect connects to the relay of a container that runs. It waits until the relay takes connections.
func (d *Driver) connect(ctx context.Context, containerID string, who relay.Identity) (*relay.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	for wait := minBackoff; ; wait = min(2*wait, maxBackoff) {
		s, err := d.tryConnect(ctx, containerID, who)
		if err == nil {
			return s, nil
		}
		if errors.Is(err, relay.ErrRefused) || ctx.Err() != nil {
			return nil, fmt.Errorf("connect to the relay of %s: %w", who.Agent, err)
		}
		c, inspectErr := d.inspectContainer(ctx, containerID)
		if inspectErr != nil {
			return nil, errors.Join(err, inspectErr)
		}
		if !runs(c) || c.State.Paused {
			return nil, fmt.Errorf("connect to the relay of %s: %w", who.Agent, runtime.ErrNotRunning)
		}
		if pause(ctx, wait) != nil {
			return nil, fmt.Errorf("connect to the relay of %s: %w", who.Agent, err)
		}
	}
}

func (d *Driver) tryConnect(ctx context.Context, containerID string, who relay.Identity) (*relay.Session, error) {
	conn, err := d.execute(ctx, containerID)
	if err != nil {
		return nil, err
	}
	s, err := relay.Connect(ctx, conn, who)
	if err != nil {
		return nil, errors.Join(err, conn.Close(), conn.complaint())
	}
	return s, nil
}
