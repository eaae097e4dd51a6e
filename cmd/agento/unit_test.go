package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"agento.host/agento/client"
)

// TestSystemdUnit starts a server by the line of the unit file, as systemd would: without
// any environment. Its directories are the test's, and its model is on loopback.
func TestSystemdUnit(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "agento.service"))
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^ExecStart=(.+)$`).FindSubmatch(text)
	if line == nil {
		t.Fatal("no ExecStart")
	}
	args := strings.Fields(string(line[1]))
	if slices.ContainsFunc(args, func(a string) bool { return strings.ContainsAny(a, `"'$%\`) }) || args[0] != "/usr/local/bin/agento" {
		t.Fatalf("ExecStart is no plain line: %q", args)
	}
	for _, directive := range []string{"KillMode=process", "Delegate=yes", "StateDirectory=agento", "CacheDirectory=agento", "[Install]"} {
		if !strings.Contains(string(text), directive) {
			t.Errorf("no %s", directive)
		}
	}
	for _, directive := range []string{"NoNewPrivileges", "ProtectSystem", "PrivateTmp", "RestrictNamespaces", "PrivateUsers", "User="} {
		if strings.Contains(string(text), "\n"+directive) {
			t.Errorf("%s takes away what the sandbox of agents needs", directive)
		}
	}
	in := newInstallation(t, "acme")
	for i := range args {
		switch args[i] {
		case "/var/lib/agento":
			args[i] = in.data
		case "127.0.0.1:8080":
			args[i] = "127.0.0.1:0"
		}
	}
	cmd := in.program(append(args[1:], "--allow-private-endpoints", "--metrics-listen=127.0.0.1:0")...)
	cmd.Env = []string{}
	in.startAs(cmd)
	c := in.client("acme")
	a, err := c.CreateAgent(t.Context(), in.newAgent("ada"))
	if err != nil {
		t.Fatal(err)
	}
	if got := send(t, c, a.ID, client.ChatRequest{Message: "echo hello"}); got != "hello" {
		t.Errorf("%q", got)
	}
	match, err := in.logs.await(waitTimeout, regexp.MustCompile(`metrics +(http://\S+)`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(match[1])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	metrics, err := io.ReadAll(resp.Body)
	for _, want := range []string{`agento_boot_seconds_count{result="ready"} 1`, `agento_turns_total{state="done",stop_reason="completed"} 1`, "agento_turn_first_text_seconds_count 1", `agento_agents{status="running"} 1`, "agento_model_calls_total"} {
		if err != nil || !strings.Contains(string(metrics), want) {
			t.Errorf("no %s: %v\n%s", want, err, metrics)
		}
	}
	in.stop()
}
