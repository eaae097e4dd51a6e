package process_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/process"
	"agento.host/agento/internal/runtime/runtimetest"
)

// breakable gives the driver a bubblewrap that, once it is broken, runs a shell script
// first.
func breakable(t *testing.T, s *process.Settings, script string) func(*testing.T) (repair func()) {
	t.Helper()
	real, err := exec.LookPath("bwrap")
	must(t, err)
	dir := t.TempDir()
	mark := filepath.Join(dir, "broken")
	s.Bubblewrap = filepath.Join(dir, "bwrap")
	text := fmt.Sprintf("#!/bin/sh\nif [ -e %q ]; then\n%s\nfi\nexec %q \"$@\"\n", mark, script, real)
	must(t, os.WriteFile(s.Bubblewrap, []byte(text), 0o755))
	return func(t *testing.T) func() {
		must(t, os.WriteFile(mark, nil, 0o644))
		return func() { must(t, os.Remove(mark)) }
	}
}

// missingOf returns what an *runtime.IsolationError says.
func missingOf(err error) string {
	if e := (*runtime.IsolationError)(nil); errors.As(err, &e) {
		return e.Missing
	}
	return fmt.Sprintf("no isolation error: %v", err)
}

// mountSmall mounts a small file system and returns what takes all its room and gives it
// back.
func mountSmall(t *testing.T, dir, options string) (breakIt func(*testing.T) func()) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o700))
	must(t, unix.Mount("agento-test", dir, "tmpfs", 0, "mode=700,"+options))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return func(t *testing.T) func() {
		fill := filepath.Join(dir, ".fill")
		must(t, os.Mkdir(fill, 0o700))
		for i := 0; ; i++ {
			err := os.WriteFile(filepath.Join(fill, fmt.Sprint(i)), make([]byte, 4096), 0o600)
			if errors.Is(err, unix.ENOSPC) {
				break
			}
			must(t, err)
		}
		return func() { must(t, os.RemoveAll(fill)) }
	}
}

// TestIsolationIsNeverLess: whatever makes the sandbox impossible, at the start of the
// server or later, no gateway runs without one, callers learn what is missing, a gateway
// that runs can be stopped and removed, and the driver recovers by itself.
func TestIsolationIsNeverLess(t *testing.T) {
	type setup func(t *testing.T, s *process.Settings) (breakIt func(*testing.T) func())
	script := func(text string) setup {
		return func(t *testing.T, s *process.Settings) func(*testing.T) func() { return breakable(t, s, text) }
	}
	cases := map[string]struct {
		setup setup
		want  string
	}{
		"bubblewrap is missing": {func(t *testing.T, s *process.Settings) func(*testing.T) func() {
			bin := t.TempDir()
			real, err := exec.LookPath("bwrap")
			must(t, err)
			link := filepath.Join(bin, "bwrap-of-this-test")
			must(t, os.Symlink(real, link))
			t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
			s.Bubblewrap = "bwrap-of-this-test"
			return func(t *testing.T) func() {
				must(t, os.Remove(link))
				return func() { must(t, os.Symlink(real, link)) }
			}
		}, "bubblewrap is not installed (package bubblewrap)"},
		"the machine is busy":           {script("exec sleep 60"), "the machine is too busy to start a sandbox within 2s"},
		"bubblewrap fails":              {script("echo secret-detail >&2; exit 1"), "bubblewrap does not work on this machine"},
		"the program cannot be reached": {script(`echo "agents cannot run x" >&2; exit 1`), "agents may not run the gateway's program"},
	}
	if os.Getuid() == 0 {
		cases["the disk is full"] = struct {
			setup setup
			want  string
		}{func(t *testing.T, s *process.Settings) func(*testing.T) func() {
			return mountSmall(t, s.Dir, "size=4m")
		}, "the disk of the agents is full"}
		cases["there are no inodes"] = struct {
			setup setup
			want  string
		}{func(t *testing.T, s *process.Settings) func(*testing.T) func() {
			return mountSmall(t, s.Dir, "nr_inodes=400")
		}, "the disk of the agents has no free inodes"}
	} else { // root has no limit of processes
		cases["there are no processes"] = struct {
			setup setup
			want  string
		}{script("ulimit -u 1 2>/dev/null || ulimit -p 1"), "the machine can start no further process"}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := newSettings(t)
			breakIt := c.setup(t, &s)
			if strings.Contains(c.want, "within 2s") {
				s.ProbeTimeout = 2 * time.Second
			}
			repair := breakIt(t)
			d := open(t, s)
			stop := runUntil(t, d)
			if got := missingOf(d.CheckIsolation()); got != c.want {
				t.Errorf("missing: %q: %v", got, d.CheckIsolation())
			}
			checkNotStarted(t, d, s, c.want)
			repair()
			runtimetest.WaitUntil(t, "the driver has recovered", func() bool { return d.CheckIsolation() == nil })
			stop()

			g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
			if uid := strings.TrimSpace(g.Shell("id -u")); uid == "0" {
				t.Error("the agent is root")
			}
			repair = breakIt(t)
			runtimetest.WaitUntil(t, "the driver has noticed", func() bool { // a test of a moment ago still counts
				id := runtimetest.NewID()
				place, err := d.Place(t.Context(), runtimetest.Spec(id))
				must(t, err)
				err = d.Start(t.Context(), place, runtimetest.Spec(id))
				must(t, d.Remove(t.Context(), place, id))
				return missingOf(err) == c.want || errors.Is(err, unix.ENOSPC)
			})
			checkNotStarted(t, d, s, c.want)
			g.Ask("/boot")
			g.Stop(0)
			must(t, d.Remove(t.Context(), g.Place, g.ID))
			repair()
		})
	}
}

