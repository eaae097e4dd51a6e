package database

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"
)

// Tx is a transaction. It can read and change.
//
// A context that ends keeps further statements from being run, and the transaction from
// being committed. It does not interrupt a statement that runs: statements of
// transactions are short, and the driver would need a goroutine for each.
type Tx struct {
	db          *DB
	w           *writer
	rows        []*sql.Rows // closed at the end, if f has not: they would keep the connection
	afterCommit []func()
}

// ExecContext runs a statement that changes something.
func (tx *Tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx)
	if s := tx.w.statement(ctx, query); s != nil {
		return s.ExecContext(ctx, args...)
	}
	return tx.w.conn.ExecContext(ctx, query, args...)
}

// QueryContext implements Reader. The rows must be closed before the same query is made
// again.
func (tx *Tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx)
	var rows *sql.Rows
	var err error
	if s := tx.w.statement(ctx, query); s != nil {
		rows, err = s.QueryContext(ctx, args...)
	} else {
		rows, err = tx.w.conn.QueryContext(ctx, query, args...)
	}
	if err == nil {
		tx.rows = append(tx.rows, rows)
	}
	return rows, err
}

// QueryRowContext implements Reader.
func (tx *Tx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if ctx.Err() != nil {
		return tx.w.conn.QueryRowContext(ctx, query, args...) // only it can make a Row with ctx's error
	}
	ctx = context.WithoutCancel(ctx)
	if s := tx.w.statement(ctx, query); s != nil {
		return s.QueryRowContext(ctx, args...)
	}
	return tx.w.conn.QueryRowContext(ctx, query, args...)
}

// AfterCommit makes f run once the transaction is committed. It does not run if the
// transaction is rolled back.
func (tx *Tx) AfterCommit(f func()) { tx.afterCommit = append(tx.afterCommit, f) }

// Lock serialises the transactions that take the same lock, until they end. Take it
// before reading what the transaction then decides on, such as a count that a limit
// bounds or the highest version of a document. kind names the rule, id the thing that
// it is about.
//
// SQLite has one writer at a time, so the transaction itself is the lock and Lock has
// nothing to do. An engine with several writers takes an advisory lock here.
func (tx *Tx) Lock(ctx context.Context, _ LockKind, _ string) error { return ctx.Err() }

// LockKind is a rule whose transactions must not run at the same time.
type LockKind string

// The rules. An id is an account's unless stated otherwise.
const (
	LockAgents    LockKind = "agents"    // the plan's limit of agents
	LockAgent     LockKind = "agent"     // an agent's desired state, config and swarm; the agent
	LockClaim     LockKind = "claim"     // one owner per exclusive secret; its digest
	LockDataKey   LockKind = "data_key"  // one data key per owner of secrets; the owner
	LockDocuments LockKind = "documents" // versions of a document count up; the agent
	LockKeys      LockKind = "keys"      // the number of keys, and what each of them may
	LockKnowledge LockKind = "knowledge" // numbers and duplicates of a knowledge base; the agent or swarm
	LockMembers   LockKind = "members"   // the owners of an account, and how many people it has
	LockRequest   LockKind = "request"   // one execution per idempotency key; the actor and the key
	LockSession   LockKind = "session"   // one first session per caller of an agent; the agent
	LockSkills    LockKind = "skills"    // slots and names of an agent's skills; the agent
	LockSwarm     LockKind = "swarm"     // agents join no swarm that is being deleted; the swarm
	LockSwarms    LockKind = "swarms"    // the number of swarms, and their slugs
	LockUploads   LockKind = "uploads"   // quota and versions of uploaded skills
	LockWidgets   LockKind = "widgets"   // the number of chat widgets
)

// ErrNested is the error of a transaction that is started inside another one. It would
// wait for the other's end, and so for ever.
var ErrNested = errors.New("a transaction was started inside another one")

// inTx is the context key of the kind of the transaction that a context belongs to.
type inTx struct{}

// Tx runs f in a transaction of this kind, a name such as "agent.create". The
// transaction has the write lock from its start. It is committed if f returns nil, and
// rolled back otherwise. f uses the context that it gets: it must not call a gateway, a
// driver or the network.
// Errors: ErrNested; f's; of the database. Faults: Unavailable, if the database takes no
// writes; see Problem.
func (db *DB) Tx(ctx context.Context, kind string, f func(ctx context.Context, tx *Tx) error) error {
	return db.transact(ctx, kind, f, db.runTx)
}

// transact is Tx with the function that runs f in a transaction.
func (db *DB) transact(ctx context.Context, kind string, f func(context.Context, *Tx) error, run func(context.Context, string, func(context.Context, *Tx) error) (*Tx, error)) error {
	if outer, ok := ctx.Value(inTx{}).(string); ok {
		return fmt.Errorf("%w: %s inside %s", ErrNested, kind, outer)
	}
	if db.write == nil {
		return fmt.Errorf("%s: the database is open for reading only", kind)
	}
	tx, err := run(ctx, kind, f)
	if err != nil {
		return db.noteFailure(err)
	}
	for _, f := range tx.afterCommit {
		f()
	}
	return nil
}

