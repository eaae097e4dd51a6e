package agent

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/modelproxy"
)

// note is what the last model call of an agent says about it.
type note struct {
	category Category
	text     string
}

// notes collects what is to be written, the last word on each agent.
type notes struct {
	mu      sync.Mutex
	pending map[string]note // by agent; guarded by mu
	news    chan struct{}
}

func newNotes() *notes { return &notes{pending: map[string]note{}, news: make(chan struct{}, 1)} }

func (n *notes) put(id string, v note) {
	n.mu.Lock()
	n.pending[id] = v
	n.mu.Unlock()
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
	return taken
}

// Observe implements modelproxy.Settings.Observe: an agent whose model fails runs
// on, but its record says what its owner should do; the next call that succeeds
// clears it.
func (s *Service) Observe(x modelproxy.Exchange) {
	if x.AgentID == "" || x.Status == 0 && x.Failure == "" {
		return
	}
	var n note
	switch {
	case x.KeyRefused:
		n = note{Credentials, x.Failure}
	case x.Failure != "":
		n = note{Model, x.Failure}
	case x.Status >= 400:
		n = note{Model, fmt.Sprintf("The model provider answered with HTTP status %d.", x.Status)}
	}
	s.notes.put(string(x.AgentID), n)
}

// takeNotes writes down what Observe is told, until ctx ends. Calls must not wait
// for it.
func (s *Service) takeNotes(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.notes.news:
		}
		for id, n := range s.notes.take() {
			if err := s.write(ctx, id, n); err != nil && ctx.Err() == nil {
				s.Log.ErrorContext(ctx, "noting how a model call went failed", "agent", id, "error", err)
			}
		}
	}
}

// noteTime bounds the writing of one note.
const noteTime = 5 * time.Second

// write reads first: nearly every call went as the one before it.
func (s *Service) write(ctx context.Context, id string, n note) error {
	ctx, cancel := context.WithTimeout(ctx, noteTime)
	defer cancel()
	a, err := findAny(ctx, s.DB, id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil || a.Status != client.Running {
		return err
	}
	if n.text != "" { // a provider may quote what it was sent
		mask, err := s.body.mask(ctx, a)
		if err != nil {
			return err
		}
		n.text = mask.Replace(n.text)
	}
	if a.LastError == n.text && a.ErrorCategory == n.category {
		return nil
	}
	return s.DB.Tx(ctx, func(tx *database.Tx) error {
		changed, err := noteError(ctx, tx, id, n.category, n.text)
		if changed {
			s.Events.NotifyAfterCommit(tx, topic(id))
		}
		return err
	})
}
