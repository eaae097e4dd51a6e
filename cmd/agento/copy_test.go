package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/runtime/process"
)

// TestCopyOfALivingInstallation: the data directory is copied while a gateway lives, and
// both servers run. The original adopts its gateway, the copy starts its own, and each
// writes to its own home.
func TestCopyOfALivingInstallation(t *testing.T) {
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
