// Package database opens the database, migrates its schema and runs transactions. It
// contains no SQL of a feature: each package has its own SQL beside its rules.
package database

import (
	"context"
	"crypto/rand"
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
	"strings"
	"sync"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver named sqlite
)

//go:embed migrations/*.sql
var migrations embed.FS

// Settings configure Open.
type Settings struct {
	Path string // the SQLite file; its directory must exist
	Log  *slog.Logger
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

// DB is an open, migrated database. It reads; changes go through Tx.
type DB struct {
	read  *sql.DB
	write *sql.DB // one connection: SQLite has one writer

	writer writer

	observe func(kind string, held time.Duration) // may be nil

	path    string
	health  health
	reserve *reserve

	installation string // the id of the installation; see Installation

	mu       sync.RWMutex
	prepared map[string]*sql.Stmt // on read, by query; guarded by mu
}

// maxPrepared bounds the number of prepared statements. The program has fewer queries,
// except for those that are built from a filter.
const maxPrepared = 500

// pragmas: with WAL, readers do not wait for the writer or another process; busy_timeout
// waits for another program that writes, but not longer than a caller may wait for a
// response; synchronous=NORMAL loses nothing if the process crashes.
const pragmas = "_pragma=journal_mode(WAL)&_pragma=busy_timeout(4000)&_pragma=synchronous(NORMAL)&_pragma=foreign_keys(1)&_pragma=cache_size(-16000)&_time_format=sqlite"

// Open opens and migrates the database file, and creates it if it is missing. Several
// processes may have it open at the same time. The caller closes the DB.
func Open(ctx context.Context, s Settings) (*DB, error) {
	if err := createPrivate(s.Path); err != nil {
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
	db := &DB{read: read, write: write, writer: newWriter(), path: s.Path, reserve: newReserve(s.Path), prepared: map[string]*sql.Stmt{}}
	db.health.changed = make(chan struct{}, 1)
	if err := db.migrate(ctx, s.Log); err != nil {
		return nil, errors.Join(fmt.Errorf("migrate database %s: %w", s.Path, err), db.Close())
	}
	if err := db.identify(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", s.Path, err), db.Close())
	}
	db.observe = s.Observe
	return db, nil
}

// identify reads the id of the installation. A new database gets one.
func (db *DB) identify(ctx context.Context) error {
	const query = `SELECT id FROM installation`
	id, err := One(ctx, db, Scalar[string], query)
	if !errors.Is(err, sql.ErrNoRows) {
		db.installation = id
		return err
	}
	return db.Tx(ctx, "database.identify", func(ctx context.Context, tx *Tx) (err error) {
		db.installation, err = One(ctx, tx, Scalar[string], query) // another process may have been faster
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		db.installation = "inst_" + strings.ToLower(rand.Text())
		_, err = tx.ExecContext(ctx, `INSERT INTO installation (id, created_at) VALUES ($1, $2)`, db.installation, Millis(time.Now()))
		return err
	})
}

// Installation returns the id of the installation that the database belongs to. It is
// created with the database and never changes. What belongs to the installation
// outside of the database, such as homes of agents, carries it.
func (db *DB) Installation() string { return db.installation }

// createPrivate creates the file with mode 0600, before SQLite creates it with a wider
// mode. The WAL file and its index get the same mode.
func createPrivate(path string) error {
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
	applied, err := provider.Up(ctx)
	if len(applied) > 0 && log != nil {
		log.DebugContext(ctx, "database migrated", "steps", len(applied))
	}
	return err
}

// Close waits for the transaction that runs, and closes every connection.
func (db *DB) Close() error { return errors.Join(db.writer.close(), db.read.Close(), db.write.Close()) }

// Ping returns an error if the database does not answer.
func (db *DB) Ping(ctx context.Context) error { return db.read.PingContext(ctx) }

// QueryContext implements Reader.
func (db *DB) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if s := db.statement(ctx, query); s != nil {
		return s.QueryContext(ctx, args...)
	}
	return db.read.QueryContext(ctx, query, args...)
}

// QueryRowContext implements Reader.
func (db *DB) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
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
