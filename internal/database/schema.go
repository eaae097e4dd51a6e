package database

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migration is a change of the schema. The schema's version is the number of the last
// migration that was applied.
type migration struct {
	version int
	name    string // NNNN_what.sql
	sql     string
	digest  string // of the file
}

// schemaTable has a row for each applied migration. The row is written in the
// transaction of the migration.
const schemaTable = `CREATE TABLE schema_migrations (
	version    INTEGER PRIMARY KEY,
	name       TEXT   NOT NULL,
	digest     TEXT   NOT NULL,
	applied_at BIGINT NOT NULL
)`

// embedded returns the migrations of this program.
func embedded() []migration {
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		panic(err) // the directory is part of the program
	}
	known, err := readMigrations(files)
	if err != nil {
		panic(err)
	}
	return known
}

// readMigrations returns the migrations of a directory in their order.
func readMigrations(files fs.FS) ([]migration, error) {
	entries, err := fs.ReadDir(files, ".") // sorted by name
	if err != nil {
		return nil, err
	}
	known := make([]migration, len(entries))
	for i, e := range entries {
		text, err := fs.ReadFile(files, e.Name())
		if err != nil {
			return nil, err
		}
		number, _, _ := strings.Cut(e.Name(), "_")
		version, err := strconv.Atoi(number)
		if err != nil || i > 0 && version <= known[i-1].version {
			return nil, fmt.Errorf("migration %s: its name must begin with a number of its own", e.Name())
		}
		sum := sha256.Sum256(text)
		known[i] = migration{version: version, name: e.Name(), sql: string(text), digest: hex.EncodeToString(sum[:])}
	}
	return known, nil
}

// checkFile returns an error if there is no database file.
func checkFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("there is no database %s: run agento serve or agento migrate first, or choose another --data", path)
	case err != nil:
		return fmt.Errorf("open database: %w", err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("database %s is not a file", path)
	case info.Size() == 0:
		return fmt.Errorf("database %s is empty: restore it, or remove the file to start without any data", path)
	}
	return nil
}

// querier is a *sql.DB or a *sql.Conn.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// appliedMigrations returns the migrations that a database has, without their SQL.
func appliedMigrations(ctx context.Context, q querier, path string) ([]migration, error) {
	n, err := One(ctx, q, Scalar[int], `SELECT count(*) FROM sqlite_master WHERE name = 'schema_migrations'`)
	if err != nil {
		return nil, fmt.Errorf("read the schema of database %s: %w", path, err)
	}
	if n == 0 {
		return nil, fmt.Errorf("database %s does not say which schema it has: it is not a database of agento, or of an agento before its first release; move it away", path)
	}
	applied, err := All(ctx, q, func(r Row) (migration, error) {
		var m migration
		err := r.Scan(&m.version, &m.name, &m.digest)
		return m, err
	}, `SELECT version, name, digest FROM schema_migrations ORDER BY version`)
	if err != nil {
		return nil, fmt.Errorf("read the schema of database %s: %w", path, err)
	}
	return applied, nil
}

// checkSchema returns an error unless a database has exactly the known migrations.
func checkSchema(ctx context.Context, q querier, path string, known []migration) error {
	pending, err := pendingMigrations(ctx, q, path, known)
	if err != nil || len(pending) == 0 {
		return err
	}
	applied := lastVersion(known[:len(known)-len(pending)])
	return fmt.Errorf("database %s has schema %d and this agento needs schema %d: run agento migrate, which copies the database first, or use the agento that served it last", path, applied, lastVersion(known))
}

// pendingMigrations returns the known migrations that a database does not have. The
// ones that it has must be the first ones of the known, with the same digests.
func pendingMigrations(ctx context.Context, q querier, path string, known []migration) ([]migration, error) {
	applied, err := appliedMigrations(ctx, q, path)
	if err != nil {
		return nil, err
	}
	if has, newest := lastVersion(applied), lastVersion(known); has > newest {
		return nil, fmt.Errorf("database %s has schema %d and this agento knows schemas up to %d: use the newer agento that migrated it, or restore the copy from before that (%s)", path, has, newest, path+copyInfix+"…")
	}
	for i, a := range applied {
		if i >= len(known) || known[i].version != a.version {
			return nil, fmt.Errorf("database %s has schema %d, but not the same migrations before it as this agento (%s): use the agento that served it last", path, lastVersion(applied), a.name)
		}
		if known[i].digest != a.digest {
			return nil, fmt.Errorf("database %s has schema %d, but its migration %s differs from this agento's (digest %.12s, not %.12s): use the agento that served it last", path, lastVersion(applied), a.name, a.digest, known[i].digest)
		}
	}
	return known[len(applied):], nil
}

// lastVersion returns the version of the last of these migrations, 0 if there is none.
func lastVersion(all []migration) int {
	if len(all) == 0 {
		return 0
	}
	return all[len(all)-1].version
}
