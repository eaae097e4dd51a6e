package agent

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
)

// look is how often a waiter reads the records although no bell rang, should
// another process have written them.
const look = 2 * time.Second

// await reads an agent until done says so or ctx ends; then it returns what it saw
// last. Any account: the caller has found the agent before.
func (s *Service) await(ctx context.Context, id string, done func(Agent) bool) (Agent, error) {
	news, stop := s.Events.Subscribe(topic(id))
	defer stop()
	again := time.NewTicker(look)
	defer again.Stop()
	var last Agent
	for ctx.Err() == nil {
		a, err := findAny(ctx, s.DB, id)
		switch {
		case ctx.Err() != nil: // err is what the database makes of that
			return last, ctx.Err()
		case err != nil || done(a):
			return a, err
		}
		last = a
		select {
		case <-news:
		case <-again.C:
		case <-ctx.Done():
		}
	}
	return last, ctx.Err()
}

// Await waits for what comes of a wish. If ctx ends first, the wish still stands.
// Faults: NotFound, if the agent is being deleted; Upstream or Unavailable, if the
// gateway does not come up.
func (s *Service) Await(ctx context.Context, o Outcome) (Agent, error) {
	a, err := s.await(ctx, o.ID, func(a Agent) bool { return a.Settled >= o.Wish && final(a.Status) || a.Wanted == WantDeleted })
	switch {
	case errors.Is(err, sql.ErrNoRows), err == nil && a.Wanted == WantDeleted:
		return a, fault.New(fault.NotFound, "The agent was deleted in the meantime.")
	case err != nil:
		return a, err
	case a.Status == client.Errored:
		return a, broken(a)
	}
	return a, nil
}

// final says that nothing is under way: an agent that a crash has put back to
// starting is waited for.
func final(s client.AgentStatus) bool {
	return s == client.Running || s == client.Stopped || s == client.Errored
}

// AwaitRunning is Await for a wish to run. Faults: Conflict, if a later wish came
// to something else.
func (s *Service) AwaitRunning(ctx context.Context, o Outcome) (Agent, error) {
	return s.awaitStatus(ctx, o, client.Running)
}

// AwaitStopped is Await for a wish to stop. Faults: Conflict, as AwaitRunning;
// UpstreamTimeout, if it takes too long; it goes on all the same.
func (s *Service) AwaitStopped(ctx context.Context, o Outcome) (Agent, error) {
	patient, cancel := context.WithTimeout(ctx, s.Timing.Patience)
	defer cancel()
	a, err := s.awaitStatus(patient, o, client.Stopped)
	return a, tooLong(ctx, err, "stopped")
}

// tooLong puts the end of our own patience, not ctx's, into words.
func tooLong(ctx context.Context, err error, what string) error {
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return fault.New(fault.UpstreamTimeout, "The agent is still being %s: its gateway takes long to end. This goes on; look at the agent later.", what)
	}
	return err
}

func (s *Service) awaitStatus(ctx context.Context, o Outcome, want client.AgentStatus) (Agent, error) {
	a, err := s.Await(ctx, o)
	if err == nil && a.Status != want && a.Settled > o.Wish {
		return a, fault.New(fault.Conflict, "A later request changed what is wanted: the agent is %s. Ask again if it should be otherwise.", a.Status)
	}
	return a, err
}

// AwaitDeleted waits until nothing is left of an agent. Faults: UpstreamTimeout, if
// it takes too long; it goes on all the same.
func (s *Service) AwaitDeleted(ctx context.Context, o Outcome) error {
	patient, cancel := context.WithTimeout(ctx, s.Timing.Patience)
	defer cancel()
	_, err := s.await(patient, o.ID, func(Agent) bool { return false })
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return tooLong(ctx, err, "deleted")
}

// broken says why an agent that was asked to run does not.
func broken(a Agent) error {
	code := fault.Upstream
	if a.ErrorCategory == Capacity {
		code = fault.Unavailable
	}
	return fault.New(code, "%s", a.LastError).With("agentId", a.ID).With("errorCategory", string(a.ErrorCategory))
}
