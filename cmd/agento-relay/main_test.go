//go:build linux

package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestProgramStaysSmall: it is in every image, and has nothing of the server.
func TestProgramStaysSmall(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range strings.FieldsSeq(string(out)) {
		for _, heavy := range []string{"modernc.org/", "database/sql", "net/http", "agento.host/agento/internal/vault", "agento.host/agento/internal/database"} {
			if strings.HasPrefix(pkg, heavy) {
				t.Errorf("the relay imports %s", pkg)
			}
		}
	}
}
