package agent

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// Accepted is an agent whose desired state a caller has changed.
type Accepted struct {
	Agent        // as it was found
	Target int64 // the generation that Await waits for
}

// Start asks for a running gateway.
// Faults: NotFound; Conflict, if the record is damaged; Unauthorized, if the account was disabled
// meanwhile; Unavailable, if agents cannot be isolated.
func (s *Service) Start(ctx context.Context, actor identity.Actor, id identity.AgentID) (Accepted, error) {
	return s.setDesiredState(ctx, actor, id, DesiredRunning, false, "agent.start_requested")
}

// Stop asks for the gateway to be stopped; the home stays. Faults: NotFound; Conflict,
// if the record is damaged; Unavailable, if the database takes no writes: the gateway
// has been stopped, if the message says so.
func (s *Service) Stop(ctx context.Context, actor identity.Actor, id identity.AgentID) (Accepted, error) {
	accepted, err := s.setDesiredState(database.UseReserve(ctx), actor, id, DesiredStopped, false, "agent.stop_requested")
	if p, ok := database.Diagnose(err); ok {
		err = s.stopUnrecorded(ctx, actor, id, p, err)
	}
	return accepted, err
}

// stopUnrecorded ends the gateway of an agent whose desired state could not be stored
// because of cause, and returns the fault that says so. It returns cause if it cannot
// find out whether the agent is the account's.
func (s *Service) stopUnrecorded(ctx context.Context, actor identity.Actor, id identity.AgentID, p database.Problem, cause error) error {
	a, err := s.store.Find(ctx, s.db, actor.AccountID, id)
	if fault.Is(err, fault.NotFound) {
		return err
	}
	if err != nil {
		return cause
	}
	limited, cancel := context.WithTimeout(ctx, s.waitTimeout)
	defer cancel()
	err = s.stopper.StopUnrecorded(limited, a, func(ctx context.Context) error { return s.recordStop(ctx, actor, a) })
	if err != nil {
		s.log.ErrorContext(ctx, "stopping an agent whose record cannot be written failed", "agent", id, "error", err)
		return cause
	}
	s.log.WarnContext(ctx, "an agent was stopped, but its record cannot be written", "agent", id, "error", cause)
	stopped := fault.New(fault.Unavailable, "The agent's gateway has been stopped, but that is not stored, and a restart of the server would start it again: repeat the request until it succeeds. %s", p)
	stopped.RetryAfter = retryStop
	return stopped.Because(cause)
}

// retryStop is when a caller should repeat a stop that could not be stored.
const retryStop = 10 * time.Second

// recordStop stores that an agent should be stopped, unless a newer request was stored
// meanwhile.
func (s *Service) recordStop(ctx context.Context, actor identity.Actor, a Agent) error {
	return s.db.Tx(database.UseReserve(ctx), "agent.record_stop", func(ctx context.Context, tx *database.Tx) error {
		if err := tx.Lock(ctx, database.LockAgent, string(a.ID)); err != nil {
			return err
		}
		now, err := s.store.FindByID(ctx, tx, a.ID)
		if errors.Is(err, sql.ErrNoRows) || err == nil && now.Generation != a.Generation {
			return nil
		}
		if err != nil {
			return err
		}
		target, err := s.store.setDesiredState(ctx, tx, now, DesiredStopped, false)
		if err != nil || target == now.Generation {
			return err
		}
		s.events.NotifyAfterCommit(tx, event.ReconcileTopic(a.ID))
		return s.appendEvent(ctx, tx, actor, a.ID, "agent.stop_requested", nil)
	})
}

// Restart asks for a new gateway with the latest config, secrets and skills.
// Faults: as Start.
func (s *Service) Restart(ctx context.Context, actor identity.Actor, id identity.AgentID) (Accepted, error) {
	return s.setDesiredState(ctx, actor, id, DesiredRunning, true, "agent.restart_requested")
}

// Delete asks for the agent and everything of it to be removed. From now on Find does
// not return it. Faults: NotFound.
func (s *Service) Delete(ctx context.Context, actor identity.Actor, id identity.AgentID) (Accepted, error) {
	return s.setDesiredState(database.UseReserve(ctx), actor, id, DesiredDeleted, false, "agent.deleted")
}

// setDesiredState writes a desired state. A damaged agent can only be deleted.
// Faults: NotFound; Conflict, if the record is damaged; Unavailable, if the agent should
// run and agents cannot be isolated.
func (s *Service) setDesiredState(ctx context.Context, actor identity.Actor, id identity.AgentID, desired DesiredState, restart bool, kind string) (Accepted, error) {
	var r Accepted
	err := s.db.Tx(ctx, "agent.set_desired_state", func(ctx context.Context, tx *database.Tx) (err error) {
		if err := tx.Lock(ctx, database.LockAgent, string(id)); err != nil {
			return err
		}
		if r.Agent, err = s.store.Find(ctx, tx, actor.AccountID, id); err != nil {
			return err
		}
		if _, ok, err := s.events.Repeated(ctx, tx, actor); ok || err != nil {
			r.Target = r.Generation // an earlier execution of the request has changed it
			return err
		}
		if err := r.CheckReadable(); err != nil && desired != DesiredDeleted {
			return err
		}
		if desired == DesiredRunning {
			if err := s.access.CheckActive(ctx, tx, actor.AccountID); err != nil {
				return err
			}
			if err := s.gateways.CheckIsolation(); err != nil {
				return err
			}
		}
		if r.Target, err = s.store.setDesiredState(ctx, tx, r.Agent, desired, restart); err != nil {
			return err
		}
		if desired == DesiredDeleted {
			if err := s.vault.Release(ctx, tx, actor.AccountID, vault.OfAgent(id)); err != nil {
				return err
			}
		}
		if r.Target == r.Generation {
			return nil
		}
		s.events.NotifyAfterCommit(tx, event.ReconcileTopic(id))
		return s.appendEvent(ctx, tx, actor, id, kind, nil)
	})
	return r, err
}
