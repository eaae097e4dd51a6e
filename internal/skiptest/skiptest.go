// Package skiptest skips tests where the machine lacks what they need, and fails them where it must not
// lack it.
package skiptest

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// What tests need of a machine.
const (
	Engine = "engine" // to run a Docker engine: Linux, root, dockerd
	SSHD   = "sshd"
)

// Require is the environment variable with the needs, separated by commas, for which no test may be
// skipped. .ci/run sets it to those that the machine can have.
const Require = "AGENTO_TEST_REQUIRE"

// UnlessChaos skips a test that is too heavy for make test, and names the subject of make chaos that has it.
func UnlessChaos(t testing.TB, subject string) {
	t.Helper()
	if os.Getenv("AGENTO_CHAOS") == "" {
		t.Skip("skipped: AGENTO_CHAOS is not set (make chaos-" + subject + ")")
	}
}

// Without ends a test that needs what the machine lacks: it is skipped, or fails if Require names the need.
func Without(t testing.TB, need string, why ...any) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv(Require), ","), need) {
		t.Fatal(append([]any{Require + " has " + need + ", so that this test must not be skipped: "}, why...)...)
	}
	t.Skip(append([]any{"skipped: "}, why...)...)
}
