package process_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/process"
	"agento.host/agento/internal/runtime/runtimetest"
)

// TestResumeTestsNoSandbox: the regular tests do that. If the last one has failed, nothing is
// resumed before one succeeds.
func TestResumeTestsNoSandbox(t *testing.T) {
	t.Parallel()
	s := newSettings(t)
	breakIt := breakable(t, &s, "exit 1")
	d := openSuspending(t, s)
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	boot := g.Ask("/boot")
	repair := breakIt(t)
	suspend(t, d, g)
	process.AgeProbe(d)
	if err := d.Resume(t.Context(), g.Place, g.ID); err != nil {
		t.Fatalf("a test of the sandbox is part of the resume: %v", err)
	}
	if got := g.Ask("/boot"); got != boot {
		t.Error("the gateway has restarted")
	}

	suspend(t, d, g)
	process.AgeProbe(d)
	if err := process.ProbeSandbox(d); err == nil {
		t.Fatal("a test of the broken sandbox succeeds")
	}
	if missing := missingOf(d.Resume(t.Context(), g.Place, g.ID)); !strings.Contains(missing, "bubblewrap does not work") {
		t.Errorf("Resume: %s", missing)
	}
	if p := g.Inspect().Phase; p == runtime.Running || p == runtime.Suspended {
		t.Errorf("the gateway is %s", p)
	}
	repair()
}

// TestUsedCheckpointIsDeleted, although the resume does not wait for that, and is not in the way of
// the next suspend.
func TestUsedCheckpointIsDeleted(t *testing.T) {
	t.Parallel()
	s := newSettings(t)
	d := openSuspending(t, s)
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	boot := g.Ask("/boot")
	g.Ask("/use-memory", "bytes", "50000000")
	var store string
	for range 3 {
		suspend(t, d, g)
		store = filepath.Dir(filepath.Dir(process.CheckpointFiles(d, g.ID)[0]))
		if err := d.Resume(t.Context(), g.Place, g.ID); err != nil {
			t.Fatal(err)
		}
	}
	if got := g.Ask("/boot"); got != boot {
		t.Error("the gateway has restarted")
	}
	began := time.Now()
	runtimetest.WaitUntil(t, "nothing of its checkpoints is left", func() bool {
		entries, err := os.ReadDir(store)
		return err == nil && len(entries) == 0
	})
	t.Logf("deleted after %s", time.Since(began))
}
