package homecopy_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite" // the driver named sqlite

	"agento.host/agento/internal/homecopy"
	"agento.host/agento/internal/repository"
	"agento.host/agento/internal/runtime/home"
	"agento.host/agento/internal/vault"
)

// env is a home with a repository for its copies.
type env struct {
	t    *testing.T
	home string
	in   *repository.Home
}

func newEnv(t *testing.T) *env {
	t.Helper()
	r, err := repository.Create(t.Context(), t.TempDir(), vault.Secret{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	in, err := r.MakeHome(t.Context(), "home")
	if err == nil {
		err = in.List(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return &env{t, t.TempDir(), in}
}

func (e *env) path(name string) string { return filepath.Join(e.home, name) }

func (e *env) write(name, text string) {
	e.t.Helper()
	err := os.MkdirAll(filepath.Dir(e.path(name)), 0o700)
	if err == nil {
		err = os.WriteFile(e.path(name), []byte(text), 0o600)
	}
	if err != nil {
		e.t.Fatal(err)
	}
}

// age makes all files look as if they had been changed a while ago, which a test cannot set:
// it waits until a copy trusts their times.
func (e *env) age() { time.Sleep(2100 * time.Millisecond) }

func (e *env) make(s homecopy.Settings) homecopy.Copy {
	e.t.Helper()
	s.Dir, s.Scratch, s.Home = e.home, e.t.TempDir(), e.in
	c, err := homecopy.Make(e.t.Context(), s)
	if err != nil {
		e.t.Fatal(err)
	}
	return c
}

// restore writes a copy and returns where.
func (e *env) restore(c homecopy.Copy) string {
	e.t.Helper()
	dir := filepath.Join(e.t.TempDir(), "restored")
	if err := homecopy.Write(e.t.Context(), dir, c.Entries, e.in.Open); err != nil {
		e.t.Fatal(err)
	}
	return dir
}

func (e *env) check(dir, name, want string) {
	e.t.Helper()
	if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
		e.t.Errorf("%s: %.40q, %v; not %.40q", name, got, err, want)
	}
}

// TestFiles: files, empty directories, links, modes, times and names come back as they were.
func TestFiles(t *testing.T) {
	e := newEnv(t)
	large := strings.Repeat("0123456789abcdef", 200_000)
	e.write("a/b/large", large)
	e.write("a/small", "text")
	e.write("empty", "")
	e.write("name \xff\xfe\n", "no UTF-8")
	e.write("run.sh", "#!/bin/sh\n")
	when := time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)
	err := errors.Join(os.Mkdir(e.path("nothing"), 0o500), os.Chmod(e.path("run.sh"), 0o755), os.Symlink("a/small", e.path("link")),
		os.Chtimes(e.path("a/small"), when, when), os.Chtimes(e.path("a"), when, when))
	if err != nil {
		t.Fatal(err)
	}
	c := e.make(homecopy.Settings{})
	if !c.Consistent || c.Without != 0 || c.Bytes != int64(len(large)+len("text")+len("no UTF-8")+len("#!/bin/sh\n")) {
		t.Errorf("%+v", c)
	}
	dir := e.restore(c)
	e.check(dir, "a/b/large", large)
	e.check(dir, "link", "text")
	e.check(dir, "empty", "")
	e.check(dir, "name \xff\xfe\n", "no UTF-8")
	for name, mode := range map[string]fs.FileMode{"run.sh": 0o755, "nothing": fs.ModeDir | 0o500, "a/small": 0o600} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode() != mode {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
	for _, name := range []string{"a", "a/small"} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || !st.ModTime().Equal(when) {
			t.Errorf("%s: %v, %v", name, st.ModTime(), err)
		}
	}
}

// TestHostileTree: what an agent can make in its home is left out or copied as what it is,
// and nothing outside of the home is read.
func TestHostileTree(t *testing.T) {
	e := newEnv(t)
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("outside"), 0o600); err != nil {
		t.Fatal(err)
	}
	e.write("kept", "kept")
	e.write("setuid", "program")
	e.write("x.sqlite", "SQLite format 3\x00 and no database")
	err := errors.Join(
		os.Symlink(outside, e.path("to a secret")), os.Symlink(filepath.Dir(outside), e.path("to a directory")), os.Symlink("/proc/self/mem", e.path("mem")),
		os.Symlink("loop", e.path("loop")), os.Symlink(outside, e.path("x.sqlite-wal")), unix.Mkfifo(e.path("pipe"), 0o600), unix.Mkfifo(e.path("x.sqlite-shm"), 0o600),
		os.Chmod(e.path("setuid"), fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky|0o755))
	if err != nil {
		t.Fatal(err)
	}
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		err = unix.Bind(socket, &unix.SockaddrUnix{Name: e.path("socket")})
		_ = unix.Close(socket)
	}
	if err != nil {
		t.Fatal(err)
	}
	if sparse, err := os.Create(e.path("sparse")); err != nil {
		t.Fatal(err)
	} else if _, err := sparse.WriteAt([]byte("end"), 1<<40); err != nil {
		t.Log("no file of 1 TB here:", err)
	} else if err := sparse.Close(); err != nil {
		t.Fatal(err)
	}
	makeDeep(t, e.home, 5_000) // whose path is longer than the kernel takes

	c := e.make(homecopy.Settings{})
	if c.Stored.Read > 1<<20 {
		t.Errorf("%d bytes were read", c.Stored.Read)
	}
	kinds := map[string]homecopy.Type{}
	for _, entry := range c.Entries {
		kinds[string(entry.Path)] = entry.Type
	}
	for _, name := range []string{"pipe", "socket"} {
		if kinds[name] != "" {
			t.Errorf("%s is in the copy", name)
		}
	}
	for _, name := range []string{"to a secret", "to a directory", "mem", "loop"} {
		if kinds[name] != homecopy.Link {
			t.Errorf("%s is %q", name, kinds[name])
		}
	}
	if c.Without != 4 { // two pipes, the socket, and what is too deep
		t.Errorf("%d entries are left out: %v", c.Without, c.LeftOut)
	}
	dir := e.restore(c)
	e.check(dir, "kept", "kept")
	e.check(dir, "x.sqlite", "SQLite format 3\x00 and no database")
	if st, err := os.Lstat(filepath.Join(dir, "setuid")); err != nil || st.Mode() != 0o755 {
		t.Errorf("the setuid program has the mode %v, %v", st.Mode(), err)
	}
	if st, err := os.Stat(filepath.Join(dir, "sparse")); err != nil || st.Size() != 1<<40+3 {
		t.Errorf("the sparse file: %v, %v", st, err)
	}
}

