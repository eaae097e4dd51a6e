package skiptest_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"agento.host/agento/internal/skiptest"
)

const inner = "SKIPTEST_INNER"

// TestWithout runs itself as a test that needs sshd.
func TestWithout(t *testing.T) {
	if os.Getenv(inner) != "" {
		skiptest.Without(t, skiptest.SSHD, "there is none")
	}
	for require, want := range map[string]string{"": "--- SKIP", "engine": "--- SKIP", "engine,sshd": "--- FAIL", "sshd": "--- FAIL"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=TestWithout", "-test.v")
		cmd.Env = append(os.Environ(), inner+"=1", skiptest.Require+"="+require)
		out, err := cmd.CombinedOutput()
		if !strings.Contains(string(out), want) || !strings.Contains(string(out), "there is none") || (err != nil) != (want == "--- FAIL") {
			t.Errorf("%q: %v: %s", require, err, out)
		}
	}
}
