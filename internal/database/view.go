package database

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// View calls f with a reader of the database file, whatever its schema is, and changes no
// file. A server may be running. Errors: fs.ErrNotExist, if there is no file.
func View(path string, f func(Reader) error) (err error) {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("view database: %w", err)
	}
	db, cleanUp, err := openReadOnly(path)
	if err != nil {
		return fmt.Errorf("view database: %w", err)
	}
	defer func() {
		err = errors.Join(err, db.Close())
		if cleanUp != nil {
			err = errors.Join(err, cleanUp())
		}
	}()
	return f(db)
}

// HasTable reports whether the database has a table.
func HasTable(ctx context.Context, q Reader, name string) (bool, error) {
	n, err := One(ctx, q, Scalar[int], `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = $1`, name)
	return n > 0, err
}
