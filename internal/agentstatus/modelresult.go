package agentstatus

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/modelproxy"
)

// modelResult is the error of an agent's last model call; it is zero after a call that
// succeeded.
type modelResult struct {
	category agent.ErrorCategory
	text     string
}

// modelResults are the results that are not written yet, the last of each agent.
type modelResults struct {
	mu      sync.Mutex
	pending map[identity.AgentID]modelResult // guarded by mu
	added   chan struct{}
}

func newModelResults() *modelResults {
	return &modelResults{pending: map[identity.AgentID]modelResult{}, added: make(chan struct{}, 1)}
}

func (m *modelResults) add(id identity.AgentID, r modelResult) {
	m.mu.Lock()
	m.pending[id] = r
	m.mu.Unlock()
	select {
	case m.added <- struct{}{}:
	default:
	}
}

func (m *modelResults) removeAll() map[identity.AgentID]modelResult {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.pending
	m.pending = map[identity.AgentID]modelResult{}
	return all
}

// Observe implements modelproxy.Settings.Observe. An agent whose model fails continues
// to run, but its record says what its owner should do, until a call succeeds.
func (s *Service) Observe(x modelproxy.Exchange) {
	if x.AgentID == "" || x.Status == 0 && x.Failure == "" {
		return
	}
	var r modelResult
	switch {
	case x.KeyRefused:
		r = modelResult{agent.CategoryCredentials, x.Failure}
	case x.Failure != "":
		r = modelResult{agent.CategoryModel, x.Failure}
	case x.Status >= 400:
		r = modelResult{agent.CategoryModel, fmt.Sprintf("The model provider answered with HTTP status %d.", x.Status)}
	}
	s.results.add(identity.AgentID(x.AgentID), r)
}

// writeModelResults writes what Observe gets, until ctx ends. Observe must not wait for
// the database.
func (s *Service) writeModelResults(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.results.added:
		}
		for id, r := range s.results.removeAll() {
			if err := s.writeModelResult(ctx, id, r); err != nil && ctx.Err() == nil {
				s.log.ErrorContext(ctx, "writing the result of a model call failed", "agent", id, "error", err)
			}
		}
	}
}

// writeTimeout bounds the writing of one result.
const writeTimeout = 5 * time.Second

// writeModelResult reads the record first, because nearly every call has the same
// result as the one before.
func (s *Service) writeModelResult(ctx context.Context, id identity.AgentID, r modelResult) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	a, err := s.store.FindByID(ctx, s.db, id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil || a.Status != client.Running {
		return err
	}
	if r.text != "" { // a provider may quote what it received
		if r.text, err = s.logs.Mask(ctx, a, r.text); err != nil {
			return err
		}
	}
	if a.LastError == r.text && a.ErrorCategory == r.category {
		return nil
	}
	return s.store.SaveModelResult(ctx, id, r.category, r.text)
}
