package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agento.host/agento/client"
)

// TestCrashInABackup kills the server at many moments of a backup, with a real gateway: the
// agent answers soon after the next start, nothing is left of the backup, and the next one is
// whole. Chats go on meanwhile.
func TestCrashInABackup(t *testing.T) {
	if os.Getenv("AGENTO_CHAOS") == "" {
		t.Skip("make chaos-crash runs it")
	}
	in := newInstallation(t, "acme")
	in.start()
	a, err := in.client("acme").CreateAgent(t.Context(), in.newAgent("ada"))
	if err != nil {
		t.Fatal(err)
	}
	send(t, in.client("acme"), a.ID, client.ChatRequest{Message: "echo before"})
	to, pass := t.TempDir(), filepath.Join(t.TempDir(), "pass")
	if err := os.WriteFile(pass, []byte("correct horse battery staple\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	scratch := filepath.Join(in.data, ".backup-scratch")
	for range 8 {
		// A file that changes makes each backup copy something.
		if err := os.WriteFile(filepath.Join(in.data, "agents", a.ID, "home", "note"), []byte(time.Now().String()), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := in.program("backup", to, "--passphrase-file", pass)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, "the backup begins", func() bool { _, err := os.Stat(scratch); return err == nil })
		moment := rand.N(400 * time.Millisecond)
		time.Sleep(moment)
		in.kill()
		_ = cmd.Wait() // it tells that the server has ended
		in.start()
		began := time.Now()
		if got := send(t, in.client("acme"), a.ID, client.ChatRequest{Message: "echo still here"}); got != "still here" {
			t.Errorf("killed after %s: %q", moment, got)
		}
		t.Logf("killed after %s, answered after %s", moment, time.Since(began))
		if took := time.Since(began); took > 60*time.Second {
			t.Errorf("killed after %s: the agent answered after %s", moment, took)
		}
		waitUntil(t, "nothing is left of the backup", func() bool { _, err := os.Stat(scratch); return os.IsNotExist(err) })
	}
	talk := make(chan string, 1)
	go func() {
		text, err := trySend(t.Context(), in.client("acme"), a.ID, client.ChatRequest{Message: "echo in the backup"})
		if err != nil {
			text = err.Error()
		}
		talk <- text
	}()
	out := in.run("backup", to, "--passphrase-file", pass)
	if got := <-talk; got != "in the backup" {
		t.Errorf("a message in the backup: %s", got)
	}
	if !strings.Contains(out, "complete") {
		t.Error(out)
	}
	t.Log(out)
	if out := in.run("backup", "verify", to, "--passphrase-file", pass); !strings.Contains(out, "complete") {
		t.Error(out)
	}
}
