package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/process"
)

// TestDevWithGVisor: who asks for gVisor never gets agents without a sandbox.
func TestDevWithGVisor(t *testing.T) {
	in := &installation{t: t, data: t.TempDir()}
	cmd := in.program("dev", "--listen=127.0.0.1:0", "--sandbox=gvisor")
	cmd.Env = append(cmd.Env, "PATH="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err == nil || strings.Contains(string(out), "WITHOUT A SANDBOX") || !strings.Contains(string(out), "gateways cannot be isolated") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestGVisorGateway: a real gateway boots in gVisor, answers, runs tools and has no way
// out of it. It logs the costs beside those of bubblewrap. make chaos-gvisor runs it.
func TestGVisorGateway(t *testing.T) {
	if os.Getenv("AGENTO_TEST_SANDBOX") != process.GVisor {
		t.Skip("make chaos-gvisor runs it")
	}
	runsc, err := exec.LookPath("runsc")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("runsc is %s", runsc)
	for _, sandbox := range []string{process.Bubblewrap, process.GVisor} {
		t.Run(sandbox, func(t *testing.T) {
			t.Setenv("AGENTO_SANDBOX", sandbox)
			in := newInstallation(t, "acme")
			in.start()
			c := in.client("acme")
			began := time.Now()
			request := in.newAgent("ada")
			request.SoulMD = "# SOUL.md\n\nYou speak like a lighthouse keeper."
			agent, err := c.CreateAgent(t.Context(), request)
			if err != nil {
				t.Fatal(err)
			}
			boot := time.Since(began)
			cold, warm := firstToken(t, c, agent.ID), firstToken(t, c, agent.ID)
			rest := inspect(t, in)

			version := execute(t, c, agent.ID, "dmesg 2>&1 | head -1; uname -r")
			if strings.Contains(version, "Starting gVisor") != (sandbox == process.GVisor) {
				t.Errorf("the agent's kernel: %s", version)
			}
			if out := execute(t, c, agent.ID, "cat "+filepath.Join(in.data, "master.key")+" && echo LEAKED; id -u"); strings.Contains(out, "LEAKED") {
				t.Errorf("the data directory: %s", out)
			}
			before := inspect(t, in).CPU
			execute(t, c, agent.ID, "date")
			one := inspect(t, in).CPU - before
			before = inspect(t, in).CPU
			execute(t, c, agent.ID, "for i in $(seq 300); do /bin/true; done; date")
			program := (inspect(t, in).CPU - before - one) / 300
			t.Logf("boot %.1f s, first token cold %.2f s, warm %.2f s, memory at rest %d MB, %d processes, exec turn %.2f CPU-s, each program %.1f CPU-ms",
				boot.Seconds(), cold.Seconds(), warm.Seconds(), rest.MemoryBytes>>20, rest.Processes, one.Seconds(), program.Seconds()*1000)
			if sandbox == process.GVisor {
				t.Run("documents change while it runs", func(t *testing.T) { documents(t, in, c, agent.ID) })
				t.Run("skills reach the model", func(t *testing.T) { skills(t, in, c, agent.ID) })
			}
			if _, err := c.StopAgent(t.Context(), agent.ID); err != nil {
				t.Error(err)
			}
			in.stop()
		})
	}
}

// firstToken returns the time from a message to the first text of its answer.
func firstToken(t testing.TB, c *client.Client, id string) time.Duration {
	t.Helper()
	began, first := time.Now(), time.Duration(0)
	for e, err := range c.Chat(t.Context(), id, client.ChatRequest{Message: "echo aye"}) {
		if err != nil || e.Type == "error" {
			t.Fatalf("chat: %v, %+v", err, e)
		}
		if first == 0 && e.Content != "" {
			first = time.Since(began)
		}
	}
	return first
}

// inspect returns the state of the only gateway.
func inspect(t *testing.T, in *installation) runtime.State {
	t.Helper()
	found := in.gateways()
	if len(found) != 1 {
		t.Fatalf("%d gateways", len(found))
	}
	s, err := in.driver().Inspect(t.Context(), found[0].Place, found[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
