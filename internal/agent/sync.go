package agent

import (
	"context"
	"fmt"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/workspace"
)

// syncTimeout bounds how long a caller waits for a home to be synced.
const syncTimeout = 5 * time.Second

// Sync brings a running agent up to date now: its documents, skills and channel
// tokens are in use when it returns. needsRestart reports whether something else
// waits for a restart; it is false for an agent that does not run, because its next
// start brings everything. An agent that sleeps is brought up to date when it wakes. What cannot be synced now, the reconciler tries again.
// Faults: NotFound.
func (s *Service) Sync(ctx context.Context, account identity.AccountID, id identity.AgentID) (needsRestart bool, err error) {
	a, err := s.store.Find(ctx, s.db, account, id)
	if err != nil || !a.IsRunning() {
		return false, err
	}
	err = s.syncHome(ctx, id)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		s.log.WarnContext(ctx, "syncing an agent's home failed", "agent", id, "error", err)
		s.events.Notify(event.ReconcileTopic(id))
		return true, nil
	}
	if a, err = s.store.Find(ctx, s.db, account, id); err != nil || !a.IsRunning() {
		return false, err
	}
	return s.waitsForRestart(ctx, a)
}

// WithholdEdits overwrites what an agent has written into its own documents until now, if
// its edits do not become current; see Config.SelfEdit. Call it before a turn.
// Faults: NotFound.
func (s *Service) WithholdEdits(ctx context.Context, a Agent) error {
	if a.Config.SelfEdit() == workspace.SelfEditOn {
		return nil
	}
	_, err := s.Sync(ctx, a.AccountID, a.ID)
	return err
}

func (s *Service) syncHome(ctx context.Context, id identity.AgentID) error {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	return s.gateways.SyncHome(ctx, id)
}

// waitsForRestart reports whether a running agent lacks something until its next
// start.
func (s *Service) waitsForRestart(ctx context.Context, a Agent) (bool, error) {
	pending, err := s.workspace.Pending(ctx, s.db, a.AccountID, a.ID)
	if err != nil {
		return false, fmt.Errorf("compare documents: %w", err)
	}
	if len(pending) > 0 && !a.IsAsleep() { // they are written when it wakes
		return true, nil
	}
	return s.gateways.NeedsRestart(ctx, s.db, a)
}

// syncChange syncs a running agent after a change that is stored, and reports
// whether the change waits for a restart. An error becomes true: the change stands
// even if the caller has gone.
func (s *Service) syncChange(ctx context.Context, a Agent) (needsRestart bool) {
	needsRestart, err := s.Sync(ctx, a.AccountID, a.ID)
	return needsRestart || err != nil
}

// Absorb stores what the agent has written into its own documents until now. A caller
// that reads documents calls it first. Faults: NotFound.
func (s *Service) Absorb(ctx context.Context, account identity.AccountID, id identity.AgentID) error {
	a, err := s.store.Find(ctx, s.db, account, id)
	if err != nil || a.Place == "" { // without a gateway nothing writes into the home
		return err
	}
	return s.gateways.AbsorbEdits(ctx, id)
}

// Exists returns nil if the account has the agent. A caller that adds something to
// the agent passes the transaction in which it does. Faults: NotFound.
func (s *Service) Exists(ctx context.Context, q database.Reader, account identity.AccountID, id identity.AgentID) error {
	_, err := s.store.Find(ctx, q, account, id)
	return err
}
