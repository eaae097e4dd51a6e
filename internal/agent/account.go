package agent

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
)

// StopAll asks for the gateways of an account that was disabled to be stopped. ResumeAll starts
// the same agents again. A damaged agent is left as it is.
func (s *Service) StopAll(ctx context.Context, account identity.AccountID) error {
	return s.changeAll(database.UseReserve(ctx), account, `desired_state = 'running'`, func(ctx context.Context, tx *database.Tx, a Agent) (string, error) {
		active, err := s.access.IsActive(ctx, tx, account)
		if err != nil || active || a.DesiredState != DesiredRunning || a.Damage != "" {
			return "", err
		}
		if _, err := s.store.setDesiredState(ctx, tx, a, DesiredStopped, false); err != nil {
			return "", err
		}
		return "agent.stop_requested", s.store.setResumes(ctx, tx, a.ID, true)
	})
}

// ResumeAll starts the agents of an account that was enabled which ran when it was disabled.
func (s *Service) ResumeAll(ctx context.Context, account identity.AccountID) error {
	return s.changeAll(ctx, account, `resumes`, func(ctx context.Context, tx *database.Tx, a Agent) (string, error) {
		active, err := s.access.IsActive(ctx, tx, account)
		if err != nil || !active || a.Damage != "" {
			return "", err
		}
		if a.DesiredState != DesiredStopped {
			return "", s.store.setResumes(ctx, tx, a.ID, false)
		}
		_, err = s.store.setDesiredState(ctx, tx, a, DesiredRunning, false)
		return "agent.start_requested", err
	})
}

// DeleteAll asks for every agent of an account to be removed, as Delete does, and returns how
// many are left.
func (s *Service) DeleteAll(ctx context.Context, account identity.AccountID) (left int, err error) {
	ctx = database.UseReserve(ctx)
	err = s.changeAll(ctx, account, `desired_state <> 'deleted'`, func(ctx context.Context, tx *database.Tx, a Agent) (string, error) {
		if a.DesiredState == DesiredDeleted {
			return "", nil
		}
		_, err := s.store.setDesiredState(ctx, tx, a, DesiredDeleted, false)
		return "agent.deleted", err
	})
	if err != nil {
		return 0, err
	}
	return database.One(ctx, s.db, database.Scalar[int], `SELECT count(*) FROM agents WHERE account_id = $1`, account)
}

// AccountsToResume returns the accounts with agents that ResumeAll may have to start.
func (s *Service) AccountsToResume(ctx context.Context) ([]identity.AccountID, error) {
	return database.All(ctx, s.db, database.Scalar[identity.AccountID], `SELECT DISTINCT account_id FROM agents WHERE resumes`)
}

// changeAll calls change with each agent of an account for which a condition holds, in a
// transaction of its own, and appends the event that it returns; no kind means that nothing is
// to be done.
func (s *Service) changeAll(ctx context.Context, account identity.AccountID, condition string, change func(context.Context, *database.Tx, Agent) (kind string, err error)) error {
	ids, err := database.All(ctx, s.db, database.Scalar[identity.AgentID], `SELECT id FROM agents WHERE account_id = $1 AND `+condition, account)
	if err != nil {
		return fmt.Errorf("list the agents of account %s: %w", account, err)
	}
	for _, id := range ids {
		err := s.db.Tx(ctx, "agent.change_all", func(ctx context.Context, tx *database.Tx) error {
			if err := tx.Lock(ctx, database.LockAgent, string(id)); err != nil {
				return err
			}
			a, err := s.store.FindByID(ctx, tx, id)
			if errors.Is(err, sql.ErrNoRows) {
				return nil
			}
			if err != nil {
				return err
			}
			kind, err := change(ctx, tx, a)
			if err != nil || kind == "" {
				return err
			}
			s.events.NotifyAfterCommit(tx, event.ReconcileTopic(id))
			return s.appendEvent(ctx, tx, identity.BySystem(account), id, kind, nil)
		})
		if err != nil {
			return fmt.Errorf("change agent %s of account %s: %w", id, account, err)
		}
	}
	return nil
}
