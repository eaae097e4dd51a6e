package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Migrated is what Migrate has done.
type Migrated struct {
	Created  bool   // there was no database
	From, To int    // the schema's version before and after; From is 0 if the database was created
	Copy     string // the copy of the database from before; empty if there was nothing to change
}

// Names beside the database file. A file whose name ends in unfinished is not complete:
// whoever made it was killed.
const (
	copyInfix  = ".before-"
	unfinished = ".unfinished"
	copyTime   = "20060102T150405.000Z"
)

// Migrate creates the database, or brings its schema to this program's version. The
// caller has the lock of the data directory, so that no other process has the database
// open.
//
// A new database gets its name when it is complete. Before an existing one is changed,
// a copy is made beside it. All pending migrations are then applied in one transaction,
// with the rows that say so. Whenever the process is killed or the disk gets full, the
// database is either as before or completely migrated.
func Migrate(ctx context.Context, path string) (Migrated, error) {
	return migrator{path: path, known: embedded(), step: func(string) {}}.run(ctx)
}

type migrator struct {
	path  string
	known []migration
	step  func(name string) // is called after each step that changes files
}

func (m migrator) run(ctx context.Context) (Migrated, error) {
	if err := m.removeUnfinished(); err != nil {
		return Migrated{}, fmt.Errorf("migrate database: %w", err)
	}
	if _, err := os.Lstat(m.path); errors.Is(err, fs.ErrNotExist) {
		if err := m.create(ctx); err != nil {
			return Migrated{}, fmt.Errorf("create database %s: %w", m.path, err)
		}
		return Migrated{Created: true, To: lastVersion(m.known)}, nil
	}
	if err := checkFile(m.path); err != nil {
		return Migrated{}, err
	}
	return m.migrate(ctx)
}

// create builds a new database under another name and renames it.
func (m migrator) create(ctx context.Context) (err error) {
	for _, suffix := range []string{"-wal", "-journal"} {
		if _, err := os.Lstat(m.path + suffix); err == nil {
			return fmt.Errorf("%s exists, which belongs to a database that is gone: restore that, or move this file away", m.path+suffix)
		}
	}
	temporary := m.path + unfinished
	if err := createPrivate(temporary); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.removeUnfinished())
		}
	}()
	m.step("create file")
	if err := m.createSchema(ctx, temporary); err != nil {
		return err
	}
	m.step("create schema")
	return m.finish(temporary, m.path)
}

func (m migrator) createSchema(ctx context.Context, path string) error {
	// Nobody reads the file before it is complete, so it needs no journal.
	conn, closeConn, err := connection(ctx, path, "mode=rw&_pragma=auto_vacuum(incremental)&_pragma=journal_mode(OFF)&_pragma=synchronous(OFF)&_pragma=secure_delete(1)")
	if err != nil {
		return err
	}
	err = inTransaction(ctx, conn, func() error {
		if _, err := conn.ExecContext(ctx, schemaTable); err != nil {
			return err
		}
		if err := m.apply(ctx, conn, m.known); err != nil {
			return err
		}
		_, err := conn.ExecContext(ctx, `INSERT INTO installation (id, created_at) VALUES ($1, $2)`, newInstallationID(), Millis(time.Now()))
		return err
	})
	if err == nil {
		_, err = conn.ExecContext(ctx, `PRAGMA journal_mode(WAL)`) // it is stored in the file
	}
	return errors.Join(err, closeConn())
}

// migrate applies the pending migrations to an existing database.
func (m migrator) migrate(ctx context.Context) (_ Migrated, err error) {
	conn, closeConn, err := connection(ctx, m.path, "mode=rw&_pragma=busy_timeout(15000)&_pragma=synchronous(FULL)&_pragma=foreign_keys(0)&_pragma=secure_delete(1)&_txlock=immediate")
	if err != nil {
		return Migrated{}, fmt.Errorf("open database %s: %w", m.path, err)
	}
	defer func() { err = errors.Join(err, closeConn()) }()
	pending, err := pendingMigrations(ctx, conn, m.path, m.known)
	if err != nil {
		return Migrated{}, err
	}
	done := Migrated{From: lastVersion(m.known[:len(m.known)-len(pending)]), To: lastVersion(m.known)}
	if len(pending) == 0 {
		return done, nil
	}
	if done.Copy, err = m.copy(ctx, conn, done.To); err != nil {
		return Migrated{}, fmt.Errorf("copy database %s before it is migrated from schema %d to %d: %w; nothing was changed", m.path, done.From, done.To, err)
	}
	if err := inTransaction(ctx, conn, func() error { return m.apply(ctx, conn, pending) }); err != nil {
		return Migrated{}, fmt.Errorf("migrate database %s from schema %d to %d: %w; nothing was changed", m.path, done.From, done.To, err)
	}
	m.step("commit")
	return done, nil
}

