package database

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Erasing overwrites deleted content in the database file and in the WAL. SQLite alone
// leaves it in four places:
//
//   - Deleted rows stay in the file until their space is used again. The pragma
//     secure_delete overwrites them.
//   - The full-text index marks rows as deleted and keeps their words until it merges
//     its segments.
//   - When SQLite balances a tree it moves rows to other pages, and leaves the old bytes
//     in the unused part of a page, which secure_delete does not overwrite.
//   - The WAL has earlier versions of pages until a checkpoint truncates it.
const (
	// erasePause is the pause between passes; after a long pass it is longer, so that
	// passes take at most a tenth of the time.
	erasePause = time.Second
	// eraseTimeout bounds the pass of Close.
	eraseTimeout = 5 * time.Second
	// mergePages is how many pages one step of merging the full-text index writes:
	// measured, 10 ms with the write lock.
	mergePages = 16
	// scrubPages is how many pages are read, and at most written, at once.
	scrubPages = 256
	// vacuumPages is how many free pages one transaction returns to the file system.
	vacuumPages = 256
)

// Erase makes what the transaction deletes or replaces disappear from the files of the
// database, within seconds after the commit, while Run runs. Call it when the owner of
// the content asked for the deletion.
func (tx *Tx) Erase() {
	tx.AfterCommit(func() { tx.db.requestErase() })
}

func (db *DB) requestErase() {
	select {
	case db.erased <- struct{}{}:
	default: // the next pass does it
	}
}

// Run erases what transactions ask for, until ctx ends. What the process before this one
// did not come to erase is erased first. Close erases the rest.
func (db *DB) Run(ctx context.Context) error {
	db.requestErase()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-db.erased:
		}
		began := time.Now()
		if err := db.erase(ctx); err != nil {
			db.requestErase()
			if ctx.Err() == nil {
				db.log.WarnContext(ctx, "deleted content is not yet overwritten in the database file; it is tried again", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(erasePause, 10*time.Since(began))):
		}
	}
}

// eraseRest erases what was asked for and not erased yet.
func (db *DB) eraseRest() {
	select {
	case <-db.erased:
	default:
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), eraseTimeout)
	defer cancel()
	if err := db.erase(ctx); err != nil {
		db.log.WarnContext(ctx, "deleted content is not yet overwritten in the database file; the next start of the server does it", "error", err)
	}
}