// makeDeep makes a directory that is nested n deep, without long paths.
func makeDeep(t *testing.T, dir string, n int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_DIRECTORY, 0)
	for range n {
		if err == nil {
			err = unix.Mkdirat(fd, "d", 0o700)
		}
		var next int
		if err == nil {
			next, err = unix.Openat(fd, "d", unix.O_DIRECTORY, 0)
		}
		_ = unix.Close(fd)
		fd = next
	}
	_ = unix.Close(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = home.Purge(context.WithoutCancel(t.Context()), dir) })
}

// TestIncremental: an unchanged home is copied without reading a file; of a changed one only
// what has changed is read, a file with its old size and times too.
func TestIncremental(t *testing.T) {
	e := newEnv(t)
	e.write("same", strings.Repeat("same", 10_000))
	e.write("hidden", "before")
	db := e.database("x.sqlite")
	db.exec("CREATE TABLE a (v)", "INSERT INTO a VALUES (1)")
	db.close()
	e.age()
	first := e.make(homecopy.Settings{})
	second := e.make(homecopy.Settings{Previous: first.Entries})
	if second.Stored.Read != 0 || len(second.Entries) != len(first.Entries) {
		t.Errorf("an unchanged home: %+v was read, %d entries of %d", second.Stored, len(second.Entries), len(first.Entries))
	}
	st, err := os.Stat(e.path("hidden"))
	if err != nil {
		t.Fatal(err)
	}
	e.write("hidden", "after!")
	if err := os.Chtimes(e.path("hidden"), st.ModTime(), st.ModTime()); err != nil {
		t.Fatal(err)
	}
	e.write("new", "new")
	third := e.make(homecopy.Settings{Previous: second.Entries})
	// The files may have been read in both passes, because they were changed a moment ago.
	if third.Stored.Read > 2*int64(len("after!new")) {
		t.Errorf("after two small changes %d bytes were read", third.Stored.Read)
	}
	dir := e.restore(third)
	e.check(dir, "hidden", "after!")
	e.check(dir, "new", "new")
	e.check(dir, "same", strings.Repeat("same", 10_000))
}

