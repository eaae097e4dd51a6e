package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"agento.host/agento/client"
	"agento.host/agento/internal/backup"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/restore"
	"agento.host/agento/internal/vault"
)

// restoreCopy restores a copy of a stopped installation's data, as a backup of it has them.
func restoreCopy(t *testing.T, in *installation) *installation {
	t.Helper()
	data := filepath.Join(t.TempDir(), "restored")
	_, err := restore.Run(t.Context(), restore.Settings{
		Dir: data, Lock: lockForRestore, Log: slog.New(slog.DiscardHandler),
		Unpack: func(_ context.Context, dir string) (restore.Backup, error) {
			out, err := exec.Command("cp", "-a", in.data+"/.", dir).CombinedOutput()
			if err != nil {
				err = errors.New(string(out))
			}
			return restore.Backup{ID: "one", At: time.Now()}, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	other := newInstallationIn(t, data)
	other.model, other.keys = in.model, in.keys
	return other
}

// TestRestoredServerIsQuietUntilItIsActivated: with the real server, and without gateways.
func TestRestoredServerIsQuietUntilItIsActivated(t *testing.T) {
	in := newInstallation(t, "acme", "closed")
	db := in.openDatabase()
	// One agent is being deleted: a server that is not quiet removes it at once. The other one
	// should run.
	_, err := db.ExecContext(t.Context(), `INSERT INTO agents (id, account_id, name, region, config, desired_state, generation, status, created_at)
		SELECT 'ada', id, 'ada', 'local', '{}', 'deleted', 2, 'stopped', 1 FROM accounts WHERE name = 'acme'
		UNION ALL SELECT 'eve', id, 'eve', 'local', '{}', 'running', 1, 'running', 1 FROM accounts WHERE name = 'closed'`)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	other := restoreCopy(t, in)
	// The database does not know this one, so it goes into quarantine.
	lost := filepath.Join(other.data, agentsDir, "lost")
	if err := errors.Join(os.MkdirAll(filepath.Join(lost, "home"), 0o700), os.WriteFile(filepath.Join(lost, "installation"), []byte(installationOf(t, other)), 0o600)); err != nil {
		t.Fatal(err)
	}
	count := func(query string) (n int) {
		t.Helper()
		db := other.openDatabase()
		if err := errors.Join(db.QueryRowContext(t.Context(), query).Scan(&n), db.Close()); err != nil {
			t.Fatal(err)
		}
		return n
	}
	remains := func() int { return count(`SELECT count(*) FROM agents WHERE id = 'ada'`) }
	other.start()
	if !strings.Contains(other.logs.String(), "This installation is quiet") || !strings.Contains(other.logs.String(), "agento activate --data "+other.data) {
		t.Errorf("the start says %s", other.logs)
	}
	if got := degradedNames(t, other); !strings.Contains(got, "quiet") {
		t.Errorf("/readyz names %s", got)
	}
	_, err = other.client("acme").CreateAgent(t.Context(), other.newAgent("bob"))
	if answered := (*client.Error)(nil); !errors.As(err, &answered) || answered.Code != "unavailable" || !strings.Contains(answered.Message, "until its operator activates it") {
		t.Errorf("creating an agent: %v", err)
	}
	out, _ := other.program("doctor").CombinedOutput() // it may find parts of this machine that need a fix
	if !strings.Contains(string(out), "WARN installation") {
		t.Errorf("doctor says %s", out)
	}
	if out, err := other.program("activate").CombinedOutput(); err == nil || !strings.Contains(string(out), "From then on the original must not run") {
		t.Errorf("activate without an answer: %v, %s", err, out)
	}
	if _, err := os.Stat(lost); err != nil || remains() != 1 {
		t.Errorf("the quiet server has removed something: %d agents, %v", remains(), err)
	}
	other.stop()
	other.start() // it stays so
	if remains() != 1 {
		t.Error("the next quiet server has removed something")
	}
	other.run("accounts", "disable", "closed")
	other.run("activate", "--yes")
	waitUntil(t, "the agent of the account that was disabled is stopped", func() bool {
		return count(`SELECT count(*) FROM agents WHERE id = 'eve' AND status = 'stopped'`) == 1
	})
	if n := count(`SELECT count(*) FROM events WHERE kind = 'agent.placed'`); n != 0 {
		t.Error("an agent of a disabled account was started")
	}
	waitUntil(t, "the agent is removed, and the lost home is in quarantine", func() bool {
		_, err := os.Stat(lost)
		return remains() == 0 && errors.Is(err, os.ErrNotExist)
	})
	if got := degradedNames(t, other); strings.Contains(got, "quiet") {
		t.Errorf("/readyz names %s", got)
	}
	if out := other.run("activate", "--yes"); !strings.Contains(out, "active already") {
		t.Errorf("activate again: %s", out)
	}
	other.stop()
}

// installationOf returns the id of an installation, as its homes have it.
func installationOf(t *testing.T, in *installation) (id string) {
	t.Helper()
	db := in.openDatabase()
	if err := errors.Join(db.QueryRowContext(t.Context(), `SELECT id FROM installation`).Scan(&id), db.Close()); err != nil {
		t.Fatal(err)
	}
	return id
}

// degradedNames returns what a server says that does not work.
func degradedNames(t *testing.T, in *installation) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, in.url+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	var body struct {
		Degraded []struct{ Name string }
	}
	if err := errors.Join(err, res.Body.Close(), json.Unmarshal(text, &body)); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var names []string
	for _, d := range body.Degraded {
		names = append(names, d.Name)
	}
	return strings.Join(names, " ")
}

// backupOf makes a backup of an installation that no server uses.
func backupOf(t *testing.T, in *installation, to backup.Destination) {
	t.Helper()
	db, err := database.Open(t.Context(), database.Settings{Path: filepath.Join(in.data, "agento.db")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = backup.Make(t.Context(), backup.Source{
		DB: db, Data: in.data, Version: version, Log: slog.New(slog.DiscardHandler),
		Agents: func(ctx context.Context, q database.Reader) ([]identity.AgentID, error) {
			return database.All(ctx, q, database.Scalar[identity.AgentID], `SELECT id FROM agents`)
		},
		Hold: func(context.Context, identity.AgentID) (func() (time.Duration, error), error) {
			return func() (time.Duration, error) { return 0, nil }, nil
		},
	}, to, func(backup.Progress) {})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// withHome adds an agent that is stopped, and has a home, to an installation that no server
// uses.
func withHome(t *testing.T, in *installation, agent string) {
	t.Helper()
	id := installationOf(t, in)
	db := in.openDatabase()
	_, err := db.ExecContext(t.Context(), `INSERT INTO agents (id, account_id, name, region, config, desired_state, generation, observed_generation, status, created_at)
		SELECT $1, id, $1, 'local', '{}', 'stopped', 1, 1, 'stopped', 1 FROM accounts`, agent)
	dir := filepath.Join(in.data, agentsDir, agent)
	err = errors.Join(err, db.Close(), os.MkdirAll(filepath.Join(dir, "home", "workspace"), 0o700), os.WriteFile(filepath.Join(dir, "installation"), []byte(id+"\n"), 0o600),
		os.WriteFile(filepath.Join(dir, "home", "workspace", "SOUL.md"), []byte("I am "+agent), 0o600))
	if err != nil {
		t.Fatal(err)
	}
}

// TestRestoreCommand restores backups of every kind of protection.
func TestRestoreCommand(t *testing.T) {
	in := newInstallation(t, "acme")
	withHome(t, in, "ada")
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	passphrase, identityFile := filepath.Join(dir, "passphrase"), filepath.Join(dir, "identity")
	if err := errors.Join(os.WriteFile(passphrase, []byte("correct horse battery\n"), 0o600), os.WriteFile(identityFile, []byte(key.String()+"\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		to   backup.Destination
		args []string
	}{
		"passphrase": {backup.Destination{Passphrase: vault.NewSecret("correct horse battery")}, []string{"--passphrase-file", passphrase}},
		"recipient":  {backup.Destination{Recipient: key.Recipient().String()}, []string{"--identity", identityFile, "--revoke-keys"}},
		"plain":      {backup.Destination{Plain: true}, nil},
	} {
		source, data := filepath.Join(dir, "backups "+name), filepath.Join(dir, "data of "+name)
		if err := os.Mkdir(source, 0o700); err != nil {
			t.Fatal(err)
		}
		c.to.URL = source
		backupOf(t, in, c.to)
		args := append([]string{"--json", "restore", source, "--data", data}, c.args...)
		var r struct {
			Installation, RestoredFrom string
			Agents                     int
			Keys                       []struct {
				ID, Account, Label string
				Scopes             []string
				Revoked            bool
			}
		}
		if err := json.Unmarshal([]byte(in.run(args...)), &r); err != nil {
			t.Fatal(err)
		}
		if r.RestoredFrom != installationOf(t, in) || r.Agents != 1 || len(r.Keys) != 1 || r.Keys[0].Account != "acme" || len(r.Keys[0].Scopes) == 0 || r.Keys[0].Revoked != (name == "recipient") {
			t.Errorf("%s: %+v", name, r)
		}
		soul, err := os.ReadFile(filepath.Join(data, agentsDir, "ada", "home", "workspace", "SOUL.md"))
		mark, markErr := os.ReadFile(filepath.Join(data, agentsDir, "ada", "installation"))
		if err := errors.Join(err, markErr); err != nil || string(soul) != "I am ada" || string(mark) != r.Installation+"\n" {
			t.Errorf("%s: %q, %q, %v", name, soul, mark, err)
		}
		cmd := in.program(args...)
		if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != exitRefused {
			t.Errorf("%s: into a directory that is not empty: %v", name, err)
		}
	}
	if err := os.WriteFile(passphrase, []byte("wrong horse battery"), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "never")
	out, err := in.program("restore", filepath.Join(dir, "backups passphrase"), "--data", data, "--passphrase-file", passphrase).CombinedOutput()
	if _, statErr := os.Stat(data); err == nil || !errors.Is(statErr, os.ErrNotExist) {
		t.Errorf("with another passphrase: %v, %v, %s", err, statErr, out)
	}
	out, err = in.program("restore", filepath.Join(dir, "backups plain"), "--data", data, "--snapshot", "20000101T000000Z").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "there is no such backup") {
		t.Errorf("of a backup that does not exist: %v, %s", err, out)
	}
}

// TestCrashOfARestore: whenever a restore is killed, the data directory is missing or
// complete, and the next restore works.
func TestCrashOfARestore(t *testing.T) {
	needsChaos(t)
	in := newInstallation(t, "acme")
	withHome(t, in, "ada")
	dir := t.TempDir()
	source := filepath.Join(dir, "backups")
	if err := os.Mkdir(source, 0o700); err != nil {
		t.Fatal(err)
	}
	backupOf(t, in, backup.Destination{URL: source, Plain: true})
	for i := range 40 {
		data := filepath.Join(dir, "data")
		cmd := in.program("restore", source, "--data", data)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(i)*20*time.Millisecond, func() { _ = cmd.Process.Kill() })
		killed := cmd.Wait() != nil
		timer.Stop()
		if _, err := os.Stat(data); errors.Is(err, os.ErrNotExist) {
			if !killed {
				t.Errorf("run %d ended without data", i)
			}
			continue
		}
		out := in.run("activate", "--data", data, "--yes", "--json")
		if !strings.Contains(out, `"activated": true`) {
			t.Errorf("run %d: %s", i, out)
		}
		if err := os.RemoveAll(data); err != nil {
			t.Fatal(err)
		}
	}
	in.run("restore", source, "--data", filepath.Join(dir, "data"))
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestServeActivate: the start that activates says what the original must not do, once.
func TestServeActivate(t *testing.T) {
	other := restoreCopy(t, newInstallation(t, "acme"))
	for _, want := range []bool{true, false} {
		other.startAs(other.program("serve", "--listen=127.0.0.1:0", "--activate"))
		if got := strings.Contains(other.logs.String(), "From then on the original must not run"); got != want {
			t.Errorf("it says it: %v\n%s", got, other.logs)
		}
		if got := degradedNames(t, other); strings.Contains(got, "quiet") {
			t.Errorf("/readyz names %s", got)
		}
		other.stop()
	}
}

// TestChaosRestoreOfALivingInstallation: a copy of the data of a running agent is restored
// and activated. The agent answers in it, with its history, and its home is its own.
func TestChaosRestoreOfALivingInstallation(t *testing.T) {
	needsChaos(t)
	in := newInstallation(t, "acme")
	in.start()
	ada, err := in.client("acme").CreateAgent(t.Context(), in.newAgent("ada"))
	if err != nil {
		t.Fatal(err)
	}
	if got := send(t, in.client("acme"), ada.ID, client.ChatRequest{Message: "echo before the backup"}); got != "before the backup" {
		t.Errorf("%q", got)
	}
	in.kill()
	other := restoreCopy(t, in)
	in.start()
	other.start()
	if a, err := other.client("acme").Agent(t.Context(), ada.ID); err != nil || a.Status != client.Starting || a.LastError == nil || !strings.Contains(*a.LastError, "until its operator activates it") {
		t.Errorf("in the quiet installation: %+v, %v", a, err)
	}
	if got := send(t, in.client("acme"), ada.ID, client.ChatRequest{Message: "echo the original answers"}); got != "the original answers" {
		t.Errorf("%q", got)
	}
	if n := len(gatewaysIn(t, other, true)); n != 0 {
		t.Errorf("the quiet installation has %d gateways", n)
	}
	in.stop()
	in.run("gateways", "stop", "--all")
	other.run("activate", "--yes")
	waitUntil(t, "the agent runs", func() bool {
		a, err := other.client("acme").Agent(t.Context(), ada.ID)
		if err != nil {
			t.Fatal(err)
		}
		return a.Status == client.Running && a.LastError == nil
	})
	if got := send(t, other.client("acme"), ada.ID, client.ChatRequest{Message: "echo the copy answers"}); got != "the copy answers" {
		t.Errorf("%q", got)
	}
	history, err := other.client("acme").History(t.Context(), ada.ID, client.HistoryQuery{})
	if err != nil || len(history) != 4 {
		t.Errorf("the history: %+v, %v", history, err)
	}
	waitUntil(t, "the home has what was said", func() bool { return homeContains(t, other, ada.ID, "the copy answers") })
	if homeContains(t, in, ada.ID, "the copy answers") || homeContains(t, other, ada.ID, "the original answers") {
		t.Error("the homes are mixed")
	}
	other.stop()
}
