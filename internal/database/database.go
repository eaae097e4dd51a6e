// Package database opens the database, migrates its schema and runs transactions. It
// contains no SQL of a feature: each package has its own SQL beside its rules.
package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"runtime"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver named sqlite

	_ "agento.host/agento/internal/fulltext" // the SQL functions of the triggers
)

// Settings configure Open.
type Settings struct {
	Path string // the SQLite file
	Log  *slog.Logger
	// ReadOnly opens the database without changing any file: Tx returns an error. No
	// other process may change the database meanwhile.
	ReadOnly bool
	// Observe is called after each transaction with its kind, and how long it had the
	// write lock. It must not block. Nil: not called.
	Observe func(kind string, held time.Duration)
}

// Reader runs queries that read. It is a *DB or a *Tx. Changes need a *Tx, so the
// compiler refuses a write on the reading side.
type Reader interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// DB is an open database whose schema is this program's. It reads; changes go through
// Tx.
type DB struct {
	read  *sql.DB
	write *sql.DB // one connection: SQLite has one writer; nil if read-only

	writer writer
	group  group

	log     *slog.Logger
	observe func(kind string, held time.Duration) // may be nil
	erased  chan struct{}                         // has a value if something was erased since the last pass of Run
	cleanUp func() error                          // removes what opening a read-only database left; may be nil
	damage  *damageLog

	path    string
	health  health
	reserve *reserve

	installation string        // the id of the installation; see Installation
	active       chan struct{} // closed when the installation is not quiet; see Active
	endQuiet     func()        // closes active, once

	mu       sync.RWMutex
	prepared map[string]*sql.Stmt // on read, by query; guarded by mu
}

// maxPrepared bounds the number of prepared statements. The program has fewer queries,
// except for those that are built from a filter.
const maxPrepared = 500

// pragmas: with WAL, readers do not wait for the writer or another process; busy_timeout
// waits for another program that writes, but not longer than a caller may wait for a
// response; synchronous=NORMAL loses nothing if the process crashes; secure_delete
// overwrites what is deleted (see Tx.Erase).
const pragmas = "mode=rw&_pragma=journal_mode(WAL)&_pragma=busy_timeout(4000)&_pragma=synchronous(NORMAL)&_pragma=foreign_keys(1)&_pragma=secure_delete(1)&_pragma=cache_size(-16000)&_time_format=sqlite"

// Open opens a database that Migrate has created. It neither creates nor migrates: it
// refuses a file that is missing, and a schema that is not this program's. Several
// processes may have the database open at the same time. The caller closes the DB.
func Open(ctx context.Context, s Settings) (*DB, error) {
	db, err := open(ctx, s, embedded())
	if err != nil {
		return nil, err
	}
	r, err := db.Restored(ctx)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if r.QuietSince.IsZero() {
		db.endQuiet()
	}
	return db, nil
}

func open(ctx context.Context, s Settings, known []migration) (*DB, error) {
	if err := checkFile(s.Path); err != nil {
		return nil, err
	}
	db := &DB{
		path: s.Path, writer: newWriter(), reserve: newReserve(s.Path), prepared: map[string]*sql.Stmt{}, log: s.Log, observe: s.Observe, erased: make(chan struct{}, 1), damage: newDamageLog(s.Log),
	}
	db.health.changed = make(chan struct{}, 1)
	db.active = make(chan struct{})
	db.endQuiet = sync.OnceFunc(func() { close(db.active) })
	if db.log == nil {
		db.log = slog.New(slog.DiscardHandler)
	}
	if err := db.connect(s); err != nil {
		return nil, fmt.Errorf("open database %s: %w", s.Path, err)
	}
	if err := checkSchema(ctx, db.read, s.Path, known); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	var err error
	if db.installation, err = One(ctx, db, Scalar[string], `SELECT id FROM installation`); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: read the id of the installation: %w", s.Path, err), db.Close())
	}
	return db, nil
}

// connect opens the connections.
func (db *DB) connect(s Settings) (err error) {
	if s.ReadOnly {
		db.read, db.cleanUp, err = openReadOnly(s.Path)
		return err
	}
	if db.write, err = sql.Open("sqlite", dsn(s.Path, pragmas+"&_txlock=immediate")); err != nil {
		return err
	}
	db.write.SetMaxOpenConns(1)
	if db.read, err = sql.Open("sqlite", dsn(s.Path, pragmas+"&_pragma=query_only(1)")); err != nil {
		return errors.Join(err, db.write.Close())
	}
	db.read.SetMaxOpenConns(max(4, 2*runtime.GOMAXPROCS(0)))
	db.read.SetMaxIdleConns(max(4, 2*runtime.GOMAXPROCS(0)))
	return nil
}

