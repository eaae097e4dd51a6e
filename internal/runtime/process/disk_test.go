package process_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/runtimetest"
)

// TestAgentWithTooManyFiles: its gateway is ended, and not started until there is less.
func TestAgentWithTooManyFiles(t *testing.T) {
	for name, fill := range map[string]string{
		"bytes":           `head -c 20000000 /dev/zero >"$HOME/big"`,
		"files":           `mkdir -p "$HOME/big"; cd "$HOME/big"; seq 600 | xargs touch`,
		"deep":            `cd "$HOME"; mkdir big; cd big; i=0; while [ $i -lt 300 ]; do mkdir d; cd d; i=$((i+1)); done`,
		"deleted by us":   `mkdir -p "$HOME/rules"; head -c 20000000 /dev/zero >"$HOME/rules/big"`,
		"a process holds": `cd "$HOME"; setsid sh -c 'trap "" TERM; while :; do head -c 1000000 /dev/zero >>big; sleep 0.01; done' </dev/null >/dev/null 2>&1 &`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSettings(t)
			d := open(t, s)
			run(t, d)
			spec := runtimetest.Spec(runtimetest.NewID())
			spec.Limits = runtime.Limits{DiskBytes: 10 << 20, Files: 500}
			g := runtimetest.Start(t, d, spec)
			runtimetest.WaitUntil(t, "its files are measured", func() bool { return g.Inspect().Disk.Files > 0 })
			g.Shell("%s", fill)
			if name == "deleted by us" {
				if err := g.Home().RemoveAll("rules"); err != nil {
					t.Fatal(err)
				}
			}
			state := g.WaitExit()
			if !state.OverDisk || !state.Disk.Exceeds(spec.Limits) || state.OOMKilled {
				t.Errorf("ended: %+v", state)
			}
			g.Stop(0)
			if name == "deleted by us" { // nobody can add to it any more
				g = runtimetest.StartAgain(t, d, spec)
				g.Ask("/boot")
				return
			}
			var over *runtime.DiskError
			if err := d.Start(t.Context(), g.Place, spec); !errors.As(err, &over) || !over.Used.Exceeds(spec.Limits) {
				t.Errorf("start: %v", err)
			}
			if err := os.RemoveAll(filepath.Join(s.Dir, string(g.ID), "home", "big")); err != nil {
				t.Fatal(err)
			}
			g = runtimetest.StartAgain(t, d, spec)
			if state := g.Inspect(); state.Phase != runtime.Running || state.OverDisk {
				t.Errorf("after the operator has deleted files: %+v", state)
			}
		})
	}
}
