package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fails runs a command that must fail, and returns its messages.
func (in *installation) fails(args ...string) string {
	in.t.Helper()
	out, err := in.program(args...).CombinedOutput()
	if err == nil {
		in.t.Errorf("agento %s succeeded:\n%s", strings.Join(args, " "), out)
	}
	return string(out)
}

// exec changes the database behind the back of the server.
func (in *installation) exec(statements ...string) {
	in.t.Helper()
	db := in.openDatabase()
	defer func() { _ = db.Close() }()
	for _, s := range statements {
		if _, err := db.ExecContext(in.t.Context(), s); err != nil {
			in.t.Fatal(s, err)
		}
	}
}

// migrations returns the names of the migrations that the database has.
func (in *installation) migrations() string {
	in.t.Helper()
	db := in.openDatabase()
	defer func() { _ = db.Close() }()
	var names string
	if err := db.QueryRowContext(in.t.Context(), `SELECT group_concat(name) FROM schema_migrations`).Scan(&names); err != nil {
		in.t.Fatal(err)
	}
	return names
}

// files returns what is in the data directory, without the files that SQLite changes all
// the time, and without the reserve, which the server fills after its start.
func (in *installation) files() string {
	in.t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(in.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || strings.HasPrefix(d.Name(), "agento.db-") {
			return err
		}
		if d.Name() == "reserve" {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		_, err = all.WriteString(path + info.Mode().String() + "\n")
		return err
	})
	if err != nil {
		in.t.Fatal(err)
	}
	return all.String()
}

// forgetLastMigration is what makes the database one of an older program. The server
// does not look at this table again.
const forgetLastMigration = `
	CREATE TABLE forgotten AS SELECT * FROM schema_migrations ORDER BY version DESC LIMIT 1;
	DELETE FROM schema_migrations WHERE version = (SELECT version FROM forgotten)`

// TestCommandsGoToTheRunningServer: they, and a second server, neither migrate its
// database nor change anything else on their own, also if they are of a newer program.
func TestCommandsGoToTheRunningServer(t *testing.T) {
	in := newInstallation(t, "acme")
	in.start()
	if info, err := os.Lstat(filepath.Join(in.data, "admin.sock")); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Fatal(info, err)
	}
	if _, err := in.client("acme").Account(t.Context()); err != nil {
		t.Fatal(err)
	}
	in.exec(forgetLastMigration)
	files, migrations := in.files(), in.migrations()

	if out := in.fails("serve", "--listen=127.0.0.1:0"); !strings.Contains(out, "another agento server") {
		t.Errorf("a second server: %s", out)
	}
	if out := in.fails("migrate"); !strings.Contains(out, "another agento server") {
		t.Errorf("migrate: %s", out)
	}
	in.run("accounts", "create", "other")
	key := strings.TrimSpace(in.run("keys", "create", "other"))
	for _, args := range [][]string{{"accounts", "list"}, {"keys", "list", "other"}, {"installation", "secrets", "list"}, {"installation", "secrets", "delete", "--yes", "EMBEDDER_API_KEY"}, {"gc"}} {
		in.run(args...)
	}
	in.keys["other"] = key
	if _, err := in.client("other").Account(t.Context()); err != nil {
		t.Errorf("the new key: %v", err)
	}
	if got := in.files(); got != files {
		t.Errorf("the data directory had\n%sand has\n%s", files, got)
	}
	if got := in.migrations(); got != migrations {
		t.Errorf("the database had the migrations %s and has %s", migrations, got)
	}
	withServer := in.run("--json", "accounts", "list")
	in.stop()

	// Without the server, the older schema is refused, in words.
	for _, args := range [][]string{{"accounts", "list"}, {"accounts", "create", "third"}} {
		if out := in.fails(args...); !strings.Contains(out, "run agento migrate") || strings.Count(out, "schema ") != 2 {
			t.Errorf("%v on an older schema: %s", args, out)
		}
	}
	in.exec(`INSERT INTO schema_migrations SELECT * FROM forgotten`, `DROP TABLE forgotten`)
	if got := in.run("--json", "accounts", "list"); got != withServer {
		t.Errorf("the server lists\n%s, and the command alone\n%s", withServer, got)
	}
	if got := in.files(); strings.Contains(got, "admin.sock") {
		t.Errorf("the socket is left: %s", got)
	}

	// A newer schema is refused by everything, and stays.
	in.exec(`INSERT INTO schema_migrations VALUES (9999, '9999_future.sql', '', 1)`)
	files, migrations = in.files(), in.migrations()
	for _, args := range [][]string{{"serve", "--listen=127.0.0.1:0"}, {"migrate"}, {"accounts", "list"}, {"accounts", "create", "third"}} {
		if out := in.fails(args...); !strings.Contains(out, "has schema 9999 and this agento knows schemas up to") {
			t.Errorf("%v on a newer schema: %s", args, out)
		}
	}
	if in.files() != files || in.migrations() != migrations {
		t.Error("the database of a newer program was changed")
	}
}

// TestCommandsAfterAKilledServer: its socket and its WAL are still there.
func TestCommandsAfterAKilledServer(t *testing.T) {
	in := newInstallation(t, "acme")
	in.start()
	in.run("accounts", "create", "last")
	in.kill()
	before := in.files()
	list := in.run("accounts", "list")
	if !strings.Contains(list, "last") {
		t.Errorf("what the server stored last is not read: %s", list)
	}
	if got := in.files(); got != before {
		t.Errorf("reading changed the directory from\n%sto\n%s", before, got)
	}
	in.run("accounts", "create", "third")
	in.start()
	if list := in.run("accounts", "list"); !strings.Contains(list, "third") {
		t.Errorf("after the next start: %s", list)
	}
	in.stop()
	if data, err := os.ReadFile(filepath.Join(in.data, "agento.db-wal")); err == nil && len(bytes.TrimSpace(data)) > 0 {
		t.Error("the WAL is left")
	}
}
