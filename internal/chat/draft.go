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

// draftEvery is Settings.DraftEvery, unless told otherwise: what a death of the
// server costs of an answer, against a write for each answer that grows.
const draftEvery = 2 * time.Second

// draftBatch is how many drafts a transaction writes: in the 3 ms that it takes, a
// message that comes waits for the write lock.
const draftBatch = 50

// answer is what an agent has said so far in a turn that runs.
type answer struct {
	session Session

	mu      sync.Mutex
	text    strings.Builder // guarded by mu
	kept    int             // how much of text its draft has; guarded by mu
	at      time.Time       // when its draft was written, or it began; guarded by mu
	drafted bool            // there may be a draft; guarded by mu
	over    bool            // it gets no draft any more; guarded by mu
}

// answering begins the answer of a session's turn. While it lasts the session's
// peer is known to Split, and what is added is saved by KeepDrafts; conclude ends it.
func (s *Service) answering(v Session) *answer {
	a := &answer{session: v, at: time.Now()}
	s.answers.Store(v.ID, a)
	return a
}

func (a *answer) add(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.text.WriteString(text)
}

// due says whether the answer has grown since its draft was written, a while ago.
func (a *answer) due(now time.Time, while time.Duration) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.over && a.text.Len() > a.kept && now.Sub(a.at) >= while
}

// draft is the text for a draft, if the turn still runs. It is asked while the
// database's write lock is held: a turn that ends later removes the draft, one that
// has ended gets none.
func (a *answer) draft() (text string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return "", false
	}
	a.drafted = true
	return a.text.String(), true
}

// saved notes that a draft of n bytes was written.
func (a *answer) saved(n int, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kept, a.at = n, now
}

// end returns the whole text, and whether there may be a draft of it.
func (a *answer) end() (text string, drafted bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	return a.text.String(), a.drafted
}

// conclude records the answer in place of its draft, also if it was cut short.
func (s *Service) conclude(ctx context.Context, a *answer) {
	ctx = context.WithoutCancel(ctx) // the client may be gone; what the agent said is kept all the same
	defer s.answers.Delete(a.session.ID)
	text, drafted := a.end()
	if text == "" {
		return
	}
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		if _, err := add(ctx, tx, a.session, Message{Role: "assistant", Content: text, At: time.Now().UTC()}, ""); err != nil {
			return err
		}
		if !drafted {
			return nil
		}
		return dropDraft(ctx, tx, a.session)
	})
	if err != nil && !s.deleted(ctx, a.session) {
		s.Log.ErrorContext(ctx, "keeping an answer failed", "agent", a.session.AgentID, "session", a.session.ID, "error", err)
	}
}

// deleted says whether the session went with its agent, as it may while it speaks.
func (s *Service) deleted(ctx context.Context, v Session) bool {
	_, err := find(ctx, s.DB, v.AccountID, v.AgentID, v.ID, "")
	return fault.Is(err, fault.NotFound)
}

// KeepDrafts saves answers while they grow, each at most once in DraftEvery, until
// ctx ends: when the server dies, Recover finds all but the last words of them. No
// turn waits for it, and a turn that is over sooner has no draft.
func (s *Service) KeepDrafts(ctx context.Context) error {
	look := time.NewTicker(max(s.DraftEvery/2, 1))
	defer look.Stop()
	for {
		select {
		case now := <-look.C:
			if err := s.saveDrafts(ctx, now); err != nil && ctx.Err() == nil {
				s.Log.ErrorContext(ctx, "saving answers that grow failed", "error", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// saveDrafts writes all drafts that are due, many in one transaction.
func (s *Service) saveDrafts(ctx context.Context, now time.Time) error {
	var due []*answer
	for _, v := range s.answers.Range {
		if a, ok := v.(*answer); ok && a.due(now, s.DraftEvery) {
			due = append(due, a)
		}
	}
	for batch := range slices.Chunk(due, draftBatch) {
		err := s.DB.Tx(ctx, func(tx *database.Tx) error { return writeDrafts(ctx, tx, batch, now) })
		if err != nil {
			return err
		}
	}
	return nil
}

func writeDrafts(ctx context.Context, tx *database.Tx, answers []*answer, now time.Time) error {
	for _, a := range answers {
		text, ok := a.draft()
		if !ok {
			continue
		}
		if err := putDraft(ctx, tx, a.session, text, now); err != nil {
			return err
		}
		tx.AfterCommit(func() { a.saved(len(text), now) })
	}
	return nil
}

// Recover makes messages of the answers that a server was in the middle of when it
// died, of the time when they were saved. It comes before the first turn.
func (s *Service) Recover(ctx context.Context) error {
	var n int64
	err := s.DB.Tx(ctx, func(tx *database.Tx) (err error) {
		n, err = publishDrafts(ctx, tx)
		return err
	})
	if err != nil {
		return fmt.Errorf("recover answers that were cut off: %w", err)
	}
	if n > 0 {
		s.Log.InfoContext(ctx, "answers that were cut off by the server's end are kept", "answers", n)
	}
	return nil
}
