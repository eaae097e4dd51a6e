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
		if len(s.names) > 0 && !slices.Contains(s.names, e.Name) {
			continue
		}
		select {
		case s.c <- e:
		default:
			delete(l.subs, s)
			s.end(ErrLagged)
		}
	}
}
