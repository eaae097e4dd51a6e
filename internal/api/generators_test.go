package api_test

import (
	"os"
	"os/exec"
	"testing"
)

// TestGeneratedClients runs the linters of the OpenAPI document, and the quick start with the
// client of each generator, on a server with scripted gateways.
func TestGeneratedClients(t *testing.T) {
	if os.Getenv("AGENTO_CHAOS") == "" {
		t.Skip("it installs linters and generators from npm: make chaos-generators")
	}
	env := newEnv(t, options{})
	who := env.newAccount("generated", "")
	run := exec.CommandContext(t.Context(), "sh", "../../scripts/openapi/run.sh")
	run.Env = append(os.Environ(), "AGENTO_URL="+env.URL, "AGENTO_API_KEY="+who.key, "GOFLAGS=")
	run.Stdout, run.Stderr = os.Stdout, os.Stderr
	if err := run.Run(); err != nil {
		t.Fatal(err)
	}
}
