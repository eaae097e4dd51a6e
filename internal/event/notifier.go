package event

import (
	"strings"
	"sync"
)

// Topic is what an event or a notification is about, such as "agent/ID". The part
// before the slash is the kind of thing, the rest its id.
type Topic string

// ID returns the part after the first slash.
func (t Topic) ID() string {
	_, id, _ := strings.Cut(string(t), "/")
	return id
}

// notifier notifies the subscribers of topics. For a subscriber that is busy, one
// notification stays pending, however many there are: none is lost, and memory stays
// bounded.
type notifier struct {
	mu       sync.Mutex
	topics   map[Topic]map[chan struct{}]struct{} // guarded by mu
	prefixes map[*PrefixSubscription]struct{}     // guarded by mu
}

func newNotifier() *notifier {
	return &notifier{topics: map[Topic]map[chan struct{}]struct{}{}, prefixes: map[*PrefixSubscription]struct{}{}}
}

func (n *notifier) notify(t Topic) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.topics[t] {
		signal(c)
	}
	for s := range n.prefixes {
		if strings.HasPrefix(string(t), s.prefix) {
			s.add(t)
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (n *notifier) subscribe(t Topic) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.topics[t] == nil {
		n.topics[t] = map[chan struct{}]struct{}{}
	}
	n.topics[t][c] = struct{}{}
	return c, func() { n.unsubscribe(t, c) }
}

func (n *notifier) unsubscribe(t Topic, c chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.topics[t], c)
	if len(n.topics[t]) == 0 {
		delete(n.topics, t)
	}
}

func (n *notifier) subscribePrefix(prefix string) *PrefixSubscription {
	s := &PrefixSubscription{notifier: n, prefix: prefix, ready: make(chan struct{}, 1), pending: map[Topic]struct{}{}}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.prefixes[s] = struct{}{}
	return s
}

// PrefixSubscription collects the topics with a prefix that were notified, each once.
type PrefixSubscription struct {
	notifier *notifier
	prefix   string
	ready    chan struct{}

	mu      sync.Mutex
	pending map[Topic]struct{} // guarded by mu
}

// Ready returns a channel that receives when Take has something to return.
func (s *PrefixSubscription) Ready() <-chan struct{} { return s.ready }

// Take returns the topics that were notified since the last call, in no order.
func (s *PrefixSubscription) Take() []Topic {
	s.mu.Lock()
	defer s.mu.Unlock()
	topics := make([]Topic, 0, len(s.pending))
	for t := range s.pending {
		topics = append(topics, t)
	}
	clear(s.pending)
	return topics
}

// Close ends the subscription.
func (s *PrefixSubscription) Close() {
	s.notifier.mu.Lock()
	defer s.notifier.mu.Unlock()
	delete(s.notifier.prefixes, s)
}

func (s *PrefixSubscription) add(t Topic) {
	s.mu.Lock()
	s.pending[t] = struct{}{}
	s.mu.Unlock()
	signal(s.ready)
}
