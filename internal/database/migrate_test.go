package database_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
)

// The migrations of an older program and of a newer one.
var (
	older = fstest.MapFS{
		"0001_installation.sql": file(`CREATE TABLE installation (id TEXT PRIMARY KEY, created_at BIGINT NOT NULL);`),
		"0002_things.sql":       file(`CREATE TABLE things (id INTEGER PRIMARY KEY, text TEXT NOT NULL);`),
	}
	newer = with(older, fstest.MapFS{
		"0003_kinds.sql": file(`ALTER TABLE things ADD COLUMN kind TEXT NOT NULL DEFAULT 'plain';`),
		"0004_more.sql":  file(`CREATE TABLE more AS SELECT * FROM things; UPDATE things SET text = text || '!';`),
	})
)

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

func with(a, b fstest.MapFS) fstest.MapFS {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

func ignore(string) {}

// newOlder returns the file of a database of the older program, with n things.
func newOlder(t *testing.T, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agento.db")
	done, err := database.MigrateWith(t.Context(), path, older, ignore)
	if err != nil || !done.Created || done.To != 2 {
		t.Fatal(done, err)
	}
	db, err := database.OpenWith(t.Context(), database.Settings{Path: path}, older)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Tx(t.Context(), "database.test", func(ctx context.Context, tx *database.Tx) error {
		for i := range n {
			if _, err := tx.ExecContext(ctx, `INSERT INTO things (text) VALUES ($1)`, fmt.Sprintf("%d %s", i, strings.Repeat("x", 500))); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func openError(t *testing.T, path string, files fs.FS) string {
	t.Helper()
	db, err := database.OpenWith(t.Context(), database.Settings{Path: path}, files)
	if err == nil {
		_ = db.Close()
		return ""
	}
	return err.Error()
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := make([]string, len(entries))
	for i, e := range entries {
		all[i] = e.Name()
	}
	return all
}

func TestOpenNeitherCreatesNorMigrates(t *testing.T) {
	dir := t.TempDir()
	notDir := filepath.Join(dir, "file")
	empty := filepath.Join(dir, "empty.db")
	foreign := filepath.Join(dir, "foreign.db")
	for path, text := range map[string]string{notDir: "x", empty: "", foreign: strings.Repeat("no database ", 100)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := names(t, dir)
	for path, want := range map[string]string{
		filepath.Join(dir, "agento.db"):            "run agento serve or agento migrate first",
		filepath.Join(dir, "missing", "agento.db"): "run agento serve or agento migrate first",
		filepath.Join(notDir, "agento.db"):         "run agento serve or agento migrate first",
		dir:                                        "is not a file",
		empty:                                      "is empty",
		foreign:                                    "not a database",
	} {
		for _, readOnly := range []bool{false, true} {
			_, err := database.Open(t.Context(), database.Settings{Path: path, ReadOnly: readOnly})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	if after := names(t, dir); !slices.Equal(before, after) {
		t.Errorf("the directory had %q and has %q", before, after)
	}
}

// TestMigrateMakesNoDatabaseInPlaceOfADamagedOne: an empty file, or the WAL of a
// database that is gone, is what is left of somebody's data.
func TestMigrateMakesNoDatabaseInPlaceOfADamagedOne(t *testing.T) {
	for name, want := range map[string]string{"agento.db": "is empty", "agento.db-wal": "belongs to a database that is gone"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := database.Migrate(t.Context(), filepath.Join(dir, "agento.db"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
		if got := names(t, dir); !slices.Equal(got, []string{name}) {
			t.Errorf("%s: then there are %q", name, got)
		}
	}
}

func TestMigrateRefusesADatabaseWithoutMigrations(t *testing.T) {
	path := newOlder(t, 0)
	change(t, path, `DROP TABLE schema_migrations`)
	if _, err := database.MigrateWith(t.Context(), path, newer, ignore); err == nil || !strings.Contains(err.Error(), "does not say which schema it has") {
		t.Error(err)
	}
}

func TestAnOlderSchemaIsMigratedAfterACopy(t *testing.T) {
	path := newOlder(t, 3)
	if got := openError(t, path, newer); !strings.Contains(got, "has schema 2") || !strings.Contains(got, "needs schema 4") || !strings.Contains(got, "agento migrate") {
		t.Errorf("before: %s", got)
	}
	done, err := database.MigrateWith(t.Context(), path, newer, ignore)
	if err != nil || done.Created || done.From != 2 || done.To != 4 {
		t.Fatalf("%+v, %v", done, err)
	}
	if got := openError(t, path, newer); got != "" {
		t.Errorf("after: %s", got)
	}
	if got := openError(t, done.Copy, older); got != "" {
		t.Errorf("the copy: %s", got)
	}
	if info, err := os.Stat(done.Copy); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the copy: %v, %v", info, err)
	}
	if again, err := database.MigrateWith(t.Context(), path, newer, ignore); err != nil || again.Copy != "" || again.From != 4 {
		t.Errorf("the second time: %+v, %v", again, err)
	}
	if copies, err := database.Copies(path); err != nil || !slices.Equal(copies, []string{done.Copy}) {
		t.Errorf("the copies: %q, %v", copies, err)
	}
}

func TestANewerSchemaIsRefused(t *testing.T) {
	path := newOlder(t, 3)
	if _, err := database.MigrateWith(t.Context(), path, newer, ignore); err != nil {
		t.Fatal(err)
	}
	_, err := database.MigrateWith(t.Context(), path, older, ignore)
	for what, got := range map[string]string{"open": openError(t, path, older), "migrate": fmt.Sprint(err)} {
		if !strings.Contains(got, "has schema 4") || !strings.Contains(got, "up to 2") || !strings.Contains(got, "use the newer agento") {
			t.Errorf("%s: %s", what, got)
		}
	}
}

// TestAChangedMigrationIsRefused: the schema is not what the program expects, although
// the version is the same.
func TestAChangedMigrationIsRefused(t *testing.T) {
	path := newOlder(t, 3)
	for what, files := range map[string]fstest.MapFS{
		"edited":   with(newer, fstest.MapFS{"0002_things.sql": file(`CREATE TABLE things (id INTEGER PRIMARY KEY, text TEXT);`)}),
		"inserted": {"0001_installation.sql": older["0001_installation.sql"], "0003_kinds.sql": newer["0003_kinds.sql"]},
	} {
		_, err := database.MigrateWith(t.Context(), path, files, ignore)
		for doing, got := range map[string]string{"open": openError(t, path, files), "migrate": fmt.Sprint(err)} {
			if !strings.Contains(got, "0002_things.sql") || !strings.Contains(got, "use the agento that served it last") {
				t.Errorf("%s, %s: %s", what, doing, got)
			}
		}
	}
	if got := names(t, filepath.Dir(path)); !slices.Equal(got, []string{"agento.db"}) {
		t.Errorf("then there are %q", got)
	}
}

func TestAFailedMigrationChangesNothing(t *testing.T) {
	path := newOlder(t, 3)
	for _, text := range []string{`CREATE TABLE more (x); SELECT no_such_column FROM things;`, `CREATE TABLE child (id REFERENCES things (id)); INSERT INTO child VALUES (99);`} {
		_, err := database.MigrateWith(t.Context(), path, with(newer, fstest.MapFS{"0005_broken.sql": file(text)}), ignore)
		if err == nil || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("%s: %v", text, err)
		}
		if got := openError(t, path, older); got != "" {
			t.Error(got)
		}
	}
}

// TestMigrationsContainNoTransactions: one that committed would break the transaction of
// the whole migration.
func TestMigrationsContainNoTransactions(t *testing.T) {
	own := regexp.MustCompile(`(?im)^\s*(COMMIT|END|ROLLBACK|BEGIN)\b[^\n]*;`)
	for _, m := range database.Migrations() {
		text := regexp.MustCompile(`(?ims)^CREATE TRIGGER.*?^END;`).ReplaceAllString(m.SQL(), "")
		if own.MatchString(text) {
			t.Errorf("%s: %s", m.Name(), own.FindString(text))
		}
	}
}

// TestMain runs a migration that is killed, or runs out of disk, for the tests below.
func TestMain(m *testing.M) {
	if path := os.Getenv("TEST_MIGRATE"); path != "" {
		migrateAndDie(path)
	}
	os.Exit(m.Run())
}

// migrateAndDie migrates a database to the newer schema. It kills its process after the
// step TEST_KILL; TEST_FILE_LIMIT is how large a file can get.
func migrateAndDie(path string) {
	if limit, err := strconv.ParseUint(os.Getenv("TEST_FILE_LIMIT"), 10, 64); err == nil {
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
			panic(err)
		}
	}
	_, err := database.MigrateWith(context.Background(), path, newer, func(name string) {
		fmt.Println(name)
		if name == os.Getenv("TEST_KILL") {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	os.Exit(0)
}

// migrateInProcess runs migrateAndDie and returns its steps, and whether it succeeded.
func migrateInProcess(t *testing.T, path string, env ...string) (steps []string, ok bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), append(env, "TEST_MIGRATE="+path)...)
	out, err := cmd.Output()
	for in := bufio.NewScanner(strings.NewReader(string(out))); in.Scan(); {
		steps = append(steps, in.Text())
	}
	return steps, err == nil
}

// checkOldOrNew checks that a database is as before or migrated, and that it can be
// completed.
func checkOldOrNew(t *testing.T, path string, things int) (isNew bool) {
	t.Helper()
	old := openError(t, path, older)
	if isNew = old != ""; isNew {
		if got := openError(t, path, newer); got != "" {
			t.Fatalf("neither old nor new: %s; %s", old, got)
		}
	}
	checkCompletion(t, path, things)
	return isNew
}

// checkCompletion checks that the next Migrate succeeds, that the database then has its
// things, and that no file of a failed migration is left.
func checkCompletion(t *testing.T, path string, things int) {
	t.Helper()
	if _, err := database.MigrateWith(t.Context(), path, newer, ignore); err != nil {
		t.Fatalf("the next migration: %v", err)
	}
	db, err := database.OpenWith(t.Context(), database.Settings{Path: path}, newer)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	n, err := database.One(t.Context(), db, database.Scalar[int], `SELECT count(*) FROM things WHERE text LIKE '%x!' AND kind = 'plain'`)
	if err != nil || n != things {
		t.Errorf("%d of %d things are migrated, %v", n, things, err)
	}
	for _, name := range names(t, filepath.Dir(path)) {
		if strings.Contains(name, "unfinished") {
			t.Errorf("%s is left", name)
		}
	}
}

func TestKilledMigrationLeavesTheOldOrTheNewState(t *testing.T) {
	const things = 100
	steps, ok := migrateInProcess(t, newOlder(t, things))
	if !ok || len(steps) < 7 {
		t.Fatalf("the steps are %q", steps)
	}
	for i, step := range steps {
		path := newOlder(t, things)
		if _, ok := migrateInProcess(t, path, "TEST_KILL="+step); ok {
			t.Fatalf("%s: it was not killed", step)
		}
		if isNew, last := checkOldOrNew(t, path, things), i == len(steps)-1; isNew != last {
			t.Errorf("killed after %q, the database is new: %v", step, isNew)
		}
	}
}

func TestKilledCreationLeavesNoDatabaseOrAWholeOne(t *testing.T) {
	steps, ok := migrateInProcess(t, filepath.Join(t.TempDir(), "agento.db"))
	if !ok || len(steps) < 7 {
		t.Fatalf("the steps are %q", steps)
	}
	for i, step := range steps {
		path := filepath.Join(t.TempDir(), "agento.db")
		if _, ok := migrateInProcess(t, path, "TEST_KILL="+step); ok {
			t.Fatalf("%s: it was not killed", step)
		}
		if _, err := os.Stat(path); (err == nil) != (i == len(steps)-1) {
			t.Errorf("killed after %q: %v", step, err)
		}
		checkCompletion(t, path, 0)
	}
}

// TestFullDiskLeavesTheOldOrTheNewState lets every file grow to a limit, from nothing to
// enough for everything.
func TestFullDiskLeavesTheOldOrTheNewState(t *testing.T) {
	const things = 300
	failed, succeeded := 0, 0
	for limit := int64(0); succeeded == 0; limit += 16 << 10 {
		path := newOlder(t, things)
		_, ok := migrateInProcess(t, path, fmt.Sprintf("TEST_FILE_LIMIT=%d", limit))
		if ok {
			succeeded++
		} else {
			failed++
		}
		if isNew := checkOldOrNew(t, path, things); isNew != ok {
			t.Errorf("with files of at most %d bytes, success is %v and the database is new: %v", limit, ok, isNew)
		}
		created := filepath.Join(t.TempDir(), "agento.db")
		_, ok = migrateInProcess(t, created, fmt.Sprintf("TEST_FILE_LIMIT=%d", limit))
		if _, err := os.Stat(created); ok != (err == nil) {
			t.Errorf("created with files of at most %d bytes, success is %v: %v", limit, ok, err)
		}
	}
	if failed < 5 {
		t.Errorf("only %d limits were too low", failed)
	}
}

// TestReadOnlyMakesNoFile: also when the server was killed and has left a WAL.
func TestReadOnlyMakesNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agento.db")
	db := databasetest.Open(t, path)
	defer func() { _ = db.Close() }()
	err := db.Tx(t.Context(), "database.test", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, insert)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	clean := filepath.Join(t.TempDir(), "agento.db")
	if err := databasetest.Open(t, clean).Close(); err != nil {
		t.Fatal(err)
	}
	killed, withoutIndex := copyFiles(t, path, "", "-wal", "-shm"), copyFiles(t, path, "", "-wal")
	for path, rows := range map[string]int{clean: 0, killed: 1, withoutIndex: 1} {
		before := names(t, filepath.Dir(path))
		read, err := database.Open(t.Context(), database.Settings{Path: path, ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		if n := count(t, read); n != rows {
			t.Errorf("%d rows, not %d", n, rows)
		}
		if err := read.Tx(t.Context(), "database.test", func(context.Context, *database.Tx) error { return nil }); err == nil {
			t.Error("it can be changed")
		}
		if err := read.Close(); err != nil {
			t.Error(err)
		}
		if after := names(t, filepath.Dir(path)); !slices.Equal(before, after) {
			t.Errorf("the directory had %q and has %q", before, after)
		}
	}
}

// copyFiles copies a database with these suffixes to another directory.
func copyFiles(t *testing.T, path string, suffixes ...string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "agento.db")
	for _, suffix := range suffixes {
		data, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to+suffix, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// migratedFrom returns a database that had the rows of some statements when its schema was
// the one before a migration, and has been migrated since.
func migratedFrom(t *testing.T, migration string, rows ...string) *database.DB {
	t.Helper()
	before := fstest.MapFS{}
	for _, m := range database.Migrations() {
		if m.Name() < migration {
			before[m.Name()] = file(m.SQL())
		}
	}
	path := filepath.Join(t.TempDir(), "agento.db")
	if _, err := database.MigrateWith(t.Context(), path, before, ignore); err != nil {
		t.Fatal(err)
	}
	db, err := database.OpenWith(t.Context(), database.Settings{Path: path}, before)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Tx(t.Context(), "test", func(ctx context.Context, tx *database.Tx) (err error) {
		for _, query := range rows {
			_, failed := tx.ExecContext(ctx, query)
			err = errors.Join(err, failed)
		}
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	db = databasetest.Open(t, path)
	t.Cleanup(func() { _ = db.Close() })
	return db
}
