package agent

import (
	"context"
	"fmt"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/modelproxy"
)

// noteTime bounds the writing of a note that no caller waits for.
const noteTime = 5 * time.Second

// Observe implements modelproxy.Settings.Observe: an agent whose model fails runs
// on, but its record says what its owner should do; the next call that succeeds
// clears it.
func (s *Service) Observe(x modelproxy.Exchange) {
	if x.AgentID == "" || x.Status == 0 && x.Failure == "" {
		return
	}
	var category Category
	var text string
	switch {
	case x.KeyRefused:
		category, text = Credentials, x.Failure
	case x.Failure != "":
		category, text = Model, x.Failure
	case x.Status >= 400:
		category, text = Model, fmt.Sprintf("The model provider answered with HTTP status %d.", x.Status)
	}
	s.notes.put(x.AgentID, note{category, text})
}

// note is what the last model call of an agent says about it.
type note struct {
	category Category
	text     string
}

// Run writes down what Observe is told, until ctx ends. Calls must not wait for it.
func (s *Service) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.notes.news:
		}
		for id, n := range s.notes.take() {
			if err := s.write(ctx, id, n); err != nil && ctx.Err() == nil {
				s.Log.ErrorContext(ctx, "noting how a model call went failed", "agent", id, "error", err)
			}
		}
	}
}

func (s *Service) write(ctx context.Context, id string, n note) error {
	ctx, cancel := context.WithTimeout(ctx, noteTime)
	defer cancel()
	return s.DB.Tx(ctx, func(tx *database.Tx) error {
		changed, err := database.Exec(ctx, tx,
			`UPDATE agents SET last_error = $1, error_category = $2 WHERE id = $3 AND status = 'running' AND (last_error <> $1 OR error_category <> $2)`,
			n.text, n.category, id)
		if changed > 0 {
			tx.AfterCommit(func() { s.Events.Bell.Ring(topic(id)) })
		}
		return err
	})
}
