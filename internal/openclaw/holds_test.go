package openclaw_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/internal/openclaw/install"
)

// TestStartForgetsHolds of the provider, and then becomes the gateway.
func TestStartForgetsHolds(t *testing.T) {
	rt, err := install.Install(t.Context(), install.Settings{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	state := t.TempDir()
	for _, entry := range []string{"main", "guest"} {
		if err := os.MkdirAll(filepath.Join(state, "agents", entry, "agent"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(state, "agents", "guest", "agent", "openclaw-agent.sqlite"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "openclaw.mjs")
	rt.Entry = script
	run := func(js string, args ...string) string {
		t.Helper()
		js = `import { DatabaseSync } from "node:sqlite";
			const db = new DatabaseSync(process.env.OPENCLAW_STATE_DIR + "/agents/main/agent/openclaw-agent.sqlite");` + js
		if err := os.WriteFile(script, []byte(js), 0o600); err != nil {
			t.Fatal(err)
		}
		command := append(rt.Command(true), args...)
		cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
		cmd.Env = []string{"PATH=/usr/bin:/bin", "OPENCLAW_STATE_DIR=" + state}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	const count = `console.log(db.prepare("SELECT count(*) AS n FROM auth_profile_state").get().n)`
	if got := run(`console.log(process.argv.slice(2).join())`, "gateway", "run", "--port", "a b"); got != "gateway,run,--port,a b" {
		t.Errorf("OpenClaw gets the arguments %q", got)
	}
	run(`db.exec("CREATE TABLE auth_profile_state (state_key TEXT PRIMARY KEY, state_json TEXT, updated_at INTEGER); INSERT INTO auth_profile_state VALUES ('a', '{}', 1)")`)
	if n := run(count, "gateway", "run"); n != "0" {
		t.Errorf("a start leaves %s holds", n)
	}
}
