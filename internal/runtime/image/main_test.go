package image_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// probes are programs that a container of a test runs, each as a line of the shell.
const probes = "AGENTO_TEST_PROBES"

// TestMain makes the test binary the first process of a container.
func TestMain(m *testing.M) {
	lines, isProbe := os.LookupEnv(probes)
	if !isProbe {
		os.Exit(m.Run())
	}
	for line := range strings.Lines(lines) {
		out, err := exec.Command("sh", "-c", line).CombinedOutput() //nolint:noctx // the test ends the container
		fmt.Printf("%s: %s", strings.TrimSpace(line), out)
		if err != nil {
			fmt.Printf("(%v)\n", err)
		}
	}
}
