package chat

import (
	"context"
	"time"

	"agento.host/agento/internal/fault"
)

// followInterval is how often Follow reads a turn that another server holds, or that
// waits for its server to start it.
const followInterval = 100 * time.Millisecond

// Follow calls emit with each piece of the turn's answer whose number is greater than
// after, first those that are there and then new ones, until the turn ends. It returns
// the turn as it has ended; if Follow ends before, the returned turn has not ended.
// Pieces are kept for ten minutes after the end. After that the whole answer is one
// piece.
// Errors: emit's and ctx's. Faults: those of the turn, see Turn.Err; NotFound, if it was
// deleted; Conflict, if the pieces after that number are no longer kept.
func (s *Service) Follow(ctx context.Context, t Turn, after int64, emit func(seq int64, text string) error) (Turn, error) {
	for {
		if r := s.runs.find(t.ID); r != nil {
			return r.follow(ctx, after, emit)
		}
		t, err := findTurn(ctx, s.db, t.AccountID, t.AgentID, "", t.ID)
		if err != nil {
			return Turn{}, err
		}
		if t.Ended() {
			return s.replay(ctx, t, after, emit)
		}
		select {
		case <-time.After(followInterval):
		case <-ctx.Done():
			return Turn{}, ctx.Err()
		}
	}
}

// replay is Follow for a turn that has ended.
func (s *Service) replay(ctx context.Context, t Turn, after int64, emit func(seq int64, text string) error) (Turn, error) {
	if after >= t.LastSeq {
		return t, t.Err()
	}
	stored, err := s.readPieces(ctx, s.db, t)
	if err != nil {
		return Turn{}, err
	}
	for i, piece := range stored.pieces[min(after, int64(len(stored.pieces))):] {
		if err := emit(after+int64(i)+1, piece); err != nil {
			return Turn{}, err
		}
	}
	if len(stored.pieces) > 0 {
		return t, t.Err()
	}
	if after > 0 {
		return Turn{}, fault.New(fault.Conflict, "The pieces of this turn are no longer kept. Read its text with GET /v1/agents/%s/chat/turns/%s.", t.AgentID, t.ID)
	}
	text, err := s.answerOf(ctx, s.db, t)
	if err != nil {
		return Turn{}, err
	}
	if err := emit(t.LastSeq, text); err != nil {
		return Turn{}, err
	}
	return t, t.Err()
}
