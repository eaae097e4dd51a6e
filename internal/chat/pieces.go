package chat

import (
	"context"
	"slices"
	"time"

	"agento.host/agento/internal/database"
)

const (
	// pieceInterval is the least time between two transactions that store pieces, unless
	// one of them is the first of its turn: its reader has waited for long enough. The
	// gateway sends a piece every 75 ms or so.
	pieceInterval = 25 * time.Millisecond
	// pieceRetry is the pause after a transaction that failed.
	pieceRetry = 500 * time.Millisecond
	// pieceBatchSize is for how many turns one transaction stores pieces. It takes about
	// 3 ms, in which other writers wait for the write lock.
	pieceBatchSize = 50
)

// pieceSignal wakes the loop that stores pieces. Both channels have room for one element.
type pieceSignal struct {
	first chan struct{} // there is the first piece of a turn
	more  chan struct{} // there is another piece
}

func newPieceSignal() pieceSignal {
	return pieceSignal{first: make(chan struct{}, 1), more: make(chan struct{}, 1)}
}

// add says that a piece was appended to the answer of a turn.
func (p pieceSignal) add(first bool) {
	c := p.more
	if first {
		c = p.first
	}
	select {
	case c <- struct{}{}:
	default: // the loop will see the piece
	}
}

// storePiecesAsTheyCome stores the pieces of running turns until ctx ends. Pieces that
// come while a transaction runs are stored together in the next one.
func (s *Service) storePiecesAsTheyCome(ctx context.Context) {
	next := time.Now()
	for {
		select {
		case <-s.pieces.first:
		case <-s.pieces.more:
			select {
			case <-time.After(time.Until(next)):
			case <-s.pieces.first:
			case <-ctx.Done():
			}
		case <-ctx.Done():
			return
		}
		next = time.Now().Add(s.pieceInterval)
		if err := s.storePieces(ctx); err != nil {
			s.report(ctx, "storing the text of turns failed", err)
			next = time.Now().Add(pieceRetry)
			s.pieces.add(false)
		}
	}
}

// storePieces stores all pieces that are not stored yet, those of many turns in one
// transaction.
func (s *Service) storePieces(ctx context.Context) error {
	var due []*run
	for _, r := range s.runs.allRunning() {
		if _, pieces := r.unstored(); len(pieces) > 0 {
			due = append(due, r)
		}
	}
	for batch := range slices.Chunk(due, pieceBatchSize) {
		err := s.db.GroupTx(ctx, "chat.store_pieces", func(ctx context.Context, tx *database.Tx) error {
			for _, r := range batch {
				if err := s.storePiecesOf(ctx, tx, r); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) storePiecesOf(ctx context.Context, tx *database.Tx, r *run) error {
	seq, pieces := r.unstored()
	held, err := appendPieces(ctx, tx, r.id(), seq, pieces, s.holder, now())
	if err != nil {
		return err
	}
	if !held {
		r.stop(errLost)
		return nil
	}
	tx.AfterCommit(func() { r.setStored(seq - 1 + len(pieces)) })
	return nil
}
