package process_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/process"
	"agento.host/agento/internal/runtime/runtimetest"
)

// openSuspending returns a driver that can suspend gateways. The test is skipped where it cannot.
func openSuspending(t *testing.T, s process.Settings) *process.Driver {
	t.Helper()
	s.CRIU = process.DefaultCRIU()
	d := open(t, s)
	if err := d.CheckSuspend(); err != nil {
		t.Skip(err)
	}
	return d
}

func suspend(t *testing.T, d *process.Driver, g *runtimetest.Gateway) {
	t.Helper()
	if err := d.Suspend(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
}

// TestSuspendedHomeChanges: a checkpoint fits only the files that the gateway had open, as they
// were.
func TestSuspendedHomeChanges(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(home string) error
		fits   bool
	}{
		{"nothing", func(string) error { return nil }, true},
		{"another file", func(home string) error { return os.WriteFile(filepath.Join(home, "SOUL.md"), []byte("kind"), 0o600) }, true},
		{"written", func(home string) error {
			f, err := os.OpenFile(filepath.Join(home, "database"), os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("X") // as long as before
			return errors.Join(err, f.Close())
		}, false},
		{"replaced by a copy", func(home string) error {
			path := filepath.Join(home, "database")
			data, err := os.ReadFile(path)
			return errors.Join(err, os.WriteFile(path+".copy", data, 0o600), os.Rename(path+".copy", path))
		}, false},
		{"deleted", func(home string) error { return os.Remove(filepath.Join(home, "database")) }, false},
		{"mode", func(home string) error { return os.Chmod(filepath.Join(home, "database"), 0o640) }, false},
		{"home replaced", func(home string) error {
			return errors.Join(os.Rename(home, home+".old"), os.CopyFS(home, os.DirFS(home+".old")))
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSettings(t)
			d := openSuspending(t, s)
			g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
			g.Shell("echo 0123456789 >$HOME/database; (exec 9<>$HOME/database; exec sleep 1000) >/dev/null 2>&1 & until [ $(ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c database) -gt 0 ]; do :; done")
			suspend(t, d, g)
			if err := test.change(filepath.Join(s.Dir, string(g.ID), "home")); err != nil {
				t.Fatal(err)
			}
			err := d.Resume(t.Context(), g.Place, g.ID)
			if test.fits {
				if err != nil {
					t.Fatal(err)
				}
				g.Ask("/boot")
				return
			}
			if !errors.Is(err, runtime.ErrNoCheckpoint) {
				t.Errorf("Resume: %v", err)
			}
			if p := g.Inspect().Phase; p == runtime.Running || p == runtime.Suspended {
				t.Errorf("after the resume failed the gateway is %s", p)
			}
			if err := d.Resume(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNoCheckpoint) {
				t.Errorf("the checkpoint was kept: %v", err)
			}
		})
	}
}

// TestResumedIsIsolated as one that was started is, and ends like it.
func TestResumedIsIsolated(t *testing.T) {
	t.Parallel()
	d := openSuspending(t, newSettings(t))
	spec := runtimetest.Spec(runtimetest.NewID())
	spec.Limits = runtime.Limits{MemoryBytes: 1 << 30, Processes: 200, CPUs: 1}
	g := runtimetest.Start(t, d, spec)
	see := func() string {
		return g.Shell(`cat /proc/mounts | sed 's/,inode64//; s/,mode=755//' | sort; ls -la / /dev /etc /tmp /run/agento; id; cat /proc/self/status | grep -E "^(Cap|NoNew|Seccomp:)"; cat /proc/self/cgroup; touch /x /dev/x /etc/x /usr/x 2>&1; hostname`)
	}
	before, limit := see(), g.Inspect().MemoryLimit
	g.Shell("echo kept >/tmp/file")
	suspend(t, d, g)
	if err := d.Resume(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	if got := g.Shell("cat /tmp/file; rm /tmp/file"); got != "kept\n" {
		t.Errorf("/tmp has %q", got)
	}
	if after := see(); normalized(after) != normalized(before) {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if got := g.Inspect(); got.MemoryLimit != limit || got.MemoryBytes == 0 || got.Processes == 0 {
		t.Errorf("the resumed gateway is %+v", got)
	}
	all, err := d.Examine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		for _, c := range e.Checks {
			if e.ID == g.ID && !c.OK {
				t.Errorf("%s: %s", c.Name, c.State)
			}
		}
	}
	if _, err := g.Try("/exit", "code", "7"); err == nil {
		t.Error("it did not end")
	}
	if s := g.WaitExit(); s.ExitCode != 7 {
		t.Errorf("the resumed gateway ended with %+v", s)
	}
}

// normalized leaves out what differs between two calls: times, and sizes of directories.
func normalized(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) > 8 && strings.ContainsAny(f[0][:1], "dlc-") { // of ls: mode, owner, name
			f = append([]string{f[0], f[2], f[3]}, f[8:]...)
		}
		if len(f) > 0 && f[0] != "total" {
			lines = append(lines, strings.Join(f, " "))
		}
	}
	return strings.Join(lines, "\n")
}

