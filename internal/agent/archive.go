package agent

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// An agent that is being imported is staged: its record says that it is being deleted, and the
// reconciler is not notified of it. So nobody sees the agent before everything of it is
// stored, and when the server ends meanwhile, the next one removes what there is.

// Archived is the record of an agent as an archive has it. It has no secret.
type Archived struct {
	Name      string
	Region    string
	AvatarURL string
	Config    map[string]any
}

// importedKind is the kind of the event of an import.
const importedKind = "agent.imported"

// CheckArchived returns everything that is wrong with the record of an archive. The rules are
// those of a request for a new agent, but it needs no key yet. Faults: Invalid.
func (s *Service) CheckArchived(ctx context.Context, in Archived) error {
	problems := fault.Fields{}
	validateName(problems, in.Name)
	if err := s.validateRegion(ctx, problems, in.Region); err != nil {
		return err
	}
	if in.AvatarURL != "" {
		validateAvatar(problems, in.AvatarURL)
	}
	s.checkNewConfig(problems, in.Config)
	return problems.Err()
}

// Stage stores the record of an agent that is being imported, with its data key. Publish or
// Discard follows. Faults: Invalid; PlanLimit; Unauthorized, if the account was disabled
// meanwhile.
func (s *Service) Stage(ctx context.Context, actor identity.Actor, in Archived) (Agent, error) {
	if err := s.CheckArchived(ctx, in); err != nil {
		return Agent{}, err
	}
	a := Agent{
		ID: identity.AgentID(uuid.Must(uuid.NewV7()).String()), AccountID: actor.AccountID, Name: in.Name, Region: in.Region, AvatarURL: in.AvatarURL,
		Config: Config{}.merge(in.Config), Revision: 1, DesiredState: DesiredDeleted, Generation: stagedGeneration, Status: client.Stopped, Power: PowerAwake, CreatedAt: now(),
	}
	err := s.db.Tx(ctx, "agent.stage", func(ctx context.Context, tx *database.Tx) error {
		if err := s.checkPlan(ctx, tx, actor.AccountID); err != nil {
			return err
		}
		if err := s.store.insert(ctx, tx, a); err != nil {
			return err
		}
		if err := s.store.update(ctx, tx, a); err != nil { // the avatar
			return err
		}
		return s.vault.Put(ctx, tx, a.AccountID, vault.OfAgent(a.ID), nil)
	})
	return a, err
}

// stagedGeneration is the generation of a staged agent. An agent that a caller deletes has a
// higher one.
const stagedGeneration = 1

// CheckStaged returns nil if the agent is staged. Faults: NotFound.
func (s *Store) CheckStaged(ctx context.Context, q database.Reader, account identity.AccountID, id identity.AgentID) error {
	staged, err := database.One(ctx, q, database.Scalar[bool],
		`SELECT EXISTS (SELECT 1 FROM agents WHERE account_id = $1 AND id = $2 AND desired_state = 'deleted' AND generation = $3)`, account, id, stagedGeneration)
	if err == nil && !staged {
		return fault.New(fault.NotFound, "The agent %s is not being imported any more.", id)
	}
	return err
}

// CheckStaged returns nil if the agent is staged. Faults: NotFound.
func (s *Service) CheckStaged(ctx context.Context, q database.Reader, a Agent) error {
	return s.store.CheckStaged(ctx, q, a.AccountID, a.ID)
}

// Publish makes a staged agent one that is stopped, and appends the event of the import with
// data. Faults: as Stage; NotFound, if the agent is not staged.
func (s *Service) Publish(ctx context.Context, actor identity.Actor, a Agent, data map[string]any) error {
	return s.db.Tx(ctx, "agent.publish", func(ctx context.Context, tx *database.Tx) error {
		if err := tx.Lock(ctx, database.LockAgents, string(actor.AccountID)); err != nil {
			return err
		}
		if err := s.checkPlan(ctx, tx, actor.AccountID); err != nil {
			return err
		}
		if err := s.store.CheckStaged(ctx, tx, a.AccountID, a.ID); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE agents SET desired_state = 'stopped', generation = $1, observed_generation = $1, stopped_at = $2 WHERE id = $3`,
			a.Generation+1, database.Millis(now()), a.ID)
		if err != nil {
			return fmt.Errorf("publish agent %s: %w", a.ID, err)
		}
		return s.appendEvent(ctx, tx, actor, a.ID, importedKind, data)
	})
}

// CheckAccount returns nil if an account may still change its agents.
// Faults: Unauthorized, if it was disabled or deleted.
func (s *Service) CheckAccount(ctx context.Context, account identity.AccountID) error {
	return s.access.CheckActive(ctx, s.db, account)
}

// Discard removes a staged agent with everything of it, and waits for that.
// Faults: UpstreamTimeout, if that takes longer than Settings.WaitTimeout; it is removed nevertheless.
func (s *Service) Discard(ctx context.Context, a Agent) error {
	s.events.Notify(event.ReconcileTopic(a.ID))
	return s.AwaitDeleted(ctx, Accepted{Agent: a})
}

// RecordExport appends the event of an export with data, and returns the agent, also if its
// record is damaged. Faults: NotFound.
func (s *Service) RecordExport(ctx context.Context, actor identity.Actor, id identity.AgentID, data map[string]any) (a Agent, err error) {
	err = s.db.Tx(ctx, "agent.record_export", func(ctx context.Context, tx *database.Tx) error {
		if a, err = s.store.Find(ctx, tx, actor.AccountID, id); err != nil {
			return err
		}
		return s.appendEvent(ctx, tx, actor, id, "agent.exported", data)
	})
	return a, err
}
