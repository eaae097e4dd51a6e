// Package database opens the records' database, brings its schema up to date and
// runs transactions. It knows no feature: each keeps its own SQL beside its rules.
package database

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver named sqlite
)

//go:embed migrations/*.sql
var migrations embed.FS

// Settings say where the records are.
type Settings struct {
	Path string // the SQLite file; its directory must exist
	Log  *slog.Logger
}

// Querier is what a query needs: the database itself, for reading, or a
// transaction.
type Querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// DB is an open, migrated database. As a Querier it reads; changes go through Tx.
type DB struct {
	read  *sql.DB
	write *sql.DB // one connection: SQLite has one writer

	mu       sync.RWMutex
	prepared map[string]*sql.Stmt // by query, of the reading side; guarded by mu
}

// maxPrepared bounds how many queries are kept parsed; there are fewer, but for
// those that a filter puts together.
const maxPrepared = 500

// pragmas: WAL lets readers go on beside the writer and another process; a busy
// writer is waited for; NORMAL loses nothing in a crash of the process.
const pragmas = "_pragma=journal_mode(WAL)&_pragma=busy_timeout(15000)&_pragma=synchronous(NORMAL)&_pragma=foreign_keys(1)&_pragma=cache_size(-16000)&_time_format=sqlite"

// Open opens the database file, makes it if it is missing and migrates it.
// Several processes may have it open at once. The caller closes it.
func Open(ctx context.Context, s Settings) (*DB, error) {
	if err := private(s.Path); err != nil {
		return nil, err
	}
	dsn := "file:" + (&url.URL{Path: s.Path}).EscapedPath() + "?" + pragmas
	write, err := sql.Open("sqlite", dsn+"&_txlock=immediate")
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	write.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite", dsn+"&_pragma=query_only(1)")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", err), write.Close())
	}
	read.SetMaxOpenConns(max(4, 2*runtime.GOMAXPROCS(0)))
	read.SetMaxIdleConns(max(4, 2*runtime.GOMAXPROCS(0)))
	db := &DB{read: read, write: write, prepared: map[string]*sql.Stmt{}}
	if err := db.migrate(ctx, s.Log); err != nil {
		return nil, errors.Join(fmt.Errorf("migrate database %s: %w", s.Path, err), db.Close())
	}
	return db, nil
}

// private makes the file readable to its owner alone before SQLite does with
// wider rights; the WAL and its index inherit them.
func private(path string) error {
	f, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	return f.Close()
}

func (db *DB) migrate(ctx context.Context, log *slog.Logger) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db.write, files, goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return err
	}
	done, err := provider.Up(ctx)
	if len(done) > 0 && log != nil {
		log.DebugContext(ctx, "database migrated", "steps", len(done))
	}
	return err
}

// Close closes every connection.
func (db *DB) Close() error { return errors.Join(db.read.Close(), db.write.Close()) }

// Ping says whether the database answers.
func (db *DB) Ping(ctx context.Context) error { return db.read.PingContext(ctx) }

// ExecContext implements Querier. The reading side refuses changes.
func (db *DB) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return db.read.ExecContext(ctx, query, args...)
}

// QueryContext implements Querier.
func (db *DB) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if s := db.statement(ctx, query); s != nil {
		return s.QueryContext(ctx, args...)
	}
	return db.read.QueryContext(ctx, query, args...)
}

// QueryRowContext implements Querier.
func (db *DB) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if s := db.statement(ctx, query); s != nil {
		return s.QueryRowContext(ctx, args...)
	}
	return db.read.QueryRowContext(ctx, query, args...)
}

// statement is a query that is parsed once a connection and not once a call,
// which would be a third of what a short query costs. It is nil if it cannot be
// kept: then the query itself is asked, and says why if it is wrong.
func (db *DB) statement(ctx context.Context, query string) *sql.Stmt {
	db.mu.RLock()
	s, kept := db.prepared[query], len(db.prepared)
	db.mu.RUnlock()
	if s != nil || kept >= maxPrepared {
		return s
	}
	s, err := db.read.PrepareContext(ctx, query)
	if err != nil {
		return nil
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if other := db.prepared[query]; other != nil {
		_ = s.Close() // another caller was faster
		return other
	}
	db.prepared[query] = s
	return s
}

// Tx is a transaction: a Querier that may change things.
type Tx struct {
	*sql.Tx
	after []func()
}

// AfterCommit calls f once the transaction is committed, and never if it is not.
func (tx *Tx) AfterCommit(f func()) { tx.after = append(tx.after, f) }

// Tx runs f in a transaction that holds the write lock from its start. It
// commits if f returns nil, and otherwise undoes everything.
func (db *DB) Tx(ctx context.Context, f func(*Tx) error) error {
	sqlTx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	tx := &Tx{Tx: sqlTx}
	defer func() { _ = sqlTx.Rollback() }() // after a commit this is a no-op
	if err := f(tx); err != nil {
		return err
	}
	if err := sqlTx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	for _, f := range tx.after {
		f()
	}
	return nil
}

// Row is one row to scan.
type Row interface{ Scan(dest ...any) error }

// One returns the first row of a query, or sql.ErrNoRows.
func One[T any](ctx context.Context, q Querier, scan func(Row) (T, error), query string, args ...any) (T, error) {
	return scan(q.QueryRowContext(ctx, query, args...))
}

// All returns every row of a query.
func All[T any](ctx context.Context, q Querier, scan func(Row) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
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
	return all, rows.Err()
}

// Exec runs a statement and returns how many rows it changed.
func Exec(ctx context.Context, q Querier, query string, args ...any) (int64, error) {
	res, err := q.ExecContext(ctx, query, args...)
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

// Millis is how times are stored: milliseconds since 1970, UTC; the zero time is 0.
func Millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// Time reads what Millis wrote.
func Time(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
