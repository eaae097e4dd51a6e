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

	"agento.host/agento/client"
	"agento.host/agento/internal/restore"
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
	in := newInstallation(t, "acme")
	db := in.openDatabase()
	// One agent is being deleted: a server that is not quiet removes it at once.
	_, err := db.ExecContext(t.Context(), `INSERT INTO agents (id, account_id, name, region, config, desired_state, generation, status, created_at)
		SELECT 'ada', id, 'ada', 'local', '{}', 'deleted', 2, 'stopped', 1 FROM accounts`)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	other := restoreCopy(t, in)
	// The database does not know this one, so it goes into quarantine.
	lost := filepath.Join(other.data, agentsDir, "lost")
	if err := errors.Join(os.MkdirAll(filepath.Join(lost, "home"), 0o700), os.WriteFile(filepath.Join(lost, "installation"), []byte(installationOf(t, other)), 0o600)); err != nil {
		t.Fatal(err)
	}
	remains := func() (agents int) {
		t.Helper()
		db := other.openDatabase()
		if err := errors.Join(db.QueryRowContext(t.Context(), `SELECT count(*) FROM agents`).Scan(&agents), db.Close()); err != nil {
			t.Fatal(err)
		}
		return agents
	}
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
	other.run("activate", "--yes")
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
