package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/runtime/process"
)

// TestChaosCopyOfALivingInstallation: the data directory is copied while a gateway lives, and
// both servers run. The original adopts its gateway, the copy starts its own, and each
// writes to its own home.
func TestChaosCopyOfALivingInstallation(t *testing.T) {
	needsChaos(t)
	in := newInstallation(t, "acme")
	in.start()
	ada, err := in.client("acme").CreateAgent(t.Context(), in.newAgent("ada"))
	if err != nil {
		t.Fatal(err)
	}
	send(t, in.client("acme"), ada.ID, client.ChatRequest{Message: "echo word-of-both"})
	pid := gatewayPID(t, in, ada.ID)
	in.kill()
	other := in.copy()
	in.start()
	other.start()
	waitUntil(t, "the copy has a gateway of its own", func() bool {
		a, err := other.client("acme").Agent(t.Context(), ada.ID)
		if err != nil {
			t.Fatal(err)
		}
		return a.Status == client.Running && len(gatewaysIn(t, other, true)) == 1
	})
	for where, word := range map[*installation]string{in: "word-of-the-original", other: "word-of-the-copy"} {
		if got := send(t, where.client("acme"), ada.ID, client.ChatRequest{Message: "echo " + word}); got != word {
			t.Errorf("%q instead of %q", got, word)
		}
	}
	for _, h := range []struct {
		in    *installation
		word  string
		there bool
	}{
		{in, "word-of-both", true},
		{other, "word-of-both", true},
		{in, "word-of-the-original", true},
		{in, "word-of-the-copy", false},
		{other, "word-of-the-original", false},
		{other, "word-of-the-copy", true},
	} {
		waitUntil(t, "the home has what was said", func() bool { return !h.there || homeContains(t, h.in, ada.ID, h.word) })
		if got := homeContains(t, h.in, ada.ID, h.word); got != h.there {
			t.Errorf("%s in the home of %s: %v", h.word, h.in.data, got)
		}
	}
	if gatewayPID(t, in, ada.ID) != pid || len(gatewaysIn(t, in, true)) != 1 {
		t.Error("the original did not adopt its gateway")
	}
	if n := strings.Count(other.logs.String(), "a gateway of another directory runs"); n != 1 {
		t.Errorf("the copy reports %d times", n)
	}
	if found := gatewaysIn(t, other, false); len(found) != 1 {
		t.Errorf("the copy names %+v", found)
	}
	other.stop()
	other.run("gateways", "stop", "--all")
	if got := send(t, in.client("acme"), ada.ID, client.ChatRequest{Message: "echo still here"}); got != "still here" {
		t.Errorf("after the copy was stopped: %q", got)
	}
	in.stop()
}

// gatewaysIn lists the running gateways of an installation that are its own, or that are
// another's.
func gatewaysIn(t *testing.T, in *installation, own bool) (found []process.Gateway) {
	t.Helper()
	all, err := process.Gateways(filepath.Join(in.data, agentsDir))
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range all {
		if g.Own == own {
			found = append(found, g)
		}
	}
	return found
}

// homeContains reports whether a file of an agent's home contains a word.
func homeContains(t *testing.T, in *installation, id, word string) bool {
	t.Helper()
	out, err := exec.Command("grep", "-rlF", word, filepath.Join(in.data, agentsDir, id, "home")).CombinedOutput()
	return err == nil && len(out) > 0
}

// TestFilesOfUnknownAgents: the real server keeps the files of agents that its database
// does not know, whatever the reason.
func TestFilesOfUnknownAgents(t *testing.T) {
	in := newInstallation(t, "acme")
	db := in.openDatabase()
	var id string
	if err := errors.Join(db.QueryRowContext(t.Context(), `SELECT id FROM installation`).Scan(&id), db.Close()); err != nil {
		t.Fatal(err)
	}
	makeHome := func(agent, mark string) {
		t.Helper()
		dir := filepath.Join(in.data, agentsDir, agent)
		err := os.MkdirAll(filepath.Join(dir, "home"), 0o700)
		if mark != "" {
			err = errors.Join(err, os.WriteFile(filepath.Join(dir, "installation"), []byte(mark+"\n"), 0o600))
		}
		if err := errors.Join(err, os.WriteFile(filepath.Join(dir, "home", "file"), []byte("of "+agent), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(agents ...string) {
		t.Helper()
		for _, agent := range agents {
			if text, err := os.ReadFile(filepath.Join(in.data, agentsDir, agent, "home", "file")); err != nil || string(text) != "of "+agent {
				t.Errorf("%q, %v", text, err)
			}
		}
	}
	note := func() string {
		found := doctorCommand{vaultFlags: vaultFlags{dataFlags: dataFlags{Data: in.data}}}.unknown()
		if len(found) == 0 {
			return ""
		}
		return found[0].State
	}
	makeHome("lost", id)
	makeHome("theirs", "inst_other")
	makeHome("unmarked", "")
	in.start()
	waitUntil(t, "the file of the unknown agent is in quarantine", func() bool { return len(listed(t, in)) == 1 })
	in.stop()
	if text, err := os.ReadFile(filepath.Join(listed(t, in)[0].Path, "home", "file")); err != nil || string(text) != "of lost" {
		t.Errorf("%q, %v", text, err)
	}
	check("theirs", "unmarked")
	if got := note(); !strings.Contains(got, "another installation (1, such as theirs)") || !strings.Contains(got, "do not say whose they are (1, such as unmarked)") {
		t.Errorf("doctor says %q", got)
	}

	many := []string{"one", "two", "three", "four"}
	for _, agent := range many {
		makeHome(agent, id)
	}
	in.start()
	waitUntil(t, "doctor says what is wrong", func() bool { return strings.Contains(note(), "Is the database an older or a wrong one?") })
	in.stop()
	check(append(many, "theirs", "unmarked")...)
	if len(listed(t, in)) != 1 {
		t.Errorf("in quarantine: %+v", listed(t, in))
	}
}

func listed(t *testing.T, in *installation) []quarantinedHome {
	t.Helper()
	all, err := listQuarantine(t.Context(), in.data)
	if err != nil {
		t.Fatal(err)
	}
	return all
}
