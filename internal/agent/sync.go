package agent

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
)

// syncTime bounds how long a caller waits for a home to be brought up to date.
const syncTime = 5 * time.Second

// Sync brings a running agent up to date now: its documents, skills and channel
// tokens are live when it returns. The answer says whether something waits for a
// restart all the same; for an agent that does not run it is false, since its next
// start brings everything. What cannot be delivered now is tried again by the
// reconciler. Faults: NotFound.
func (s *Service) Sync(ctx context.Context, who access.Principal, id string) (needsRestart bool, err error) {
	a, err := find(ctx, s.DB, string(who.AccountID), id)
	if err != nil || !runs(a) {
		return false, err
	}
	err = s.syncNow(ctx, id)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		s.Log.WarnContext(ctx, "giving an agent what is new at once failed", "agent", id, "error", err)
		s.reconciler.Nudge(id)
		return true, nil
	}
	if a, err = find(ctx, s.DB, string(who.AccountID), id); err != nil || !runs(a) {
		return false, err
	}
	return s.waits(ctx, a)
}

func runs(a Agent) bool {
	return a.Wanted == WantRunning && a.Status == client.Running && a.Place != ""
}

func (s *Service) syncNow(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, syncTime)
	defer cancel()
	return s.body.sync(ctx, id)
}

// waits says whether an agent that runs lacks something until its next start.
func (s *Service) waits(ctx context.Context, a Agent) (bool, error) {
	pending, err := s.Workspace.Pending(ctx, s.DB, a.account(), a.id())
	if err != nil {
		return false, fmt.Errorf("compare documents: %w", err)
	}
	if len(pending) > 0 {
		return true, nil
	}
	return s.body.stale(ctx, s.DB, a)
}

// Absorb takes over what the agent has written into its own documents until now,
// so that they can be read as they are. An agent without a gateway has nothing
// new. Faults: NotFound.
func (s *Service) Absorb(ctx context.Context, who access.Principal, id string) error {
	a, err := find(ctx, s.DB, string(who.AccountID), id)
	if err != nil || a.Place == "" {
		return err
	}
	leave, err := s.body.homes.enter(ctx, id)
	if err != nil {
		return err
	}
	defer leave()
	if a, err = findAny(ctx, s.DB, id); errors.Is(err, sql.ErrNoRows) {
		return nil // deleted meanwhile: the caller's next look says so
	}
	if err == nil && a.Place != "" && a.Wanted != WantDeleted {
		s.body.takeOver(ctx, a)
	}
	return err
}
