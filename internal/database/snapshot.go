package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"

	sqlite "modernc.org/sqlite"
)

// Snapshot is the database as it was at one moment. It implements Reader. Nothing waits for
// it; while it is open, SQLite keeps in its WAL what has changed since.
type Snapshot struct{ conn *sql.Conn }

// Snapshot returns the database as it is now. The caller closes it.
func (db *DB) Snapshot(ctx context.Context) (_ *Snapshot, err error) {
	conn, err := db.read.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("open a snapshot of the database: %w", err)
	}
	s := &Snapshot{conn}
	if _, err = conn.ExecContext(ctx, `BEGIN`); err == nil {
		_, err = One(ctx, s, Scalar[string], `SELECT id FROM installation`) // the moment is that of the first read
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a snapshot of the database: %w", err), s.Close())
	}
	return s, nil
}

// QueryContext implements Reader.
func (s *Snapshot) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return s.conn.QueryContext(ctx, query, args...)
}

// QueryRowContext implements Reader.
func (s *Snapshot) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return s.conn.QueryRowContext(ctx, query, args...)
}

// Close ends the snapshot.
func (s *Snapshot) Close() error {
	_, err := s.conn.ExecContext(context.Background(), `ROLLBACK`)
	return errors.Join(err, s.conn.Close())
}

// snapshotPages is how many pages are copied before the context is looked at.
const snapshotPages = 4096

// CopyTo writes the snapshot into a new file with mode 0600, by SQLite's backup API. The copy
// is one file, which Open opens.
func (s *Snapshot) CopyTo(ctx context.Context, path string) (err error) {
	if err := createPrivate(path); err != nil {
		return fmt.Errorf("copy the database: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(path)
		}
	}()
	err = s.conn.Raw(func(c any) error {
		source, ok := c.(interface {
			NewBackup(uri string) (*sqlite.Backup, error)
		})
		if !ok {
			return errors.New("the driver has no backups")
		}
		b, err := source.NewBackup(dsn(path, "mode=rw&_pragma=journal_mode(OFF)&_pragma=synchronous(OFF)"))
		if err != nil {
			return err
		}
		for more := true; more && err == nil; {
			if err = ctx.Err(); err == nil {
				more, err = b.Step(snapshotPages)
			}
		}
		return errors.Join(err, b.Finish())
	})
	if err != nil {
		return fmt.Errorf("copy the database: %w", err)
	}
	return nil
}

// SchemaVersion returns the version of a database's schema.
func SchemaVersion(ctx context.Context, q Reader) (int, error) {
	return One(ctx, q, Scalar[int], `SELECT max(version) FROM schema_migrations`)
}