// runUntil runs the driver's Run until stop is called.
func runUntil(t *testing.T, d *process.Driver) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// checkNotStarted checks that a start fails and leaves no process.
func checkNotStarted(t *testing.T, d *process.Driver, s process.Settings, want string) {
	t.Helper()
	spec := runtimetest.Spec(runtimetest.NewID())
	place, err := d.Place(t.Context(), spec)
	must(t, err)
	if err := d.Start(t.Context(), place, spec); err == nil {
		t.Error("a gateway was started")
	} else if got := missingOf(err); got != want && !errors.Is(err, unix.ENOSPC) { // its directory could not be made
		t.Errorf("start: %q: %v", got, err)
	}
	if strings.Contains(commandLines(), string(spec.ID)) {
		t.Error("a process of the agent runs")
	}
	if state, err := d.Inspect(t.Context(), place, spec.ID); err != nil || state.Phase == runtime.Running {
		t.Errorf("inspected: %+v, %v", state, err)
	}
	if _, err := d.List(t.Context()); err != nil {
		t.Error(err)
	}
	must(t, d.Stop(t.Context(), place, spec.ID, 0))
	must(t, d.Remove(t.Context(), place, spec.ID))
}

// TestUnsandboxedGatewaysAreStopped: what an earlier version or a development server has
// started without a sandbox does not go on.
func TestUnsandboxedGatewaysAreStopped(t *testing.T) {
	if os.Getuid() == 0 {
		return
	}
	l := newLife(t, false)
	if out := l.Shell("grep NoNewPrivs /proc/self/status"); out != "NoNewPrivs:\t1\n" {
		t.Errorf("a gateway without a sandbox can get more permissions: %s", out)
	}
	s := l.Settings
	s.NoSandbox = false
	d := open(t, s)
	stop := runUntil(t, d)
	runtimetest.WaitUntil(t, "the gateway has been stopped", func() bool {
		state, err := d.Inspect(t.Context(), l.Place, l.ID)
		return err == nil && state.Phase != runtime.Running
	})
	stop()
	g := runtimetest.StartAgain(t, d, l.spec)
	if word := g.Ask("/read", "name", "word"); word != "old" {
		t.Errorf("its home has %q", word)
	}
	g.Stop(0)
}

// TestInheritedDescriptors: whoever starts the server may leave it descriptors. No agent
// gets them, and neither does what runs around its sandbox.
func TestInheritedDescriptors(t *testing.T) {
	eachSandbox(t, func(t *testing.T, sandboxed bool) {
		s := newSettings(t)
		s.NoSandbox = !sandboxed
		id := runtimetest.NewID()
		c := serverConfig{Dir: s.Dir, RunDir: s.RunDir, ID: id, Command: s.Command, NoSandbox: s.NoSandbox, Files: 50}
		place := killServer(t, c, 0, true)
		d := open(t, s)
		g := runtimetest.At(t, d, id, place)
		g.WaitReady()
		t.Cleanup(func() { must(t, d.Remove(context.WithoutCancel(t.Context()), place, id)) })
		out := g.Shell("ls -l /proc/[0-9]*/fd 2>/dev/null")
		if !strings.Contains(out, "socket:") {
			t.Fatalf("the gateway sees none of its own: %s", out)
		}
		if strings.Contains(out, "passed-") {
			t.Errorf("the agent has descriptors of the server's parent: %s", out)
		}
		for _, pid := range shims(id) {
			files, err := filepath.Glob(pid + "/fd/*")
			must(t, err)
			for _, f := range files {
				if to, _ := os.Readlink(f); strings.Contains(to, "passed-") {
					t.Errorf("the shim has %s", to)
				}
			}
		}
	})
}

// shims returns the directories in /proc of an agent's shims.
func shims(id identity.AgentID) (dirs []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil && strings.Contains(string(data), "\x00agento-gateway\x00") && strings.Contains(string(data), string(id)) {
			dirs = append(dirs, filepath.Dir(f))
		}
	}
	return dirs
}
