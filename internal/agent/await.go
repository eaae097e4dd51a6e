package agent

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

const (
	// defaultRoomTimeout is the default of Store.RoomTimeout.
	defaultRoomTimeout = time.Minute
	// retryRoom is when a caller should try again that waited for room in vain.
	retryRoom = 30 * time.Second
)

// withRoomTimeout returns a context for a request that waits for room.
func (s *Store) withRoomTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, cmp.Or(s.RoomTimeout, defaultRoomTimeout))
}

// AwaitUnlessFull is Await for requests of callers. They do not wait for room longer than
// RoomTimeout; the agent does. Faults: Unavailable.
func (s *Store) AwaitUnlessFull(ctx context.Context, id identity.AgentID, done func(Agent) bool) (Agent, error) {
	limited, cancel := s.withRoomTimeout(ctx)
	defer cancel()
	a, err := s.Await(limited, id, done)
	if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		return a, err
	}
	a, err = s.Await(ctx, id, func(a Agent) bool { return done(a) || a.WaitsForRoom() })
	if err == nil && !done(a) {
		f := fault.New(fault.Unavailable, "%s", a.LastError).With("agentId", string(a.ID)).With("errorCategory", string(a.ErrorCategory))
		f.RetryAfter = retryRoom
		return a, f
	}
	return a, err
}

// Await waits for the outcome of an accepted request. If ctx ends first, the request
// stands nevertheless.
// Faults: NotFound, if the agent is being deleted; Upstream, if the gateway does not
// start; Conflict, if its files exceed the limits; Unavailable, if there has been no room for a minute: the agent goes on waiting.
func (s *Service) Await(ctx context.Context, r Accepted) (Agent, error) {
	a, err := s.store.AwaitUnlessFull(ctx, r.ID, func(a Agent) bool {
		return a.ObservedGeneration >= r.Target && isFinal(a.Status) || a.DesiredState == DesiredDeleted
	})
	switch {
	case errors.Is(err, sql.ErrNoRows), err == nil && a.DesiredState == DesiredDeleted:
		return a, fault.New(fault.NotFound, "The agent was deleted in the meantime.")
	case err != nil:
		return a, err
	case a.Status == client.Errored:
		return a, a.startFault()
	}
	return a, nil
}

// NextStatus returns the status of the agent for a caller that does not wait: change while the
// request is carried out, otherwise the one that the agent has.
func (r Accepted) NextStatus(change client.AgentStatus) client.AgentStatus {
	if r.ObservedGeneration >= r.Target && isFinal(r.Status) {
		return r.Status
	}
	if r.Status == client.Provisioning && change == client.Starting {
		return r.Status
	}
	return change
}

// isFinal reports whether nothing is in progress. An agent that crashed and is
// starting again is not final.
func isFinal(s client.AgentStatus) bool {
	return s == client.Running || s == client.Stopped || s == client.Errored
}

// AwaitRunning is Await for a start or a restart. Faults: as Await; Conflict, if a
// later request led to another status.
func (s *Service) AwaitRunning(ctx context.Context, r Accepted) (Agent, error) {
	return s.awaitStatus(ctx, r, client.Running)
}

// AwaitCreated is AwaitRunning for a new agent. If there is no room for it, it is deleted.
func (s *Service) AwaitCreated(ctx context.Context, actor identity.Actor, r Accepted) (Agent, error) {
	a, err := s.AwaitRunning(ctx, r)
	if !fault.Is(err, fault.Unavailable) || !a.WaitsForRoom() {
		return a, err
	}
	if _, deletion := s.Delete(ctx, actor, a.ID); deletion != nil {
		return a, errors.Join(err, deletion)
	}
	return a, noRoom(a.Region)
}

// AwaitStopped is Await for a stop. Faults: as AwaitRunning; UpstreamTimeout, if the
// gateway takes longer than Settings.WaitTimeout to stop; it is stopped nevertheless.
func (s *Service) AwaitStopped(ctx context.Context, r Accepted) (Agent, error) {
	limited, cancel := context.WithTimeout(ctx, s.waitTimeout)
	defer cancel()
	a, err := s.awaitStatus(limited, r, client.Stopped)
	return a, timeoutFault(ctx, err, "stopped")
}

// AwaitDeleted waits until nothing is left of an agent. Faults: UpstreamTimeout, if
// that takes longer than Settings.WaitTimeout; it is deleted nevertheless.
func (s *Service) AwaitDeleted(ctx context.Context, r Accepted) error {
	limited, cancel := context.WithTimeout(ctx, s.waitTimeout)
	defer cancel()
	_, err := s.store.Await(limited, r.ID, func(Agent) bool { return false })
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return timeoutFault(ctx, err, "deleted")
}

// timeoutFault replaces an err that comes from our own timeout and not from ctx.
func timeoutFault(ctx context.Context, err error, participle string) error {
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return fault.New(fault.UpstreamTimeout, "The agent is still being %s: its gateway is slow to end. This continues; check the agent later.", participle)
	}
	return err
}

func (s *Service) awaitStatus(ctx context.Context, r Accepted, expected client.AgentStatus) (Agent, error) {
	a, err := s.Await(ctx, r)
	if err == nil && a.Status != expected && a.ObservedGeneration > r.Target {
		return a, fault.New(fault.Conflict, "A later request changed the desired state: the agent is %s. Repeat the request if it should be otherwise.", a.Status)
	}
	return a, err
}
