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

// maxStop is how long a stop or a removal may take beyond the grace period.
const maxStop = 5 * time.Second

// TestAgentCannotKeepItselfFromBeingStopped: its processes ignore SIGTERM, fill its home, sit
// in directories that the server deletes, and flood its log.
func TestAgentCannotKeepItselfFromBeingStopped(t *testing.T) {
	for name, change := range map[string]func(*process.Settings){
		"with control groups":    func(*process.Settings) {},
		"without control groups": func(s *process.Settings) { s.NoGroups = true },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSettings(t)
			change(&s)
			d := open(t, s)
			run(t, d)
			spec := runtimetest.Spec(runtimetest.NewID())
			spec.Limits = runtime.Limits{Processes: 100}
			g := runtimetest.Start(t, d, spec)
			g.Ask("/ignore-sigterm")
			g.Shell(`cd "$HOME"; mkdir rules
for n in 1 2 3; do mkdir d$n; (cd d$n; setsid sh -c 'trap "" TERM; i=0; while :; do i=$((i+1)); mkdir -p $i/e; : >$i/f; done' </dev/null >/dev/null 2>&1 &); done
for n in 1 2 3; do (cd rules; setsid sh -c 'trap "" TERM; i=0; while :; do i=$((i+1)); mkdir -p '$n'-$i/e; : >'$n'-$i/f; done' </dev/null >/dev/null 2>&1 &); done
(setsid sh -c 'trap "" TERM; while :; do head -c 65536 /dev/zero | tr "\0" x >>/proc/1/fd/1 || sleep 0.1; done' </dev/null >/dev/null 2>&1 &)`)
			home := g.Home()
			runtimetest.WaitUntil(t, "the directories grow", func() bool {
				entries, err := home.ReadDir("rules")
				return err == nil && len(entries) > 300
			})
			began := time.Now()
			if err := home.RemoveAll("rules"); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > maxStop {
				t.Errorf("removing a directory in use took %s", took)
			}

			began = time.Now()
			g.Stop(time.Second)
			if took := time.Since(began); took > time.Second+maxStop {
				t.Errorf("the stop took %s", took)
			}
			if state := g.Inspect(); state.Phase != runtime.Exited {
				t.Errorf("stopped: %+v", state)
			}
			if _, err := os.Lstat(filepath.Join(s.Dir, string(g.ID), "trash")); err == nil {
				t.Error("its trash is still there")
			}

			g = runtimetest.StartAgain(t, d, spec)
			began = time.Now()
			if err := d.Remove(t.Context(), g.Place, g.ID); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > maxStop {
				t.Errorf("the removal took %s", took)
			}
			if left, err := filepath.Glob(filepath.Join(s.Dir, string(g.ID)+"*")); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
			runtimetest.WaitUntil(t, "everything is deleted", func() bool { return len(discarded(t, s)) == 0 })
		})
	}
}

// discarded lists what is being deleted.
func discarded(t *testing.T, s process.Settings) []string {
	t.Helper()
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".discarded-") {
			names = append(names, e.Name())
		}
	}
	return names
}

// TestLargeHomeIsRemovedAtOnce: what a removal does not come to delete, Run deletes, also
// that of the next server.
func TestLargeHomeIsRemovedAtOnce(t *testing.T) {
	s := newSettings(t)
	d := open(t, s)
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	g.Shell(`cd "$HOME"; for d in 1 2 3; do mkdir $d; (cd $d; seq 10000 | xargs touch); done`)
	if err := d.Remove(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(s.Dir, string(g.ID))); err == nil {
		t.Error("it is still there")
	}
	if found, err := d.List(t.Context()); err != nil || len(found) > 0 || len(discarded(t, s)) != 1 {
		t.Errorf("%+v, %v; discarded: %v", found, err, discarded(t, s))
	}
	run(t, open(t, s))
	runtimetest.WaitUntil(t, "everything is deleted", func() bool { return len(discarded(t, s)) == 0 })
}
