package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/trace"
)

const (
	// leaseInterval is how often leases are renewed, and turns whose holder is gone are
	// looked for.
	leaseInterval = time.Second
	// pruneInterval is how often the pieces of ended turns are deleted.
	pruneInterval = time.Minute
)

// Run stores the pieces of running turns, renews their leases, cancels the turns of revoked
// API keys, and takes over turns that other servers have left, until ctx ends. Then it stops the running turns, which fail as
// interrupted, and waits for them.
func (s *Service) Run(ctx context.Context) error {
	s.runs.stopWith(ctx)
	defer s.runs.stop()
	var storing sync.WaitGroup
	storing.Go(func() { s.storePiecesAsTheyCome(ctx) })
	defer storing.Wait()
	leases, prune := time.NewTicker(leaseInterval), time.NewTicker(pruneInterval)
	defer leases.Stop()
	defer prune.Stop()
	s.report(ctx, "cancelling turns of revoked keys failed", s.cancelOfEndedKeys(ctx))
	s.report(ctx, "starting turns that wait failed", s.startWaiting(ctx))
	for {
		select {
		case <-leases.C:
			s.report(ctx, "renewing leases of turns failed", s.renewLeases(ctx))
			s.report(ctx, "cancelling turns of revoked keys failed", s.cancelOfEndedKeys(ctx))
			s.report(ctx, "taking over turns failed", s.takeOverAbandoned(ctx, ""))
			s.report(ctx, "starting turns that wait failed", s.startWaiting(ctx))
		case <-prune.C:
			s.report(ctx, "deleting the pieces of turns failed", s.prunePieces(ctx))
			s.report(ctx, "deleting what repeated requests find failed", s.prunePrompts(ctx))
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Service) report(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil {
		s.log.ErrorContext(ctx, what, "error", err)
	}
}

// renewLeases extends the leases of the turns that this server runs, and stops those that
// it does not hold any more.
func (s *Service) renewLeases(ctx context.Context) error {
	running := s.runs.allRunning()
	if len(running) == 0 {
		return nil
	}
	var held []identity.TurnID
	err := s.db.Tx(ctx, "chat.renew_leases", func(ctx context.Context, tx *database.Tx) (err error) {
		held, err = renewLeases(ctx, tx, s.holder, now())
		return err
	})
	if err != nil {
		return err
	}
	for _, r := range running {
		if !slices.Contains(held, r.id()) {
			r.stop(errLost)
		}
	}
	return nil
}

// takeOver ends a turn whose holder is gone, or that is held by a server other than this
// one, with the text that is stored. end returns the end for a number of pieces.
// Errors: errNotHeld, if the holder of the turn lives.
func (s *Service) takeOver(ctx context.Context, tx *database.Tx, t Turn, end func(pieces int) Turn, alive string) (Turn, error) {
	stored, err := s.readPieces(ctx, tx, t)
	if err != nil {
		return t, err
	}
	ended := end(len(stored.pieces))
	answer, err := s.storeMessages(ctx, tx, ended, stored.text(), stored.at)
	if err != nil {
		return t, err
	}
	s.notify(tx, t)
	ok, err := endAbandonedTurn(ctx, tx, ended, answer, alive)
	if err != nil {
		return t, err
	}
	if !ok {
		return t, errNotHeld
	}
	return ended, nil
}

// takeOverAbandoned ends the turns whose lease has expired as interrupted. If alive is not
// empty, it ends the turns of every other holder.
func (s *Service) takeOverAbandoned(ctx context.Context, alive string) error {
	abandoned, err := abandonedTurns(ctx, s.db, alive, now())
	if err != nil {
		return err
	}
	for _, t := range abandoned {
		err := s.db.Tx(ctx, "chat.take_over_abandoned", func(ctx context.Context, tx *database.Tx) error {
			_, err := s.takeOver(ctx, tx, t, func(pieces int) Turn { return t.interrupted(pieces, now()) }, alive)
			return err
		})
		if err != nil && !errors.Is(err, errNotHeld) {
			return err
		}
	}
	if len(abandoned) > 0 {
		s.log.InfoContext(ctx, "ended turns that another server did not finish", "turns", len(abandoned))
	}
	return nil
}

// startWaiting starts the queued turns that wait for no other one, as after a restart.
// Those that have waited for too long fail.
func (s *Service) startWaiting(ctx context.Context) error {
	waiting, err := waitingTurns(ctx, s.db)
	if err != nil {
		return err
	}
	for _, t := range waiting {
		if now().Sub(t.CreatedAt) > maxWait {
			err = s.endQueued(ctx, t.expired(now()))
		} else {
			err = s.startNext(ctx, t.SessionID)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// cancelOfEndedKeys cancels the turns of API keys that were revoked: those that wait, and
// those that this server runs. It does not wait for the latter.
func (s *Service) cancelOfEndedKeys(ctx context.Context) error {
	keys, err := keysOfOpenTurns(ctx, s.db)
	if err != nil || len(keys) == 0 {
		return err
	}
	ended, err := s.keys.EndedKeys(ctx, keys)
	if err != nil {
		return err
	}
	for _, key := range ended {
		turns, err := openTurnsOf(ctx, s.db, key)
		if err != nil {
			return err
		}
		for _, t := range turns {
			if t.State == Queued {
				if err := s.endQueued(ctx, t.ended(Cancelled, stopCancelled, 0, now())); err != nil {
					return err
				}
			} else if r := s.runs.find(t.ID); r != nil {
				r.stop(errCancelled)
			}
		}
	}
	return nil
}

func (s *Service) endQueued(ctx context.Context, t Turn) error {
	var ended bool
	err := s.db.Tx(ctx, "chat.end_queued", func(ctx context.Context, tx *database.Tx) (err error) {
		s.notify(tx, t)
		ended, err = endQueuedTurn(ctx, tx, t)
		return err
	})
	if ended && err == nil {
		s.runs.end(t)
	}
	return err
}

// startNext starts the first queued turn of a session, unless one runs.
func (s *Service) startNext(ctx context.Context, id identity.SessionID) error {
	var t Turn
	var session Session
	err := s.db.Tx(ctx, "chat.start_next", func(ctx context.Context, tx *database.Tx) (err error) {
		t, session, err = s.claim(ctx, tx, id)
		return err
	})
	if err == nil && t.ID != "" {
		s.runs.start(t, session, trace.Parent{}, s.answer)
	}
	return err
}

func (s *Service) prunePieces(ctx context.Context) error {
	before := now().Add(-replayTime)
	ended, err := endedTurnsWithPieces(ctx, s.db, before)
	for more := len(ended) > 0; more && err == nil; {
		err = s.db.Tx(ctx, "chat.prune_pieces", func(ctx context.Context, tx *database.Tx) (err error) {
			more, err = deletePieces(ctx, tx, before)
			return err
		})
	}
	return err
}

// EndOpenTurns ends every turn that waits or runs, with the text that is stored, and the
// leases of everybody who reads channels. It is for a database that was restored from a
// backup and that no server uses: of Settings, it needs DB, Vault and Log.
func (s *Service) EndOpenTurns(ctx context.Context) (ended int, err error) {
	running, err := abandonedTurns(ctx, s.db, s.holder, now())
	if err != nil {
		return 0, err
	}
	for _, t := range running {
		err := s.db.Tx(ctx, "chat.end_restored", func(ctx context.Context, tx *database.Tx) error {
			_, err := s.takeOver(ctx, tx, t, func(pieces int) Turn { return t.restored(pieces, now()) }, s.holder)
			return err
		})
		if err != nil {
			return ended, fmt.Errorf("end a turn that ran: %w", err)
		}
		ended++
	}
	waiting, err := queuedTurns(ctx, s.db, "")
	if err != nil {
		return ended, err
	}
	for _, t := range waiting {
		if err := s.endQueued(ctx, t.restored(0, now())); err != nil {
			return ended, fmt.Errorf("end a turn that waited: %w", err)
		}
		ended++
	}
	return ended, s.db.Tx(ctx, "chat.end_readers", func(ctx context.Context, tx *database.Tx) error {
		return endReaders(ctx, tx, s.holder, true)
	})
}

// Recover ends the turns that earlier servers on this data directory did not finish: its
// lock proves that they are gone. Their text becomes messages of the history, and their
// channels can be read. Queued turns stay queued, except those whose reader was to keep them alive. Recover must
// return before the first turn.
func (s *Service) Recover(ctx context.Context) error {
	if err := s.takeOverAbandoned(ctx, s.holder); err != nil {
		return fmt.Errorf("recover unfinished turns: %w", err)
	}
	err := s.db.Tx(ctx, "chat.recover_readers", func(ctx context.Context, tx *database.Tx) error {
		return endReaders(ctx, tx, s.holder, true)
	})
	if err != nil {
		return err
	}
	waiting, err := queuedTurns(ctx, s.db, cancelOnDisconnect)
	for _, t := range waiting {
		if err == nil {
			err = s.endQueued(ctx, t.ended(Cancelled, stopCancelled, 0, now()))
		}
	}
	if err != nil {
		return fmt.Errorf("cancel queued turns without a reader: %w", err)
	}
	return nil
}