// TestSuspendableEndsWithShim: nothing of a gateway survives its shim, before and after a resume.
func TestSuspendableEndsWithShim(t *testing.T) {
	t.Parallel()
	s := newSettings(t)
	d := openSuspending(t, s)
	spec := runtimetest.Spec(runtimetest.NewID())
	g := runtimetest.Start(t, d, spec)
	for _, resumed := range []bool{false, true} {
		if resumed {
			if err := d.Start(t.Context(), g.Place, spec); err != nil {
				t.Fatal(err)
			}
			g.WaitReady()
			suspend(t, d, g)
			if err := d.Resume(t.Context(), g.Place, g.ID); err != nil {
				t.Fatal(err)
			}
		}
		shim := shimOf(t, s, g)
		below := process.Descendants(shim)
		if len(below) < 2 {
			t.Fatalf("below the shim: %v", below)
		}
		if err := unix.Kill(shim, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for _, pid := range below {
			runtimetest.WaitUntil(t, fmt.Sprintf("process %d of %v ends with its shim (resumed: %v)", pid, below, resumed), func() bool { return !process.IsRunning(pid) })
		}
	}
}

// shimOf returns the pid of a gateway's shim.
func shimOf(t *testing.T, s process.Settings, g *runtimetest.Gateway) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.Dir, string(g.ID), "pid"))
	if err != nil {
		t.Fatal(err)
	}
	shim, err := strconv.Atoi(strings.Fields(string(data))[0])
	if err != nil {
		t.Fatal(err)
	}
	return shim
}

// TestServerKilledInSuspend: processes that were stopped go on, unless their checkpoint is valid.
func TestServerKilledInSuspend(t *testing.T) {
	for _, test := range []struct {
		name  string
		valid bool
	}{{"before the checkpoint is valid", false}, {"after", true}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSettings(t)
			d := openSuspending(t, s)
			g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
			boot := g.Ask("/boot")
			if err := process.LeaveSuspend(t.Context(), d, g.ID, test.valid); err != nil {
				t.Fatal(err)
			}
			next := openSuspending(t, s)
			state, err := next.Inspect(t.Context(), g.Place, g.ID)
			if err != nil {
				t.Fatal(err)
			}
			if want := map[bool]runtime.Phase{false: runtime.Running, true: runtime.Suspended}[test.valid]; state.Phase != want {
				t.Fatalf("for the next server the gateway is %s", state.Phase)
			}
			if test.valid {
				if err := next.Resume(t.Context(), g.Place, g.ID); err != nil {
					t.Fatal(err)
				}
			}
			if got := runtimetest.At(t, next, g.ID, g.Place).Ask("/boot"); got != boot {
				t.Error("the gateway has restarted")
			}
		})
	}
}

