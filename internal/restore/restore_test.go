package restore

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// backupAt is when the backups of these tests were made.
var backupAt = time.Now().Add(-time.Hour).UTC().Truncate(time.Millisecond)

// schema is the one of the backups of these tests: an older one than this program's.
const schema = 92

// shared is what makeBackup has made, which takes most of the time of these tests.
var shared string

func TestMain(m *testing.M) {
	code := m.Run()
	if shared != "" {
		_ = os.RemoveAll(shared)
	}
	os.Exit(code)
}

// newBackup returns a data directory that stands for what Unpack writes.
func newBackup(t *testing.T) string {
	t.Helper()
	if shared == "" {
		dir, err := os.MkdirTemp("", "agento-restore-")
		if err != nil {
			t.Fatal(err)
		}
		shared = dir
		makeBackup(t, dir)
	}
	dir := t.TempDir()
	if out, err := exec.Command("cp", "-a", shared+"/.", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// makeBackup makes a data directory of an older agento, with an account, three keys, a secret,
// an agent with a home that ran, and a turn that waits.
func makeBackup(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, databaseName)
	createDatabase(t, path)
	key, err := vault.Open(t.Context(), openAs(t, path), vault.KeySource{File: filepath.Join(dir, keyName)})
	if err != nil {
		t.Fatal(err)
	}
	db := openAs(t, path)
	events := event.NewLog(db)
	if err := vault.NewInstallation(db, key, events).Set(t.Context(), identity.ByOperator(""), vault.GitHubToken, vault.NewSecret("placeholder")); err != nil {
		t.Fatal(err)
	}
	accounts := access.New(access.Settings{DB: db, Events: events})
	account, err := accounts.CreateAccount(t.Context(), identity.ByOperator(""), "acme", "")
	if err != nil {
		t.Fatal(err)
	}
	operator := identity.ByOperator(account.ID)
	for _, label := range []string{"old", "first", "second"} {
		k, _, err := accounts.CreateKey(t.Context(), operator, access.NewKey{Label: label, Scopes: access.AllScopes(), RateLimit: 10})
		if err == nil && label == "old" {
			err = accounts.RevokeKey(t.Context(), operator, k.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	err = db.Tx(t.Context(), "restore.test", func(ctx context.Context, tx *database.Tx) error {
		for _, query := range []string{
			`INSERT INTO agents (id, account_id, name, region, config, desired_state, generation, observed_generation, status, place, holder, lease_until, created_at)
				VALUES ('ada', $1, 'ada', 'local', '{}', 'running', 1, 1, 'running', 'place', 'original', 9000000000000, 1)`,
			`INSERT INTO sessions (id, account_id, agent_id, owner, peer_id, entry, gateway_key, channel, started_at) VALUES ('sess_1', $1, 'ada', 'key:1', '', 'main', 'k', 'api', 1)`,
			`INSERT INTO turns (id, account_id, agent_id, session_id, message, context, on_disconnect, state, holder, lease_until, created_at)
				VALUES ('turn_1', $1, 'ada', 'sess_1', 'Hello', '', '', 'queued', '', 0, 1)`,
		} {
			if _, err := tx.ExecContext(ctx, query, account.ID); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	downgrade(t, path)
	for name, text := range map[string]string{
		"agents/ada/home/workspace/SOUL.md": "I am Ada.", "agents/ada/installation": "inst_original", "agents/ada/gateway.json": "{}", "agents/ada/user": "1", "agents/ada/pid": "1",
		"agents/ada/log/gateway.log": "hello", "agents/.discarded-x/file": "", "admin.sock": "", "unknown-agents.txt": "", "catalog/mine/SKILL.md": "",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// openAs opens a database, and closes it at the end of the test.
func openAs(t *testing.T, path string) *database.DB {
	t.Helper()
	db, err := database.Open(t.Context(), database.Settings{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func createDatabase(t *testing.T, path string) {
	t.Helper()
	if _, err := database.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
}

// downgrade copies the rows of a database into one of the older schema.
func downgrade(t *testing.T, path string) {
	t.Helper()
	old := path + ".old"
	db, err := sql.Open("sqlite", "file:"+old)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
			t.Fatalf("%.60s: %v", query, err)
		}
	}
	exec(`PRAGMA journal_mode(WAL)`)
	exec(`CREATE TABLE schema_migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL, applied_at BIGINT NOT NULL)`)
	files, err := filepath.Glob("../database/migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		version, err := strconv.Atoi(filepath.Base(file)[:4])
		if err != nil || version > schema {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(text)
		exec(string(text))
		exec(`INSERT INTO schema_migrations VALUES ($1, $2, $3, 1)`, version, filepath.Base(file), hex.EncodeToString(sum[:]))
	}
	exec(`ATTACH $1 AS new`, path)
	exec(`INSERT INTO installation (id, created_at) SELECT 'inst_original', created_at FROM new.installation`)
	for table, columns := range map[string]string{
		"accounts": "id, name, plan_id, created_at", "keys": "id, account_id, label, lookup, hash, hint, scopes, rate_limit, created_at, revoked_at",
		"agents":    "id, account_id, name, region, config, desired_state, generation, observed_generation, status, place, holder, lease_until, created_at",
		"sessions":  "id, account_id, agent_id, owner, peer_id, entry, gateway_key, channel, started_at",
		"turns":     "id, account_id, agent_id, session_id, message, context, on_disconnect, state, holder, lease_until, created_at",
		"data_keys": "account_id, owner_id, master_id, sealed, created_at", "secrets": "account_id, owner_id, name, sealed, updated_at", "master_key": "fingerprint, sealed, created_at",
	} {
		exec(`INSERT INTO ` + table + ` (` + columns + `) SELECT ` + columns + ` FROM new.` + table)
	}
	if err := errors.Join(db.Close(), os.Rename(old, path), os.RemoveAll(path+"-wal"), os.RemoveAll(path+"-shm")); err != nil {
		t.Fatal(err)
	}
}

// lockDir locks as a server does.
func lockDir(dir string) (func() error, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return nil, errors.Join(ErrInUse, f.Close())
	}
	return f.Close, nil
}

// settings returns those of a restore of a backup into a new directory.
func settings(t *testing.T, backup string) Settings {
	t.Helper()
	return Settings{
		Dir: filepath.Join(t.TempDir(), "above", "data"), Lock: lockDir, Log: slog.New(slog.DiscardHandler),
		Unpack: func(_ context.Context, dir string) (Backup, error) {
			out, err := exec.Command("cp", "-a", backup+"/.", dir).CombinedOutput()
			if err != nil {
				err = errors.New(string(out))
			}
			return Backup{ID: "one", At: backupAt}, err
		},
	}
}

func TestRestoreMakesANewQuietInstallation(t *testing.T) {
	s := settings(t, newBackup(t))
	r, err := Run(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if r.Original != "inst_original" || r.Installation == r.Original || r.From != schema || r.To <= schema || r.Agents != 1 || r.EndedTurns != 1 || r.Catalog != filepath.Join(s.Dir, "catalog") {
		t.Errorf("%+v", r)
	}
	if len(r.Keys) != 2 || r.Keys[0].Account != "acme" || r.Keys[0].Revoked || !slices.ContainsFunc(r.Keys, func(k Key) bool { return k.Label == "first" }) {
		t.Errorf("the keys: %+v", r.Keys)
	}
	db := openAs(t, filepath.Join(s.Dir, databaseName))
	from, err := db.Restored(t.Context())
	if err != nil || !db.IsQuiet() || db.Installation() != r.Installation || from.From != r.Original || !from.BackupAt.Equal(backupAt) {
		t.Errorf("%+v, %v", from, err)
	}
	for query, want := range map[string]string{
		`SELECT status || place || holder || lease_until || (last_error <> '') FROM agents`: "starting01",
		`SELECT state || stop_reason || error_code FROM turns`:                              "failedinterruptedunavailable",
		`SELECT count(*) FROM data_keys WHERE token_generation < 1000000000000`:             "0",
		`SELECT count(*) FROM keys WHERE revoked_at = 0`:                                    "2",
		`SELECT kind FROM events WHERE topic = 'installation/restore'`:                      "installation.restored",
	} {
		if got, err := database.One(t.Context(), db, database.Scalar[string], query); err != nil || got != want {
			t.Errorf("%s: %q, %v", query, got, err)
		}
	}
	if key, err := (vault.KeySource{File: filepath.Join(s.Dir, keyName)}).Existing(t.Context(), db); err != nil || key == nil {
		t.Error("the master key is not there", err)
	} else if token, err := vault.NewInstallation(db, key, event.NewLog(db)).Read(t.Context(), vault.GitHubToken); err != nil || token.Reveal() != "placeholder" {
		t.Error("the secret is not there", err)
	}
	for name, want := range map[string]string{
		"agents/ada/home/workspace/SOUL.md": "I am Ada.", "agents/ada/installation": r.Installation + "\n", "agents/ada/log/gateway.log": "hello",
		"agents/ada/gateway.json": "", "agents/ada/user": "", "agents/ada/pid": "", "admin.sock": "", "unknown-agents.txt": "", "agents/.discarded-x/file": "",
	} {
		text, err := os.ReadFile(filepath.Join(s.Dir, name))
		if string(text) != want || (err != nil) != (want == "") {
			t.Errorf("%s has %q, %v", name, text, err)
		}
	}
	if copies, err := database.Copies(filepath.Join(s.Dir, databaseName)); err != nil || len(copies) != 0 {
		t.Errorf("copies of the database: %v, %v", copies, err)
	}
	if unlock, err := lockDir(s.Dir); err != nil {
		t.Error("the directory is still locked", err)
	} else if err := unlock(); err != nil {
		t.Error(err)
	}
	wantAlone(t, s)

	was, err := Activate(t.Context(), db, event.NewLog(db))
	again, againErr := Activate(t.Context(), db, event.NewLog(db))
	if err := errors.Join(err, againErr); err != nil || !was || again || db.IsQuiet() {
		t.Errorf("activated: %v, %v, %v", was, again, err)
	}
	if n, err := database.One(t.Context(), db, database.Scalar[int], `SELECT (SELECT count(*) FROM agents WHERE last_error <> '') + 10 * (SELECT count(*) FROM events WHERE kind = 'installation.activated')`); err != nil || n != 10 {
		t.Errorf("after the activation: %d, %v", n, err)
	}
}

// wantAlone fails the test if something is beside the data directory.
func wantAlone(t *testing.T, s Settings) {
	t.Helper()
	beside, err := os.ReadDir(filepath.Dir(s.Dir))
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	for _, e := range beside {
		if e.Name() != filepath.Base(s.Dir) {
			t.Errorf("left beside the data directory: %s", e.Name())
		}
	}
}

func TestRestoreCanRevokeAllKeys(t *testing.T) {
	s := settings(t, newBackup(t))
	s.RevokeKeys = true
	r, err := Run(t.Context(), s)
	if err != nil || len(r.Keys) != 2 || !r.Keys[0].Revoked {
		t.Fatalf("%+v, %v", r.Keys, err)
	}
	db := openAs(t, filepath.Join(s.Dir, databaseName))
	if n, err := database.One(t.Context(), db, database.Scalar[int], `SELECT count(*) FROM keys WHERE revoked_at = 0`); err != nil || n != 0 {
		t.Errorf("%d keys are valid, %v", n, err)
	}
}

// A directory with anything in it is refused, and stays as it is; an empty one is replaced.
func TestRestoreRefusesADirectoryThatIsNotEmptyOrInUse(t *testing.T) {
	backup := newBackup(t)
	s := settings(t, backup)
	unpack := s.Unpack
	s.Unpack = func(context.Context, string) (Backup, error) { return Backup{}, errors.New("it began") }
	write := func(name string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(s.Dir, 0o700), os.WriteFile(filepath.Join(s.Dir, name), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write("file")
	if _, err := Run(t.Context(), s); !errors.Is(err, ErrNotEmpty) || !strings.Contains(err.Error(), "choose another --data") {
		t.Error(err)
	}
	unlock, err := lockDir(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), s); !errors.Is(err, ErrInUse) || errors.Is(err, ErrNotEmpty) {
		t.Error(err)
	}
	if err := errors.Join(unlock(), os.RemoveAll(s.Dir), os.WriteFile(s.Dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), s); err == nil || !strings.Contains(err.Error(), "is not a directory") {
		t.Error(err)
	}
	if err := errors.Join(os.Remove(s.Dir), os.Mkdir(s.Dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	wantAlone(t, s)

	s.Unpack = unpack
	s.step = func(name string) {
		if name == "marked" { // a server starts on the empty directory
			write(lockName)
		}
	}
	if _, err := Run(t.Context(), s); !errors.Is(err, ErrNotEmpty) {
		t.Error(err)
	}
	wantAlone(t, s)
	if names, err := os.ReadDir(s.Dir); err != nil || len(names) != 1 {
		t.Errorf("the directory has %v, %v", names, err)
	}
	s.step = nil
	if err := os.Remove(filepath.Join(s.Dir, lockName)); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), s); err != nil {
		t.Error(err)
	}
}

// A symbolic link to an empty directory is followed: the link stays.
func TestRestoreFollowsALinkToTheDataDirectory(t *testing.T) {
	s := settings(t, newBackup(t))
	real := filepath.Join(t.TempDir(), "real")
	link := filepath.Join(t.TempDir(), "link")
	if err := errors.Join(os.Mkdir(real, 0o700), os.Symlink(real, link)); err != nil {
		t.Fatal(err)
	}
	s.Dir = link
	if _, err := Run(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(real, databaseName)); err != nil {
		t.Error(err)
	}
}

// The master key that the backup wants is asked for by its fingerprint, if it is not in it.
func TestRestoreAsksForTheMasterKey(t *testing.T) {
	backup := newBackup(t)
	text, err := os.ReadFile(filepath.Join(backup, keyName))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(backup, keyName)); err != nil {
		t.Fatal(err)
	}
	key, err := vault.ParseMasterKey(text)
	if err != nil {
		t.Fatal(err)
	}
	of, err := vault.New(key)
	if err != nil {
		t.Fatal(err)
	}
	right := of.Fingerprint()
	s := settings(t, backup)
	for _, given := range []string{"", strings.Repeat("ab", 32)} {
		s.Key = vault.KeySource{Given: vault.NewSecret(given)}
		if _, err := Run(t.Context(), s); err == nil || !strings.Contains(err.Error(), "fingerprint "+right) || !strings.Contains(err.Error(), "--master-key-file") || strings.Contains(err.Error(), ".restoring-") {
			t.Errorf("with %q: %v", given, err)
		}
		if _, err := os.Stat(s.Dir); !errors.Is(err, os.ErrNotExist) {
			t.Error("the data directory was made")
		}
		wantAlone(t, s)
	}
	outside := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(outside, text, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Key = vault.KeySource{File: outside}
	if _, err := Run(t.Context(), s); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(s.Dir, keyName)); !errors.Is(err, os.ErrNotExist) {
		t.Error("the key is in the data directory")
	}
}

// A restore that fails leaves nothing. One that was killed leaves its directory, which the next
// one removes; a directory that another restore works in stays.
func TestRestoreLeavesNothingBehind(t *testing.T) {
	s := settings(t, newBackup(t))
	unpack := s.Unpack
	s.Unpack = func(ctx context.Context, dir string) (Backup, error) {
		_, err := unpack(ctx, dir)
		return Backup{}, errors.Join(err, errors.New("the backup is damaged"))
	}
	if _, err := Run(t.Context(), s); err == nil || !strings.Contains(err.Error(), "the backup is damaged") {
		t.Error(err)
	}
	wantAlone(t, s)
	s.Unpack = func(_ context.Context, dir string) (Backup, error) {
		return Backup{}, os.Mkdir(filepath.Join(dir, databaseName), 0o700)
	}
	if _, err := Run(t.Context(), s); err == nil || !strings.Contains(err.Error(), "has no database") {
		t.Error(err)
	}
	wantAlone(t, s)

	parent := filepath.Dir(s.Dir)
	killed, working := filepath.Join(parent, prefix(s.Dir)+"1"), filepath.Join(parent, prefix(s.Dir)+"2")
	for _, dir := range []string{killed, working} {
		if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, lockName), nil, 0o600), os.WriteFile(filepath.Join(dir, databaseName), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	unlock, err := lockDir(working)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unlock() }()
	s.Unpack = unpack
	if _, err := Run(t.Context(), s); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(killed); !errors.Is(err, os.ErrNotExist) {
		t.Error("what a killed restore has left is still there")
	}
	if _, err := os.Stat(filepath.Join(working, databaseName)); err != nil {
		t.Error("the directory of another restore was removed", err)
	}
}
