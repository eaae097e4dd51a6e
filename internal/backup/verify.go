package backup

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/vault"
)

// Verified is what Verify has found.
type Verified struct {
	Manifest  Manifest
	Files     int
	Databases int      // of homes, that open and are whole
	Notes     []string // what is wrong in a home, which the backup has as it was, and what is left out of it
}

// maxNotes is how many of them are kept.
const maxNotes = 50

// Verify unpacks a backup into a directory below dir, which is deleted again, and opens
// everything: it reads and checks every chunk, the database with its foreign keys, the master
// key, and the databases in the homes. An empty id is that of the newest backup. Errors:
// ErrNone; repository.ErrDamaged; what is wrong with the database.
func Verify(ctx context.Context, s *Store, id, dir string) (v Verified, err error) {
	scratch, err := os.MkdirTemp(dir, "agento-verify-")
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	unpacked := filepath.Join(scratch, "data")
	if v.Manifest, err = Unpack(ctx, s, id, unpacked); err != nil {
		return v, err
	}
	path := filepath.Join(unpacked, DatabaseName)
	if err := checkDatabase(ctx, path, "integrity_check", "foreign_key_check"); err != nil {
		return v, fmt.Errorf("the database of the backup: %w", err)
	}
	if err := v.checkRecords(ctx, unpacked); err != nil {
		return v, err
	}
	for _, a := range v.Manifest.Agents {
		for _, l := range a.LeftOut {
			v.note("the backup is without %q of the agent %s: %s", l.Path, a.ID, l.Why)
		}
	}
	return v, v.checkHomes(ctx, filepath.Join(unpacked, AgentsName))
}

func (v *Verified) note(format string, args ...any) {
	if len(v.Notes) < maxNotes {
		v.Notes = append(v.Notes, fmt.Sprintf(format, args...))
	}
}

// checkRecords compares the database with the manifest.
func (v *Verified) checkRecords(ctx context.Context, dir string) error {
	return database.View(filepath.Join(dir, DatabaseName), func(q database.Reader) error {
		schema, err := database.SchemaVersion(ctx, q)
		if err != nil {
			return fmt.Errorf("the database of the backup: %w", err)
		}
		id, err := database.One(ctx, q, database.Scalar[string], `SELECT id FROM installation`)
		if err != nil {
			return fmt.Errorf("the database of the backup: %w", err)
		}
		if m := v.Manifest; schema != m.Schema || id != m.Installation {
			return fmt.Errorf("the database is that of the installation %s with the schema %d, and the backup of %s with %d", id, schema, m.Installation, m.Schema)
		}
		if !v.Manifest.MasterKey.Included {
			return nil
		}
		if _, err := (vault.KeySource{File: filepath.Join(dir, MasterKeyName)}).Check(ctx, q); err != nil {
			return fmt.Errorf("the master key of the backup: %w", err)
		}
		return nil
	})
}

// checkHomes opens the databases in the homes. What is wrong there was wrong in the home.
func (v *Verified) checkHomes(ctx context.Context, dir string) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrPermission) || path == dir {
				return nil
			}
			return err
		}
		if err := ctx.Err(); err != nil || !d.Type().IsRegular() {
			return err
		}
		v.Files++
		if !isDatabase(path) {
			return nil
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if err := checkDatabase(ctx, path, "quick_check"); err == nil {
			v.Databases++
		} else {
			v.note("%q is no database that opens: %v", name, err)
		}
		return ctx.Err()
	})
	return err
}

func isDatabase(path string) bool {
	const mark = "SQLite format 3\x00"
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	head := make([]byte, len(mark))
	n, _ := f.ReadAt(head, 0)
	return string(head[:n]) == mark
}

// checkDatabase runs checks of SQLite on a file that nobody changes. It trusts nothing of
// its schema.
func checkDatabase(ctx context.Context, path string, checks ...string) error {
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?mode=ro&immutable=1&_pragma=trusted_schema(0)&_pragma=query_only(1)")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	for _, check := range checks {
		found, err := checkResult(ctx, db, check)
		if err != nil {
			return err
		}
		if found != "" {
			return fmt.Errorf("%s: %s", check, found)
		}
	}
	return nil
}

// checkResult returns the first column of the first row of a check that is not ok.
func checkResult(ctx context.Context, db *sql.DB, check string) (string, error) {
	rows, err := db.QueryContext(ctx, "PRAGMA "+check)
	if err != nil {
		return "", err
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		return "", err
	}
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		if err := rows.Scan(values...); err != nil {
			return "", err
		}
		if text := fmt.Sprint(*values[0].(*any)); text != "ok" {
			return text, nil
		}
	}
	return "", rows.Err()
}