// TestCheckpointsArePrivate: they are in memory, where only root can read them.
func TestCheckpointsArePrivate(t *testing.T) {
	t.Parallel()
	d := openSuspending(t, newSettings(t))
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	suspend(t, d, g)
	files := process.CheckpointFiles(d, g.ID)
	if len(files) == 0 {
		t.Fatal("there are none")
	}
	for dir := filepath.Dir(files[0]); dir != "/dev/shm"; dir = filepath.Dir(dir) {
		st, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(dir, "checkpoints") && st.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v", dir, st.Mode())
		}
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err != nil || fs.Type != unix.TMPFS_MAGIC {
			t.Errorf("%s is not in memory: %x, %v", dir, fs.Type, err)
		}
	}
	if err := d.Resume(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	if files := process.CheckpointFiles(d, g.ID); len(files) > 0 {
		t.Errorf("the resume has left %v", files)
	}
}

// TestCompactedCheckpoint takes less memory, and can be resumed.
func TestCompactedCheckpoint(t *testing.T) {
	t.Parallel()
	s := newSettings(t)
	d := openSuspending(t, s)
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	boot := g.Ask("/boot")
	g.Ask("/use-memory", "bytes", "50000000")
	suspend(t, d, g)
	before := g.Inspect().MemoryBytes
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := process.Compact(canceled, d, g.ID); err != nil {
		t.Errorf("a compaction that is interrupted: %v", err)
	}
	if now := g.Inspect().MemoryBytes; now != before {
		t.Errorf("an interrupted compaction changed the size from %d to %d", before, now)
	}
	if err := process.Compact(t.Context(), d, g.ID); err != nil {
		t.Fatal(err)
	}
	if after := g.Inspect().MemoryBytes; after > before/2 {
		t.Errorf("compressed from %d to %d bytes", before, after)
	}
	if err := process.Compact(t.Context(), d, g.ID); err != nil { // again
		t.Fatal(err)
	}
	next := openSuspending(t, s)
	if err := next.Resume(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	if got := g.Ask("/boot"); got != boot {
		t.Error("the gateway has restarted")
	}
}

// TestCheckpointDamaged: what criu cannot restore is no checkpoint.
func TestCheckpointDamaged(t *testing.T) {
	t.Parallel()
	d := openSuspending(t, newSettings(t))
	spec := runtimetest.Spec(runtimetest.NewID())
	g := runtimetest.Start(t, d, spec)
	suspend(t, d, g)
	for _, path := range process.CheckpointFiles(d, g.ID) {
		if strings.Contains(path, "pages-") {
			if err := os.Truncate(path, 100); err != nil {
				t.Fatal(err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // criu may wait for ever
	defer cancel()
	if err := d.Resume(ctx, g.Place, g.ID); err == nil {
		t.Fatal("a damaged checkpoint was restored")
	}
	if p := g.Inspect().Phase; p == runtime.Running || p == runtime.Suspended {
		t.Errorf("the gateway is %s", p)
	}
	if err := d.Start(t.Context(), g.Place, spec); err != nil {
		t.Fatal(err)
	}
	g.WaitReady()
}

// TestOnlyValidCheckpointsAreCompressed, not those that criu reads or writes.
func TestOnlyValidCheckpointsAreCompressed(t *testing.T) {
	t.Parallel()
	d := openSuspending(t, newSettings(t))
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	suspend(t, d, g)
	dir := filepath.Dir(process.CheckpointFiles(d, g.ID)[0])
	for _, suffix := range []string{".used", ".new"} {
		if err := os.CopyFS(dir+suffix, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
	}
	if got := process.Checkpoints(d); len(got) != 1 || got[0] != g.ID {
		t.Errorf("the checkpoints are %v", got)
	}
}

// TestStoppedByAnotherProgram: it leaves no checkpoint, although it cannot suspend gateways.
func TestStoppedByAnotherProgram(t *testing.T) {
	t.Parallel()
	s := newSettings(t)
	d := openSuspending(t, s)
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	suspend(t, d, g)
	other := open(t, s)
	if err := other.Resume(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNoCheckpoint) {
		t.Errorf("Resume without criu: %v", err)
	}
	if err := other.Stop(t.Context(), g.Place, g.ID, 0); err != nil {
		t.Fatal(err)
	}
	if files := process.CheckpointFiles(d, g.ID); len(files) > 0 {
		t.Errorf("there are still %v", files)
	}
	if p := g.Inspect().Phase; p == runtime.Suspended {
		t.Error("a stopped gateway is suspended")
	}
}

// TestClockOfASleepingGateway stands still, so that no timer is late when it wakes.
func TestClockOfASleepingGateway(t *testing.T) {
	t.Parallel()
	d := openSuspending(t, newSettings(t))
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	uptime := func() float64 {
		seconds, err := strconv.ParseFloat(strings.Fields(g.Shell("cat /proc/uptime"))[0], 64)
		if err != nil {
			t.Fatal(err)
		}
		return seconds
	}
	before := uptime()
	suspend(t, d, g)
	suspended := time.Now()
	const sleep = 2 * time.Second
	time.Sleep(sleep) // for the clock to go on, if it did
	if err := d.Resume(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	// What passes beside the sleep is the dump and the restore, in which the clock goes on.
	after, all := uptime(), time.Since(suspended).Seconds()
	if after-before > all {
		t.Errorf("the clock went on by %.1f s in a sleep of %s", after-before, sleep)
	}
}

// TestCRIUFails: whatever criu does, the gateway runs on.
func TestCRIUFails(t *testing.T) {
	real := process.DefaultCRIU()
	for name, script := range map[string]string{
		"fails":                   "exit 1",
		"hangs":                   "sleep 1000",
		"is killed in the middle": `"$0.real" "$@" & sleep 0.05; kill -9 $!; exit 1`,
		"says that it succeeded":  "exit 0",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSettings(t)
			s.CRIU = filepath.Join(t.TempDir(), "criu")
			must(t, os.WriteFile(s.CRIU, []byte("#!/bin/sh\n[ \"$1\" = dump ] || exec "+real+" \"$@\"\n"+script+"\n"), 0o700))
			must(t, os.WriteFile(s.CRIU+".real", []byte("#!/bin/sh\nexec "+real+" \"$@\"\n"), 0o700))
			d := open(t, s)
			if err := d.CheckSuspend(); err != nil {
				t.Skip(err)
			}
			g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
			boot := g.Ask("/boot")
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			err := d.Suspend(ctx, g.Place, g.ID)
			if err == nil {
				t.Fatal("Suspend succeeds")
			}
			if p := g.Inspect().Phase; p != runtime.Running {
				t.Fatalf("after %v the gateway is %s", err, p)
			}
			// A criu that is killed at the wrong moment can end the gateway, which Inspect says then.
			runtimetest.WaitUntil(t, "the gateway answers or has ended", func() bool {
				got, err := g.Try("/boot")
				if err == nil && got != boot {
					t.Fatal("the gateway has restarted")
				}
				return err == nil || name == "is killed in the middle" && g.Inspect().Phase == runtime.Exited
			})
			if files := process.CheckpointFiles(d, g.ID); len(files) > 0 {
				t.Errorf("there are %v", files)
			}
		})
	}
}

// TestCheckpointOfAnotherMachine: one that another criu has made is no checkpoint. So is one of
// another kernel, processor, runtime or filter, which are in the same digest.
func TestCheckpointOfAnotherMachine(t *testing.T) {
	t.Parallel()
	s := newSettings(t)
	d := openSuspending(t, s)
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	suspend(t, d, g)
	s.CRIU = filepath.Join(t.TempDir(), "criu")
	must(t, os.WriteFile(s.CRIU, []byte("#!/bin/sh\nexec "+process.DefaultCRIU()+" \"$@\"\n"), 0o700))
	updated := open(t, s)
	if err := updated.Resume(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNoCheckpoint) {
		t.Errorf("Resume with another criu: %v", err)
	}
	if err := d.Resume(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNoCheckpoint) {
		t.Errorf("the checkpoint was kept: %v", err)
	}
}
