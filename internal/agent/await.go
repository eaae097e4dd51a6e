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

// await reads an agent until done says so or ctx ends. Any account: the caller
// has found the agent before.
func (s *Service) await(ctx context.Context, id string, done func(Agent) bool) (Agent, error) {
	news, stop := s.Events.Bell.Listen(topic(id))
	defer stop()
	again := time.NewTicker(look)
	defer again.Stop()
	for {
		a, err := findAny(ctx, s.DB, id)
		if err != nil || done(a) {
			return a, err
		}
		select {
		case <-news:
		case <-again.C:
		case <-ctx.Done():
			return a, ctx.Err()
		}
	}
}

// Await waits for what comes of a wish. If ctx ends first, the wish still stands.
// Faults: Conflict, if a later wish came to something else; NotFound, if the
// agent is being deleted; Upstream or Unavailable, if the gateway does not come up.
func (s *Service) Await(ctx context.Context, o Outcome) (Agent, error) {
	a, err := s.await(ctx, o.ID, func(a Agent) bool { return a.Settled >= o.Wish || a.Wanted == WantDeleted })
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

// AwaitRunning is Await for a wish to run.
func (s *Service) AwaitRunning(ctx context.Context, o Outcome) (Agent, error) {
	return s.awaitStatus(ctx, o, client.Running)
}

// AwaitStopped is Await for a wish to stop.
func (s *Service) AwaitStopped(ctx context.Context, o Outcome) (Agent, error) {
	return s.awaitStatus(ctx, o, client.Stopped)
}

func (s *Service) awaitStatus(ctx context.Context, o Outcome, want client.AgentStatus) (Agent, error) {
	a, err := s.Await(ctx, o)
	if err == nil && a.Status != want && a.Settled > o.Wish {
		return a, fault.New(fault.Conflict, "A later request changed what is wanted: the agent is %s.", a.Status)
	}
	return a, err
}

// AwaitDeleted waits until nothing is left of an agent.
func (s *Service) AwaitDeleted(ctx context.Context, o Outcome) error {
	_, err := s.await(ctx, o.ID, func(Agent) bool { return false })
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}

// Gateway returns a running agent's gateway, waiting for one that is on its way.
// The caller has found the agent in its account.
// Faults: NotFound; NotRunning, if the agent is stopped or in error.
func (s *Service) Gateway(ctx context.Context, id string) (*Gateway, error) {
	a, err := s.await(ctx, id, settledDown)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fault.New(fault.NotFound, "The agent was deleted in the meantime.")
	}
	if err != nil {
		return nil, err
	}
	if err := MayRun(a); err != nil {
		return nil, err
	}
	return s.body.gateway(ctx, a)
}

// settledDown says that an agent is not on its way to running.
func settledDown(a Agent) bool {
	return MayRun(a) != nil || a.Status == client.Running && a.Booted >= a.Fresh
}

// MayRun returns nil for an agent that runs or is on its way to.
// Faults: NotRunning, saying why.
func MayRun(a Agent) error {
	switch {
	case a.Wanted != WantRunning:
		return fault.New(fault.NotRunning, "The agent is stopped. Start it with POST /v1/agents/%s/start.", a.ID).With("status", string(a.Status))
	case a.Status == client.Errored && a.Settled == a.Wish:
		return fault.New(fault.NotRunning, "The agent is in error: %s Then start it with POST /v1/agents/%s/start.", a.LastError, a.ID).
			With("status", string(a.Status)).With("errorCategory", string(a.ErrorCategory))
	}
	return nil
}

// broken says why an agent that was asked to run does not.
func broken(a Agent) error {
	code := fault.Upstream
	if a.ErrorCategory == Capacity {
		code = fault.Unavailable
	}
	return fault.New(code, "%s", a.LastError).With("agentId", a.ID).With("errorCategory", string(a.ErrorCategory))
}
