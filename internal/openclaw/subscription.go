package openclaw

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
)

// Event is something that the gateway reports without being asked.
type Event struct {
	Name    string
	Payload json.RawMessage
}

// ErrLagged ends a subscription whose reader was too slow: read the history, then
// subscribe again.
var ErrLagged = errors.New("events came faster than they were read")

// Subscription receives events until Close, until the connection ends, or until
// its reader lags behind.
type Subscription struct {
	// C is closed at the end; then Err returns the reason.
	C     <-chan Event
	names []string
	c     chan Event
	link  *link
	bytes [eventBuffer]int // of the last events, by their number; guarded by the link's mu
	sent  int              // events; guarded by the link's mu

	once sync.Once
	err  error // written before C is closed
}

// Subscribe subscribes to the events with these names in every session; without
// names, to all events. "chat" and "agent" report the progress of the API's turns;
// EventMessage reports every message that is added, also through channels.
func (g *Gateway) Subscribe(ctx context.Context, names ...string) (*Subscription, error) {
	l, err := g.connect(ctx)
	if err != nil {
		return nil, err
	}
	s, err := l.subscribe(names)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 || slices.Contains(names, EventMessage) {
		// The gateway sends these events only to connections that asked for them.
		if _, err := l.call(ctx, "sessions.subscribe", nil); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

func (l *link) subscribe(names []string) (*Subscription, error) {
	c := make(chan Event, eventBuffer)
	s := &Subscription{C: c, c: c, names: names, link: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, l.err
	}
	l.subs[s] = true
	return s, nil
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	delete(s.link.subs, s)
	s.end(nil)
}

// Err returns the reason why C was closed: nil after Close.
func (s *Subscription) Err() error {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	return s.err
}

// end closes C, once. The caller holds the link's mu, as for every send.
func (s *Subscription) end(err error) {
	s.once.Do(func() {
		s.err = err
		close(s.c)
	})
}

func (l *link) publish(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := range l.subs {
		if s.wants(e.Name) && !s.send(e) {
			delete(l.subs, s)
			s.end(ErrLagged)
		}
	}
}

// drop ends the subscriptions that would get an event which is too long to be kept.
func (l *link) drop(event string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := range l.subs {
		if s.wants(event) {
			delete(l.subs, s)
			s.end(ErrLagged)
		}
	}
}

func (s *Subscription) wants(event string) bool {
	return len(s.names) == 0 || slices.Contains(s.names, event)
}

// send sends an event, unless the reader is too far behind. The caller holds the link's mu,
// so that nobody else sends.
func (s *Subscription) send(e Event) bool {
	behind := len(e.Payload)
	for i := range len(s.c) {
		behind += s.bytes[(s.sent-1-i)%eventBuffer]
	}
	if behind > eventBytes || len(s.c) == eventBuffer {
		return false
	}
	s.bytes[s.sent%eventBuffer] = len(e.Payload)
	s.sent++
	s.c <- e
	return true
}