// apply applies migrations in the transaction of a connection. Foreign keys are checked
// at the end, so that a migration can build a table anew.
func (m migrator) apply(ctx context.Context, conn *sql.Conn, pending []migration) error {
	for _, p := range pending {
		if _, err := conn.ExecContext(ctx, p.sql); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		_, err := conn.ExecContext(ctx, `INSERT INTO schema_migrations (version, name, digest, applied_at) VALUES ($1, $2, $3, $4)`, p.version, p.name, p.digest, Millis(time.Now()))
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		m.step("apply " + p.name)
	}
	broken, err := All(ctx, conn, func(r Row) (string, error) {
		var table string
		var row, parent, key any
		err := r.Scan(&table, &row, &parent, &key)
		return table, err
	}, `PRAGMA foreign_key_check`)
	if err != nil {
		return err
	}
	if len(broken) > 0 {
		return fmt.Errorf("%d rows refer to rows that do not exist, the first in table %s", len(broken), broken[0])
	}
	return nil
}

// copy copies the database beside itself and returns the name of the copy.
func (m migrator) copy(ctx context.Context, conn *sql.Conn, to int) (_ string, err error) {
	name := fmt.Sprintf("%s%s%04d.%s", m.path, copyInfix, to, time.Now().UTC().Format(copyTime))
	temporary := name + unfinished
	if err := createPrivate(temporary); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.removeUnfinished())
		}
	}()
	m.step("copy file")
	if _, err := conn.ExecContext(ctx, `VACUUM INTO $1`, temporary); err != nil {
		return "", err
	}
	m.step("copy database")
	return name, m.finish(temporary, name)
}

// finish gives a complete file its name.
func (m migrator) finish(temporary, name string) error {
	if err := syncFile(temporary); err != nil {
		return err
	}
	m.step("sync " + filepath.Base(m.path))
	if err := os.Rename(temporary, name); err != nil {
		return err
	}
	m.step("rename " + filepath.Base(m.path))
	return syncFile(filepath.Dir(name))
}

// removeUnfinished removes the files that a killed Migrate left.
func (m migrator) removeUnfinished() error {
	found, err := siblings(m.path, func(name string) bool {
		name, ok := strings.CutPrefix(name, filepath.Base(m.path))
		name = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "-journal"), "-wal"), "-shm")
		return ok && strings.HasSuffix(name, unfinished)
	})
	for _, path := range found {
		err = errors.Join(err, removeIfExists(path))
	}
	return err
}

// Copies returns the copies of a database that Migrate has made, oldest first.
func Copies(path string) ([]string, error) {
	found, err := siblings(path, func(name string) bool {
		return strings.HasPrefix(name, filepath.Base(path)+copyInfix) && !strings.HasSuffix(name, unfinished)
	})
	slices.SortFunc(found, func(a, b string) int { return strings.Compare(copiedAt(a), copiedAt(b)) })
	return found, err
}

// copiedAt returns the time in the name of a copy, which sorts as text.
func copiedAt(path string) string {
	return path[max(0, len(path)-len(copyTime)):]
}

// siblings returns the paths of the files beside a file whose names match.
func siblings(path string, match func(name string) bool) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		if match(e.Name()) {
			found = append(found, filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	return found, nil
}

// connection opens one connection to a database file.
func connection(ctx context.Context, path, query string) (*sql.Conn, func() error, error) {
	db, err := sql.Open("sqlite", dsn(path, query))
	if err != nil {
		return nil, nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return conn, func() error { return errors.Join(conn.Close(), db.Close()) }, nil
}

// inTransaction runs f in a transaction of a connection. It is rolled back if f fails.
func inTransaction(ctx context.Context, conn *sql.Conn, f func() error) error {
	if _, err := conn.ExecContext(ctx, `BEGIN IMMEDIATE`); err != nil {
		return err
	}
	err := f()
	if err == nil {
		_, err = conn.ExecContext(ctx, `COMMIT`)
	}
	if err != nil {
		// SQLite may have rolled back already, as it does when the disk is full.
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), `ROLLBACK`)
	}
	return err
}

// createPrivate creates a file with mode 0600, before SQLite creates it with a wider
// mode. The WAL file and its index get the same mode.
func createPrivate(path string) error {
	f, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// syncFile makes a file, or the names in a directory, survive a power failure.
func syncFile(path string) error {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func removeIfExists(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
