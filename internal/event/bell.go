package event

import "sync"

// Bell wakes those who wait for news of a topic. A ring that finds its listener
// busy is remembered once: nothing is missed, nothing piles up.
type Bell struct {
	mu        sync.Mutex
	listeners map[string]map[chan struct{}]struct{} // guarded by mu
}

// NewBell makes a bell for one process.
func NewBell() *Bell { return &Bell{listeners: map[string]map[chan struct{}]struct{}{}} }

// Ring wakes every listener of the topic.
func (b *Bell) Ring(topic string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.listeners[topic] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Listen returns a channel that receives after each ring, and a function that
// ends the listening. Look at the truth once after Listen, then after each receive.
func (b *Bell) Listen(topic string) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listeners[topic] == nil {
		b.listeners[topic] = map[chan struct{}]struct{}{}
	}
	b.listeners[topic][c] = struct{}{}
	return c, func() { b.leave(topic, c) }
}

func (b *Bell) leave(topic string, c chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.listeners[topic], c)
	if len(b.listeners[topic]) == 0 {
		delete(b.listeners, topic)
	}
}