// TestHold: the copy is from the moment of the hold: changes before it are in the copy, changes
// after it are not.
func TestHold(t *testing.T) {
	e := newEnv(t)
	e.write("a", "first")
	e.write("gone", "gone")
	e.write("late", "before")
	held := false
	c := e.make(homecopy.Settings{
		Hold: func(context.Context) (func() (time.Duration, error), error) {
			held = true
			e.write("a", "second")
			e.write("new", "new")
			if err := os.Remove(e.path("gone")); err != nil {
				t.Fatal(err)
			}
			return func() (time.Duration, error) { held = false; e.write("late", "after"); return time.Second, nil }, nil
		},
		Held: func(context.Context) error {
			if !held {
				t.Error("Held was called outside of the hold")
			}
			return nil
		},
	})
	if !c.Consistent || c.Held != time.Second {
		t.Errorf("consistent %v (%s), held %s", c.Consistent, c.Reason, c.Held)
	}
	dir := e.restore(c)
	e.check(dir, "a", "second")
	e.check(dir, "new", "new")
	e.check(dir, "late", "before")
	if _, err := os.Lstat(filepath.Join(dir, "gone")); err == nil {
		t.Error("a file that was deleted before the hold is in the copy")
	}
}

// TestNotHeld: a home whose gateway is busy, changes in the hold, or would be held for too long is copied
// nevertheless, and the copy says that it is not from one moment.
func TestNotHeld(t *testing.T) {
	for name, c := range map[string]struct {
		hold func(ctx context.Context) (func() (time.Duration, error), error)
		held func(ctx context.Context) error
		want string
	}{
		"busy": {hold: func(context.Context) (func() (time.Duration, error), error) { return nil, homecopy.ErrBusy }, want: "busy"},
		"changed": {hold: func(context.Context) (func() (time.Duration, error), error) {
			return func() (time.Duration, error) { return 0, errors.New("it was restarted") }, nil
		}, want: "restarted"},
		"too long": {
			hold: func(context.Context) (func() (time.Duration, error), error) {
				now := time.Now()
				return func() (time.Duration, error) { return time.Since(now), nil }, nil
			},
			held: func(ctx context.Context) error {
				if _, limited := ctx.Deadline(); limited {
					<-ctx.Done()
				}
				return ctx.Err()
			},
			want: "at most",
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.write("a", "text")
			got := e.make(homecopy.Settings{Hold: c.hold, Held: c.held})
			if got.Consistent || !strings.Contains(got.Reason, c.want) || got.Held > 2*time.Second {
				t.Errorf("consistent %v, reason %q, held %s", got.Consistent, got.Reason, got.Held)
			}
			e.check(e.restore(got), "a", "text")
		})
	}
}

// database is a database of the agent.
type database struct {
	t  *testing.T
	db *sql.DB
}

func (e *env) database(name string) *database { return openDatabase(e.t, e.path(name), "") }

func openDatabase(t *testing.T, path, query string) *database {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)"+query)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = db.Close() })
	return &database{t, db}
}

func (d *database) exec(statements ...string) {
	d.t.Helper()
	for _, s := range statements {
		if _, err := d.db.ExecContext(d.t.Context(), s); err != nil {
			d.t.Fatalf("%s: %v", s, err)
		}
	}
}

func (d *database) value(query string) (v string) {
	d.t.Helper()
	if err := d.db.QueryRowContext(d.t.Context(), query).Scan(&v); err != nil {
		d.t.Errorf("%s: %v", query, err)
	}
	return v
}

func (d *database) close() { _ = d.db.Close() }

// TestLiveDatabase: a database that a program of the agent changes all the time is whole in
// the copy, with a WAL or a journal.
func TestLiveDatabase(t *testing.T) {
	for _, mode := range []string{"wal", "delete"} {
		t.Run(mode, func(t *testing.T) {
			e := newEnv(t)
			db := e.database("x.sqlite")
			db.exec("PRAGMA journal_mode("+mode+")", "CREATE TABLE a (v)", "CREATE TABLE b (v)")
			ctx, stop := context.WithCancel(t.Context())
			var writer sync.WaitGroup
			writer.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					tx, err := db.db.Begin()
					if err != nil {
						t.Error(err)
						return
					}
					_, err1 := tx.Exec("INSERT INTO a VALUES (?)", fmt.Sprint(i)+strings.Repeat("x", 3000))
					_, err2 := tx.Exec("INSERT INTO b VALUES (?)", i)
					if err := errors.Join(err1, err2, tx.Commit()); err != nil {
						t.Error(err)
						return
					}
				}
			})
			for range 5 {
				dir := e.restore(e.make(homecopy.Settings{}))
				copied := openDatabase(t, filepath.Join(dir, "x.sqlite"), "")
				if got := copied.value("PRAGMA integrity_check"); got != "ok" {
					t.Error(got)
				}
				if a, b := copied.value("SELECT count(*) FROM a"), copied.value("SELECT count(*) FROM b"); a != b {
					t.Errorf("the copy is from the middle of a transaction: %s and %s rows", a, b)
				}
				copied.close()
			}
			stop()
			writer.Wait()
		})
	}
}

