// Package accountstate makes what an account has follow what the operator has decided about it,
// which package access stores: it stops the agents of an account that is disabled, starts them
// again when it is enabled, and removes everything of an account that is deleted.
package accountstate

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
)

const (
	// waitInterval is how often the agents of a deleted account are counted.
	waitInterval = time.Second
	// retryInterval is how long an account waits for which something has failed.
	retryInterval = 10 * time.Second
)

// Settings configure a Service. All fields are required.
type Settings struct {
	DB       *database.DB
	Events   *event.Log
	Accounts *access.Service
	Agents   *agent.Service
	Log      *slog.Logger
}

// Service carries out the states of accounts.
type Service struct {
	Settings
}

// New returns a Service. Its Run does the work.
func New(s Settings) *Service { return &Service{s} }

// Recover stores what the agents of every account are to do whose state may not have been
// carried out. Call it before the reconciler runs, so that no agent of a disabled account is
// started. What fails, Run tries again.
func (s *Service) Recover(ctx context.Context) error {
	accounts, err := s.unfinished(ctx)
	if err != nil {
		return err
	}
	for _, a := range accounts {
		if _, err := s.steer(ctx, a); err != nil { // a server also starts on a full disk
			s.Log.WarnContext(ctx, "the state of an account is not carried out yet; it is tried again", "account", a.ID, "error", err)
		}
	}
	return nil
}

// Run carries out the states of accounts until ctx ends. What a process before this one has
// begun is finished first.
func (s *Service) Run(ctx context.Context) error {
	changed := s.Events.SubscribePrefix(access.AccountTopicPrefix)
	defer changed.Close()
	pending := map[identity.AccountID]time.Time{} // when each is looked at again
	accounts, err := s.unfinished(ctx)
	if err != nil && ctx.Err() == nil {
		return err
	}
	for _, a := range accounts {
		pending[a.ID] = time.Time{}
	}
	tick := time.NewTicker(waitInterval)
	defer tick.Stop()
	for {
		s.advance(ctx, pending)
		wait := tick.C
		if len(pending) == 0 {
			wait = nil
		}
		select {
		case <-changed.Ready():
			for _, topic := range changed.Take() {
				pending[identity.AccountID(topic.ID())] = time.Time{}
			}
		case <-wait:
		case <-ctx.Done():
			return nil
		}
	}
}

// unfinished returns the accounts whose state may not have been carried out.
func (s *Service) unfinished(ctx context.Context) ([]access.Account, error) {
	closed, err := s.Accounts.ClosedAccounts(ctx)
	if err != nil {
		return nil, err
	}
	ids, err := s.Agents.AccountsToResume(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the accounts whose agents are to start again: %w", err)
	}
	resuming, err := s.Accounts.AccountsNamed(ctx, ids)
	if err != nil {
		return nil, err
	}
	return append(closed, slices.DeleteFunc(resuming, func(a access.Account) bool { return a.State() != access.AccountActive })...), nil
}

// advance looks at the accounts that are due, and removes those from pending whose state is
// carried out.
func (s *Service) advance(ctx context.Context, pending map[identity.AccountID]time.Time) {
	at := time.Now()
	for _, id := range slices.Sorted(maps.Keys(pending)) {
		if pending[id].After(at) {
			continue
		}
		done, err := s.carryOut(ctx, id)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.Log.WarnContext(ctx, "the state of an account is not carried out yet; it is tried again", "account", id, "error", err)
			pending[id] = at.Add(retryInterval)
		case done:
			delete(pending, id)
		}
	}
}

// carryOut does for an account what can be done now. done reports whether nothing is left.
func (s *Service) carryOut(ctx context.Context, id identity.AccountID) (done bool, err error) {
	found, err := s.Accounts.AccountsNamed(ctx, []identity.AccountID{id})
	if err != nil || len(found) == 0 {
		return true, err
	}
	agents, err := s.steer(ctx, found[0])
	if err != nil || found[0].State() != access.AccountDeleted {
		return true, err
	}
	if agents > 0 {
		return false, nil
	}
	if err := s.DB.DeleteAccount(ctx, string(id)); err != nil {
		return false, err
	}
	return true, s.Accounts.MarkRemoved(ctx, id)
}

// steer stores what the agents of an account are to do, and returns how many are left of a
// deleted one.
func (s *Service) steer(ctx context.Context, a access.Account) (left int, err error) {
	switch a.State() {
	case access.AccountDeleted:
		return s.Agents.DeleteAll(ctx, a.ID)
	case access.AccountDisabled:
		return 0, s.Agents.StopAll(ctx, a.ID)
	}
	return 0, s.Agents.ResumeAll(ctx, a.ID)
}
