package chat

import (
	"context"
	"errors"
	"slices"
	"time"

	"agento.host/agento/internal/database"
)

const (
	// pieceInterval is the least time between two transactions that store pieces, unless
	// one of them stores the first of a turn. The gateway sends a piece every 75 ms or so.
	pieceInterval = 25 * time.Millisecond
	// pieceRetry is the pause after a transaction that failed.
	pieceRetry = 500 * time.Millisecond
	// pieceBatchSize is for how many turns one transaction stores pieces. It takes about
	// 3 ms, in which other writers wait for the write lock.
	pieceBatchSize = 50
)

// wakePieceLoop says that there is a piece to store.
func (s *Service) wakePieceLoop() {
	select {
	case s.pieces <- struct{}{}:
	default: // the loop will see the piece
	}
}

// storeFirstPiece stores the first piece of a turn at once: its reader has waited for long
// enough.
func (s *Service) storeFirstPiece(ctx context.Context, r *run) error {
	s.piecesStored.Store(time.Now().UnixNano())
	return s.db.GroupTx(context.WithoutCancel(ctx), "chat.store_pieces", func(ctx context.Context, tx *database.Tx) error {
		return s.storePiecesOf(ctx, tx, r)
	})
}

// storePiecesAsTheyCome stores the pieces of running turns until ctx ends. Pieces that
// come in the meantime are stored together in the next transaction.
func (s *Service) storePiecesAsTheyCome(ctx context.Context) {
	interval := s.pieceInterval
	for {
		select {
		case <-s.pieces:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(time.Until(time.Unix(0, s.piecesStored.Load()).Add(interval))):
		case <-ctx.Done():
		}
		s.piecesStored.Store(time.Now().UnixNano())
		interval = s.pieceInterval
		if err := s.storePieces(ctx); err != nil {
			s.report(ctx, "storing the text of turns failed", err)
			interval = pieceRetry
			s.wakePieceLoop()
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
	held, err := s.appendPieces(ctx, tx, r.current(), seq, pieces, now())
	if errors.Is(err, errNotSealed) {
		r.stop(err) // and the pieces of other turns are stored
		return nil
	}
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