// openReadOnly opens a database that no process changes, without making a file that
// stays. SQLite can read a database in WAL mode only with a -shm file, unless it is
// told that nothing changes; then it does not read the WAL file.
func openReadOnly(path string) (_ *sql.DB, cleanUp func() error, err error) {
	query := "mode=ro&immutable=1"
	wal, err := os.Stat(path + "-wal")
	if err == nil && wal.Size() > 0 { // the server was killed
		query = "mode=ro&_pragma=busy_timeout(15000)"
		if _, err := os.Stat(path + "-shm"); errors.Is(err, os.ErrNotExist) {
			cleanUp = func() error { return removeIfExists(path + "-shm") }
		}
	}
	db, err := sql.Open("sqlite", dsn(path, query+"&_time_format=sqlite"))
	return db, cleanUp, err
}

func dsn(path, query string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + query
}

// Installation returns the id of the installation that the database belongs to. It is
// created with the database, and anew when that is restored from a backup. What belongs to the installation
// outside of the database, such as homes of agents, carries it.
func (db *DB) Installation() string { return db.installation }

// Close waits for the transaction that runs, erases what Run has not erased yet, and
// closes every connection.
func (db *DB) Close() error {
	if db.write != nil {
		db.eraseRest()
	}
	err := errors.Join(db.writer.close(), db.read.Close())
	if db.write != nil {
		err = errors.Join(err, db.write.Close())
	}
	if db.cleanUp != nil {
		err = errors.Join(err, db.cleanUp())
	}
	return err
}

// Ping returns an error if the database does not answer.
func (db *DB) Ping(ctx context.Context) error { return db.read.PingContext(ctx) }

// QueryContext implements Reader.
func (db *DB) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if s := db.statement(ctx, query); s != nil {
		return s.QueryContext(ctx, args...)
	}
	return db.read.QueryContext(ctx, query, args...)
}

// QueryRowContext implements Reader. A query that runs is not interrupted when ctx ends:
// reading one row is short, and the driver would need a goroutine for each.
func (db *DB) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if ctx.Err() == nil {
		ctx = context.WithoutCancel(ctx)
	}
	if s := db.statement(ctx, query); s != nil {
		return s.QueryRowContext(ctx, args...)
	}
	return db.read.QueryRowContext(ctx, query, args...)
}

// statement returns the prepared statement of a query. Preparing it on each call would
// take a third of the time of a short query. It returns nil if the query cannot be
// prepared or there are too many statements: then the caller runs the query itself,
// which returns the error of an invalid query.
func (db *DB) statement(ctx context.Context, query string) *sql.Stmt {
	db.mu.RLock()
	s, count := db.prepared[query], len(db.prepared)
	db.mu.RUnlock()
	if s != nil || count >= maxPrepared {
		return s
	}
	s, err := db.read.PrepareContext(ctx, query)
	if err != nil {
		return nil
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if other := db.prepared[query]; other != nil {
		_ = s.Close() // another caller has prepared it
		return other
	}
	db.prepared[query] = s
	return s
}

// Row is one row to scan.
type Row interface{ Scan(dest ...any) error }

// One returns the first row of a query. Errors: sql.ErrNoRows.
func One[T any](ctx context.Context, q Reader, scan func(Row) (T, error), query string, args ...any) (T, error) {
	v, err := scan(q.QueryRowContext(ctx, query, args...))
	return v, Explain(err)
}

// All returns every row of a query.
func All[T any](ctx context.Context, q Reader, scan func(Row) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, Explain(err)
	}
	defer func() { _ = rows.Close() }()
	all := []T{}
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, Explain(rows.Err())
}

// Exec runs a statement and returns the number of rows that it changed.
func Exec(ctx context.Context, tx *Tx, query string, args ...any) (int64, error) {
	res, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// Scalar scans a row of one column.
func Scalar[T any](r Row) (T, error) {
	var v T
	err := r.Scan(&v)
	return v, err
}

// Millis returns a time as the database stores it: milliseconds since 1970, UTC. The
// zero time is 0.
func Millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// Time returns the time for which Millis returned ms.
func Time(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