// TestWALIsMerged: what is only in the WAL is in the copy, which is one file.
func TestWALIsMerged(t *testing.T) {
	e := newEnv(t)
	db := e.database("x.sqlite")
	db.exec("PRAGMA wal_autocheckpoint(0)", "CREATE TABLE a (v)", "INSERT INTO a VALUES ('in the WAL')")
	dir := e.restore(e.make(homecopy.Settings{}))
	names, err := filepath.Glob(dir + "/*")
	if err != nil || len(names) != 1 {
		t.Errorf("%q, %v", names, err)
	}
	if got := openDatabase(t, filepath.Join(dir, "x.sqlite"), "").value("SELECT v FROM a"); got != "in the WAL" {
		t.Errorf("%q", got)
	}
	if left, _ := filepath.Glob(e.home + "/*"); len(left) != 3 {
		t.Errorf("the home has %q", left)
	}
}

// TestHostileJournal: a journal can name a file that SQLite would delete when it opens the
// database; the server opens none that has a journal, and keeps both as they are.
func TestHostileJournal(t *testing.T) {
	e := newEnv(t)
	db := e.database("x.sqlite")
	db.exec("CREATE TABLE a (v)")
	db.close()
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	journal := journalNaming(victim)
	e.write("x.sqlite-journal", journal)
	e.write("x.sqlite-wal", "no WAL")
	dir := e.restore(e.make(homecopy.Settings{}))
	e.check(dir, "x.sqlite-journal", journal)
	e.check(dir, "x.sqlite-wal", "no WAL")
	if _, err := os.Stat(victim); err != nil {
		t.Errorf("the victim: %v", err)
	}
}

// journalNaming returns a rollback journal with the name of a super-journal.
func journalNaming(name string) string {
	var b bytes.Buffer
	b.WriteString("\xd9\xd5\x05\xf9\x20\xa1\x63\xd7")
	b.Write(make([]byte, 504))
	sum := 0
	for _, c := range []byte(name) {
		sum += int(c)
	}
	b.Write([]byte{0, 0, 0, 0})
	b.WriteString(name)
	for _, n := range []int{len(name), sum} {
		b.Write([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	}
	b.WriteString("\xd9\xd5\x05\xf9\x20\xa1\x63\xd7")
	return b.String()
}

// TestHostileCopy: Write makes nothing outside of its directory, whatever the entries say.
func TestHostileCopy(t *testing.T) {
	e := newEnv(t)
	outside := t.TempDir()
	link := homecopy.Entry{Path: "l", Type: homecopy.Link, Link: homecopy.Bytes(outside)}
	for name, entries := range map[string][]homecopy.Entry{
		"parent":    {{Path: "../x", Type: homecopy.File}},
		"absolute":  {{Path: homecopy.Bytes(outside + "/x"), Type: homecopy.File}},
		"dots":      {{Path: "a/../../x", Type: homecopy.Directory}},
		"itself":    {{Path: ".", Type: homecopy.Directory, Mode: 0o777}},
		"through":   {link, {Path: "l/x", Type: homecopy.File}},
		"mode":      {link, {Path: "l", Type: homecopy.Directory, Mode: 0o777}},
		"twice":     {{Path: "x", Type: homecopy.File}, {Path: "x", Type: homecopy.File}},
		"type":      {{Path: "x", Type: "b"}},
		"ranges":    {{Path: "x", Type: homecopy.File, Size: 5, Data: []homecopy.Range{{Offset: 4, Length: 2}}}},
		"no parent": {{Path: "a/x", Type: homecopy.File}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "home")
			if err := homecopy.Write(t.Context(), dir, entries, e.in.Open); err == nil {
				t.Error("it was written")
			}
			if found, err := os.ReadDir(outside); err != nil || len(found) != 0 {
				t.Errorf("outside: %v, %v", found, err)
			}
		})
	}
}
