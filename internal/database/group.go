package database

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// groupSize is how many transactions of GroupTx are committed together, at most. The
// first waits for the last.
const groupSize = 32

// GroupTx is Tx for a transaction of a few short statements, of which many may come at
// once. Those that wait for the write lock at the same time are committed together, which
// writes each page that they change once. Otherwise they do not affect each other: one
// whose f fails is rolled back alone, and each returns after the commit that it is part
// of. An error of that commit is the error of all.
// Errors and faults: as for Tx.
func (db *DB) GroupTx(ctx context.Context, kind string, f func(ctx context.Context, tx *Tx) error) error {
	if mayUseReserve(ctx) { // it may have to run twice, with nobody else using the room
		return db.Tx(ctx, kind, f)
	}
	return db.transact(ctx, kind, f, db.runGroupTx)
}

// group is the transactions of GroupTx that wait. One of them at a time has, or waits
// for, the connection that writes.
type group struct {
	mu      sync.Mutex
	busy    bool          // one has its turn; guarded by mu
	waiting []chan *batch // guarded by mu
}

// batch is the transactions that are committed together. Only the one that has its turn
// uses it, until done is closed.
type batch struct {
	began int           // how many have begun
	kept  int           // how many are not rolled back
	err   error         // of all
	done  chan struct{} // closed after the commit
}

// wait waits for the caller's turn. It returns the batch that has begun, or nil if the
// caller begins one. The caller calls pass.
func (g *group) wait(ctx context.Context) (*batch, error) {
	g.mu.Lock()
	if !g.busy {
		g.busy = true
		g.mu.Unlock()
		return nil, nil
	}
	turn := make(chan *batch, 1)
	g.waiting = append(g.waiting, turn)
	g.mu.Unlock()
	select {
	case b := <-turn:
		return b, nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	i := slices.Index(g.waiting, turn)
	if i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
	g.mu.Unlock()
	if i >= 0 {
		return nil, ctx.Err()
	}
	return <-turn, nil
}

// pass gives the turn to the transaction that has waited longest, with the batch to
// continue or nil. It reports whether there is one.
func (g *group) pass(b *batch) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		g.busy = b != nil
		return false
	}
	g.waiting[0] <- b
	g.waiting = slices.Delete(g.waiting, 0, 1)
	return true
}

func (g *group) hasWaiting() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting) > 0
}

// runGroupTx is runTx for GroupTx.
func (db *DB) runGroupTx(ctx context.Context, kind string, f func(context.Context, *Tx) error) (*Tx, error) {
	b, err := db.group.wait(ctx)
	if err != nil {
		return nil, fmt.Errorf("begin %s: %w", kind, err)
	}
	if b == nil {
		if err := db.acquire(ctx, kind); err != nil {
			db.group.pass(nil)
			return nil, err
		}
		if !db.group.hasWaiting() {
			defer db.group.pass(nil)
			defer db.writer.release()
			return db.tryTx(ctx, kind, f)
		}
		if err := db.begin(ctx, kind); err != nil {
			db.writer.release()
			db.group.pass(nil)
			return nil, err
		}
		b = &batch{done: make(chan struct{})}
	}
	tx, err := db.runInBatch(ctx, kind, b, f)
	if err != nil {
		return nil, err
	}
	<-b.done
	if b.err != nil {
		return nil, fmt.Errorf("commit %s: %w", kind, b.err)
	}
	return tx, nil
}

// runInBatch runs f as one transaction of a batch, and ends the batch unless another one
// continues it. A savepoint separates f's changes from those of the others.
func (db *DB) runInBatch(ctx context.Context, kind string, b *batch, f func(context.Context, *Tx) error) (_ *Tx, err error) {
	w := &db.writer
	if db.observe != nil {
		began := time.Now()
		defer func() { db.observe(kind, time.Since(began)) }()
	}
	tx, kept := &Tx{db: db, w: w}, false
	b.began++
	defer func() {
		if !kept { // f has failed or panicked
			tx.closeRows()
			b.undo(w, err)
		}
		db.leave(b)
	}()
	if err := w.run(context.Background(), "SAVEPOINT tx"); err != nil {
		return nil, fmt.Errorf("begin %s: %w", kind, err)
	}
	if err := f(context.WithValue(ctx, inTx{}, kind), tx); err != nil {
		return nil, err
	}
	tx.closeRows()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("commit %s: %w", kind, err)
	}
	if err := w.run(context.Background(), "RELEASE tx"); err != nil {
		return nil, fmt.Errorf("commit %s: %w", kind, err)
	}
	kept = true
	b.kept++
	return tx, nil
}

// undo rolls back the transaction that has its turn, because of an error. If SQLite has
// rolled back the whole batch, as after an error of the disk, the others fail too.
func (b *batch) undo(w *writer, cause error) {
	err := w.run(context.Background(), "ROLLBACK TO tx")
	if err == nil {
		err = w.run(context.Background(), "RELEASE tx")
	}
	if err == nil {
		return
	}
	if _, ok := Diagnose(cause); ok {
		err = cause
	}
	b.err = err
}

// leave gives the batch to the next transaction, or ends it.
func (db *DB) leave(b *batch) {
	if b.err == nil && b.began < groupSize && db.group.pass(b) {
		return
	}
	w := &db.writer
	if b.err == nil && b.kept > 0 {
		b.err = w.run(context.Background(), "COMMIT")
	}
	if b.err != nil || b.kept == 0 {
		w.rollBack()
	}
	close(b.done)
	w.release()
	db.group.pass(nil)
}