// runTx waits for the connection that writes and runs f. If the disk is full, it may try
// again with what is reserved. It keeps the connection meanwhile, so that no other
// transaction takes that room.
func (db *DB) runTx(ctx context.Context, kind string, f func(context.Context, *Tx) error) (*Tx, error) {
	if err := db.acquire(ctx, kind); err != nil {
		return nil, err
	}
	defer db.writer.release()
	tx, err := db.tryTx(ctx, kind, f)
	if mayUseReserve(ctx) && db.isFull(err) && db.reserve.release() {
		tx, err = db.tryTx(ctx, kind, f)
		_ = db.reserve.fill() // Monitor tries again
	}
	return tx, err
}

// acquire waits for the connection that writes. The caller releases the writer.
func (db *DB) acquire(ctx context.Context, kind string) error {
	asked := time.Now()
	if err := db.writer.acquire(ctx, db.write); err != nil {
		return fmt.Errorf("begin %s: %w", kind, err)
	}
	if err := db.health.lockedSince(asked); err != nil {
		db.writer.release()
		return fmt.Errorf("begin %s: %w", kind, err)
	}
	return nil
}

// begin takes the write lock on the connection that writes.
func (db *DB) begin(ctx context.Context, kind string) error {
	if err := db.writer.run(ctx, "BEGIN IMMEDIATE"); err != nil {
		db.writer.rollBack() // BEGIN succeeds also if ctx ends while it runs
		db.health.noteLock(err)
		return fmt.Errorf("begin %s: %w", kind, err)
	}
	return nil
}

// tryTx runs f in a transaction on the connection that writes.
func (db *DB) tryTx(ctx context.Context, kind string, f func(context.Context, *Tx) error) (*Tx, error) {
	w := &db.writer
	if err := db.begin(ctx, kind); err != nil {
		return nil, err
	}
	if db.observe != nil {
		began := time.Now()
		defer func() { db.observe(kind, time.Since(began)) }()
	}
	tx, committed := &Tx{db: db, w: w}, false
	defer func() {
		if !committed { // f has failed or panicked, or COMMIT has failed
			tx.closeRows()
			w.rollBack()
		}
	}()
	if err := f(context.WithValue(ctx, inTx{}, kind), tx); err != nil {
		return nil, err
	}
	tx.closeRows()
	if err := w.commit(ctx); err != nil {
		return nil, fmt.Errorf("commit %s: %w", kind, err)
	}
	committed = true
	return tx, nil
}

func (tx *Tx) closeRows() {
	for _, rows := range tx.rows {
		_ = rows.Close() // whoever reads them has had the error
	}
}

// writer is the connection that changes the database, with its prepared statements.
// Preparing the statements of a short transaction on each run would take a third of its
// time. Between acquire and release, the caller may use the other fields.
type writer struct {
	idle     chan struct{} // has an element while no transaction runs
	closed   chan struct{} // closed with the database
	conn     *sql.Conn     // nil: not open
	prepared map[string]*sql.Stmt
}

func newWriter() writer {
	w := writer{idle: make(chan struct{}, 1), closed: make(chan struct{})}
	w.idle <- struct{}{}
	return w
}

var errClosed = errors.New("the database is closed")

// acquire waits until no transaction runs, and connects. The caller calls release.
func (w *writer) acquire(ctx context.Context, db *sql.DB) error {
	select {
	case <-w.idle:
	case <-w.closed:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	if w.conn != nil {
		return nil
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		w.release()
		return err
	}
	w.conn, w.prepared = conn, map[string]*sql.Stmt{}
	return nil
}

func (w *writer) release() { w.idle <- struct{}{} }

func (w *writer) commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return w.run(context.WithoutCancel(ctx), "COMMIT")
}

func (w *writer) run(ctx context.Context, query string) error {
	if s := w.statement(ctx, query); s != nil {
		_, err := s.ExecContext(ctx)
		return err
	}
	_, err := w.conn.ExecContext(ctx, query)
	return err
}

// rollBack ends a transaction without its changes. SQLite has already done so after some
// errors, such as a full disk. A connection that is still in a transaction afterwards is
// closed, which ends it: the next transaction opens another one.
func (w *writer) rollBack() {
	ctx := context.Background()
	if err := w.run(ctx, "ROLLBACK"); err == nil {
		return
	}
	if err := w.run(ctx, "BEGIN"); err == nil && w.run(ctx, "ROLLBACK") == nil {
		return // SQLite had rolled back itself
	}
	_ = w.conn.Raw(func(any) error { return driver.ErrBadConn }) // removes it from the pool
	_ = w.disconnect()
}

// statement returns the prepared statement of a query, or nil if it cannot be prepared or
// there are too many: then the caller runs the query itself, which returns the error of
// an invalid query.
func (w *writer) statement(ctx context.Context, query string) *sql.Stmt {
	s := w.prepared[query]
	if s != nil || len(w.prepared) >= maxPrepared {
		return s
	}
	s, err := w.conn.PrepareContext(ctx, query)
	if err != nil {
		return nil
	}
	w.prepared[query] = s
	return s
}

// close waits for the transaction that runs, and disconnects. No transaction starts after
// it.
func (w *writer) close() error {
	select {
	case <-w.idle:
	case <-w.closed:
		return nil
	}
	close(w.closed)
	return w.disconnect()
}

// disconnect closes the connection and its statements.
func (w *writer) disconnect() error {
	if w.conn == nil {
		return nil
	}
	var err error
	for _, s := range w.prepared {
		err = errors.Join(err, s.Close())
	}
	err = errors.Join(err, w.conn.Close())
	w.conn, w.prepared = nil, nil
	return err
}
