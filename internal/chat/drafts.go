package chat

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
)

// defaultDraftInterval is a compromise: if the server dies, an answer loses at most the
// text of this time; each growing answer costs one write in this time.
const defaultDraftInterval = 2 * time.Second

// draftBatchSize is how many drafts one transaction writes. It takes about 3 ms, in
// which other writers wait for the write lock.
const draftBatchSize = 50

// runningTurn is a turn that is being answered, with the answer so far.
type runningTurn struct {
	session Session

	mu       sync.Mutex
	text     strings.Builder // guarded by mu
	saved    int             // how many bytes of text the draft has; guarded by mu
	savedAt  time.Time       // when the draft was saved, or the turn started; guarded by mu
	hasDraft bool            // there may be a draft; guarded by mu
	ended    bool            // no further draft may be saved; guarded by mu
}

// startTurn registers a turn of the session. Until finishTurn, Attribute knows the
// session's peer and Run saves the answer.
func (s *Service) startTurn(v Session) *runningTurn {
	r := &runningTurn{session: v, savedAt: time.Now()}
	s.running.Store(v.ID, r)
	return r
}

func (r *runningTurn) append(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text.WriteString(text)
}

// needsSave reports whether the answer has grown since its draft was saved, and that
// was at least interval ago.
func (r *runningTurn) needsSave(now time.Time, interval time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.ended && r.text.Len() > r.saved && now.Sub(r.savedAt) >= interval
}

// draft returns the text to save as a draft. ok is false if the turn has ended. The
// caller holds the database's write lock: a turn that ends later deletes the draft in
// a later transaction, and a turn that has ended gets none.
func (r *runningTurn) draft() (text string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return "", false
	}
	r.hasDraft = true
	return r.text.String(), true
}

// setSaved records that a draft of n bytes was saved.
func (r *runningTurn) setSaved(n int, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.saved, r.savedAt = n, now
}

// end returns the whole answer and whether there may be a draft of it.
func (r *runningTurn) end() (text string, hasDraft bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	return r.text.String(), r.hasDraft
}

// finishTurn saves the answer as a message and deletes its draft, also if the turn was
// interrupted.
func (s *Service) finishTurn(ctx context.Context, r *runningTurn) {
	ctx = context.WithoutCancel(ctx) // the answer is saved even if the client disconnected
	defer s.running.Delete(r.session.ID)
	text, hasDraft := r.end()
	if text == "" {
		return
	}
	err := s.db.Tx(ctx, "chat.finish_turn", func(ctx context.Context, tx *database.Tx) error {
		if _, err := insertMessage(ctx, tx, r.session, Message{Role: "assistant", Content: text, At: time.Now().UTC()}, ""); err != nil {
			return err
		}
		if !hasDraft {
			return nil
		}
		return deleteDraft(ctx, tx, r.session)
	})
	if err != nil && !s.isDeleted(ctx, r.session) {
		s.log.ErrorContext(ctx, "saving an answer failed", "agent", r.session.AgentID, "session", r.session.ID, "error", err)
	}
}

// isDeleted reports whether the session was deleted with its agent, which can happen
// during a turn.
func (s *Service) isDeleted(ctx context.Context, v Session) bool {
	_, err := findSession(ctx, s.db, v.AccountID, v.AgentID, v.ID, "")
	return fault.Is(err, fault.NotFound)
}

// Run saves drafts of growing answers, each at most once in the draft interval, until
// ctx ends. If the server dies, Recover finds all but the last words of each answer.
// Turns do not wait for Run, and a turn shorter than the interval gets no draft.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(max(s.draftInterval/2, 1))
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			if err := s.saveDrafts(ctx, now); err != nil && ctx.Err() == nil {
				s.log.ErrorContext(ctx, "saving drafts of answers failed", "error", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// saveDrafts saves all drafts that are due, many in one transaction.
func (s *Service) saveDrafts(ctx context.Context, now time.Time) error {
	var due []*runningTurn
	for _, v := range s.running.Range {
		if r, ok := v.(*runningTurn); ok && r.needsSave(now, s.draftInterval) {
			due = append(due, r)
		}
	}
	for batch := range slices.Chunk(due, draftBatchSize) {
		err := s.db.Tx(ctx, "chat.save_drafts", func(ctx context.Context, tx *database.Tx) error { return saveDraftsOf(ctx, tx, batch, now) })
		if err != nil {
			return err
		}
	}
	return nil
}

func saveDraftsOf(ctx context.Context, tx *database.Tx, turns []*runningTurn, now time.Time) error {
	for _, r := range turns {
		text, ok := r.draft()
		if !ok {
			continue
		}
		if err := saveDraft(ctx, tx, r.session, text, now); err != nil {
			return err
		}
		tx.AfterCommit(func() { r.setSaved(len(text), now) })
	}
	return nil
}

// Recover turns the drafts of a server that died into messages, with the times at
// which they were saved. It must return before the first turn.
func (s *Service) Recover(ctx context.Context) error {
	var n int64
	err := s.db.Tx(ctx, "chat.recover", func(ctx context.Context, tx *database.Tx) (err error) {
		n, err = convertDrafts(ctx, tx)
		return err
	})
	if err != nil {
		return fmt.Errorf("recover unfinished answers: %w", err)
	}
	if n > 0 {
		s.log.InfoContext(ctx, "recovered answers that the previous server did not finish", "answers", n)
	}
	return nil
}
