package homecopy

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"time"

	sqlite "modernc.org/sqlite"
)

// databaseSuffixes end the names of the files that belong to a database.
var databaseSuffixes = []string{"-wal", "-shm", "-journal"}

// Marks at the beginning of files of SQLite.
const (
	databaseMark = "SQLite format 3\x00"
	journalMark  = "\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
)

// databaseTries is how often a database is copied that changes meanwhile.
const databaseTries = 3

func isDatabase(f *os.File) bool { return beginsWith(f, databaseMark) }

func beginsWith(f *os.File, mark string) bool {
	head := make([]byte, len(mark))
	n, _ := f.ReadAt(head, 0)
	return string(head[:n]) == mark
}

// takeDatabase copies a database with its WAL into the scratch directory, under the locks of
// SQLite. The server never opens a database of an agent in its home: whoever can replace the
// file, its WAL, journal or index while it is open can crash the process, or make it write
// elsewhere.
func (c *copier) takeDatabase(ctx context.Context, at place, f *os.File) (*taken, error) {
	c.dropScratch(c.taken[at.path]) // which has changed since
	delete(c.taken, at.path)
	var t *taken
	for range databaseTries {
		c.dropScratch(t)
		var err error
		if t, err = c.takeLocked(ctx, at, f); err != nil || !t.torn {
			return t, err
		}
	}
	return t, nil
}

func (c *copier) takeLocked(ctx context.Context, at place, f *os.File) (_ *taken, err error) {
	unlock, writes := lockDatabase(ctx, at, f)
	defer unlock()
	before, err := statFile(f)
	if err != nil {
		return nil, err
	}
	t := &taken{id: identify(before), size: before.Size, settled: settled(before, time.Now()), database: &Database{WAL: at.sibling("-wal")}}
	defer func() {
		if err != nil {
			c.dropScratch(t)
		}
	}()
	if t.scratch, err = c.toScratch(ctx, f, nil, before.Size); err != nil {
		return nil, err
	}
	if t.wal, err = c.takeBeside(ctx, at, "-wal", func(*os.File) bool { return true }); err != nil {
		return nil, err
	}
	if !writes {
		// A journal that nobody writes to is that of a transaction that was cut off.
		if t.journal, err = c.takeBeside(ctx, at, "-journal", func(j *os.File) bool { return beginsWith(j, journalMark) }); err != nil {
			return nil, err
		}
	}
	after, err := statFile(f)
	if err != nil {
		return nil, err
	}
	t.torn = identify(after) != t.id || at.sibling("-wal") != t.database.WAL
	t.settled = t.settled && time.Since(time.Unix(0, t.database.WAL.Change)) > settleTime && t.journal == ""
	return t, nil
}

// takeBeside copies the file whose name is at's with a suffix, if it is one that want
// accepts.
func (c *copier) takeBeside(ctx context.Context, at place, suffix string, want func(*os.File) bool) (string, error) {
	f, st, err := openFile(place{at.dir, at.name + suffix, at.path + suffix})
	if errors.Is(err, errGone) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	if st.Size == 0 || !want(f) {
		return "", nil
	}
	return c.toScratch(ctx, f, nil, st.Size)
}

func (c *copier) dropScratch(t *taken) {
	if t == nil {
		return
	}
	for _, name := range []string{t.scratch, t.wal, t.journal} {
		if name != "" {
			_ = os.Remove(name)
		}
	}
}

// mergeDatabase makes one file of a database and its WAL, by SQLite's backup API. What
// SQLite does not open is kept as the files that it is, which mergeDatabase returns.
func (c *copier) mergeDatabase(ctx context.Context, f *found) ([]*found, error) {
	t := f.file
	if t.wal != "" && t.journal == "" {
		if merged, err := c.backup(ctx, t); err == nil {
			t.scratch, t.wal = merged, ""
			st, err := os.Stat(merged)
			if err != nil {
				return nil, err
			}
			t.size = st.Size()
			return nil, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	var raw []*found
	for suffix, name := range map[string]string{"-wal": t.wal, "-journal": t.journal} {
		if name == "" {
			continue
		}
		st, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		raw = append(raw, &found{path: f.path + suffix, mode: f.mode, time: f.time, file: &taken{size: st.Size(), scratch: name}})
		t.settled = false
	}
	return raw, nil
}

// backup returns a file in the scratch directory with what a database and its WAL there have,
// and deletes both. It changes nothing if it fails.
func (c *copier) backup(ctx context.Context, t *taken) (merged string, err error) {
	merged = c.newScratch()
	if err := os.Rename(t.wal, t.scratch+"-wal"); err != nil {
		return "", err
	}
	if err := backupDatabase(ctx, t.scratch, merged); err != nil {
		for _, suffix := range append(databaseSuffixes, "") {
			_ = os.Remove(merged + suffix)
		}
		return "", errors.Join(err, os.Rename(t.scratch+"-wal", t.wal))
	}
	_ = os.Remove(t.scratch + "-shm")
	return merged, errors.Join(os.Remove(t.scratch), os.Remove(t.scratch+"-wal"))
}

// backupDatabase copies a database that nobody changes. Opened for reading, SQLite changes
// neither it nor its WAL.
func backupDatabase(ctx context.Context, from, to string) error {
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: from}).EscapedPath()+"?mode=ro")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return conn.Raw(func(c any) error {
		source, ok := c.(interface {
			NewBackup(uri string) (*sqlite.Backup, error)
		})
		if !ok {
			return errors.New("the driver of SQLite has no backups")
		}
		b, err := source.NewBackup("file:" + (&url.URL{Path: to}).EscapedPath() + "?_pragma=journal_mode(OFF)&_pragma=synchronous(OFF)")
		if err != nil {
			return err
		}
		for more := true; more && err == nil; {
			if err = ctx.Err(); err == nil {
				more, err = b.Step(backupPages)
			}
		}
		return errors.Join(err, b.Finish())
	})
}

// backupPages is how many pages are copied before ctx is looked at.
const backupPages = 4096