// erase overwrites all deleted content.
func (db *DB) erase(ctx context.Context) error {
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"merge the full-text index", db.mergeTextIndexes},
		{"return free pages", db.vacuum},
		{"overwrite unused parts of pages", db.scrub},
		{"truncate the WAL", db.truncateWAL},
	} {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// mergeTextIndexes merges the segments of every full-text index into one, which drops
// the words of deleted rows.
func (db *DB) mergeTextIndexes(ctx context.Context) error {
	tables, err := All(ctx, db, Scalar[string], `SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL TABLE % USING fts5%'`)
	if err != nil {
		return err
	}
	for _, table := range tables {
		merged := false
		for pages := -mergePages; !merged; pages = mergePages { // a negative number begins a merge of all segments
			err := db.Tx(ctx, "database.merge_text", func(ctx context.Context, tx *Tx) error {
				before, err := One(ctx, tx, Scalar[int64], `SELECT total_changes()`)
				if err != nil {
					return err
				}
				if _, err := tx.ExecContext(ctx, `INSERT INTO `+table+`(`+table+`, rank) VALUES ('merge', $1)`, pages); err != nil {
					return err
				}
				after, err := One(ctx, tx, Scalar[int64], `SELECT total_changes()`)
				merged = after-before < 2 // so FTS5 reports that there was nothing to merge
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// vacuum returns free pages to the file system.
func (db *DB) vacuum(ctx context.Context) error {
	for {
		free, err := One(ctx, db, Scalar[int], `PRAGMA freelist_count`)
		if err != nil || free == 0 {
			return err
		}
		err = db.Tx(ctx, "database.vacuum", func(ctx context.Context, tx *Tx) error {
			// The pragma frees one page for each row that is read.
			_, err := All(ctx, tx, func(Row) (struct{}, error) { return struct{}{}, nil }, fmt.Sprintf(`PRAGMA incremental_vacuum(%d)`, vacuumPages))
			return err
		})
		if err != nil {
			return err
		}
		if left, err := One(ctx, db, Scalar[int], `PRAGMA freelist_count`); err != nil || left >= free {
			return err // the database was created without auto_vacuum
		}
	}
}

// page is a page of the database file.
type page struct {
	number int64
	data   []byte
}

func scanPage(r Row) (page, error) {
	var p page
	err := r.Scan(&p.number, &p.data)
	return p, err
}

// scrub overwrites the unused part of every page.
func (db *DB) scrub(ctx context.Context) error {
	for from := int64(1); ; from += scrubPages {
		const query = `SELECT pgno, data FROM sqlite_dbpage WHERE pgno BETWEEN $1 AND $2`
		pages, err := All(ctx, db, scanPage, query, from, from+scrubPages-1)
		if err != nil || len(pages) == 0 {
			return err
		}
		if !slices.ContainsFunc(pages, func(p page) bool { return len(p.unused()) > 0 }) {
			continue
		}
		err = db.Tx(ctx, "database.scrub", func(ctx context.Context, tx *Tx) error {
			pages, err := All(ctx, tx, scanPage, query, from, from+scrubPages-1) // they may have changed
			if err != nil {
				return err
			}
			for _, p := range pages {
				if unused := p.unused(); len(unused) > 0 {
					clear(unused)
					if _, err := tx.ExecContext(ctx, `UPDATE sqlite_dbpage SET data = $1 WHERE pgno = $2`, p.data, p.number); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}

// unused returns the part of a page between its cell pointers and its cells, or nothing
// if the page is not a page of a tree, or the part has zeros only. The format is
// described in https://sqlite.org/fileformat.html.
func (p page) unused() []byte {
	size := len(p.data)
	// A page of the pointer map may begin like a page of a tree. One page has an entry
	// of 5 bytes for each of the pages that follow it.
	if p.number >= 2 && (p.number-2)%int64(size/5+1) == 0 {
		return nil
	}
	header := 0
	if p.number == 1 {
		header = 100 // of the file
	}
	pointers := header + 8
	switch p.data[header] {
	case 2, 5: // an interior page
		pointers = header + 12
	case 10, 13: // a leaf
	default: // an overflow page or a free one
		return nil
	}
	from := pointers + 2*int(binary.BigEndian.Uint16(p.data[header+3:]))
	to := int(binary.BigEndian.Uint16(p.data[header+5:]))
	if to == 0 {
		to = 1 << 16
	}
	if from >= to || to > size {
		return nil
	}
	if unused := p.data[from:to]; slices.ContainsFunc(unused, func(b byte) bool { return b != 0 }) {
		return unused
	}
	return nil
}

// truncateWAL writes the WAL into the database file and empties it. Others wait for the
// write lock meanwhile, so it does not wait long for readers.
func (db *DB) truncateWAL(ctx context.Context) error {
	if err := db.writer.acquire(ctx, db.write); err != nil {
		return err
	}
	defer db.writer.release()
	conn := db.writer.conn
	timeout, err := One(ctx, conn, Scalar[int], `PRAGMA busy_timeout`)
	if err != nil {
		return err
	}
	if err := setBusyTimeout(ctx, conn, 200); err != nil {
		return err
	}
	busy, err := One(ctx, conn, func(r Row) (busy bool, err error) {
		var log, checkpointed int
		err = r.Scan(&busy, &log, &checkpointed)
		return busy, err
	}, `PRAGMA wal_checkpoint(TRUNCATE)`)
	if e := setBusyTimeout(context.WithoutCancel(ctx), conn, timeout); e != nil {
		return e
	}
	if err == nil && busy {
		return errors.New("a reader has not finished")
	}
	return err
}

func setBusyTimeout(ctx context.Context, conn *sql.Conn, ms int) error {
	_, err := conn.ExecContext(ctx, fmt.Sprintf(`PRAGMA busy_timeout(%d)`, ms))
	return err
}
