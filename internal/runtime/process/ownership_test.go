package process_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/process"
	"agento.host/agento/internal/runtime/runtimetest"
)

// life is a directory of agents in which a gateway runs.
type life struct {
	*runtimetest.Gateway
	process.Settings
	driver *process.Driver
	spec   runtime.Spec
	boot   string // answer of the gateway
}

// newLife starts a gateway. It has written "old" into its home.
func newLife(t *testing.T, sandboxed bool) life {
	t.Helper()
	s := newSettings(t)
	s.NoSandbox = !sandboxed
	d := open(t, s)
	l := life{Settings: s, driver: d, spec: runtimetest.Spec(runtimetest.NewID())}
	l.Gateway = runtimetest.Start(t, d, l.spec)
	l.boot = l.Ask("/boot")
	l.Ask("/write", "name", "word", "data", "old")
	return l
}

// at returns settings for another directory, with a log that can be read.
func (l life) at(dir string) (process.Settings, *bytes.Buffer) {
	s, log := l.Settings, &bytes.Buffer{}
	s.Dir, s.Log = dir, slog.New(slog.NewTextHandler(log, nil))
	return s, log
}

// checkUntouched checks that the gateway runs, and that what it has written is in its
// home, which is now in dir.
func (l life) checkUntouched(t *testing.T, d *process.Driver, dir string) {
	t.Helper()
	g := runtimetest.At(t, d, l.ID, l.Place)
	if boot, err := g.Try("/boot"); err != nil || boot != l.boot {
		t.Errorf("the first gateway answers %q, %v", boot, err)
	}
	if word, err := os.ReadFile(filepath.Join(dir, string(l.ID), "home", "word")); err != nil || string(word) != "old" {
		t.Errorf("its home has %q, %v", word, err)
	}
}

// checkStartsAnew checks that the agent of a directory, which another gateway does not
// belong to, has no gateway but can have one, with its own home, whatever comes first.
func (l life) checkStartsAnew(t *testing.T, s process.Settings) *process.Driver {
	t.Helper()
	d := open(t, s)
	if state, err := d.Inspect(t.Context(), l.Place, l.ID); err != nil || state.Phase != runtime.Gone {
		t.Errorf("inspected: %+v, %v", state, err)
	}
	if _, err := d.Dial(t.Context(), l.Place, l.ID); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("dial: %v", err)
	}
	if err := d.PutSecrets(t.Context(), l.Place, l.ID, []byte("{}")); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("put secrets: %v", err)
	}
	found, err := d.List(t.Context())
	if err != nil || len(found) != 1 || found[0].Running || found[0].Place != "" {
		t.Errorf("listed: %+v, %v", found, err)
	}
	if err := d.Stop(t.Context(), l.Place, l.ID, 0); err != nil {
		t.Errorf("stop: %v", err)
	}
	g := runtimetest.Start(t, d, l.spec)
	if g.Place == l.Place || g.Ask("/boot") == l.boot {
		t.Error("it is the first gateway")
	}
	if got := g.Ask("/read", "name", "word"); got != "old" {
		t.Errorf("its home has %q", got)
	}
	g.Ask("/write", "name", "word", "data", "new")
	if word, err := os.ReadFile(filepath.Join(s.Dir, string(l.ID), "home", "word")); err != nil || string(word) != "new" {
		t.Errorf("its home has %q, %v", word, err)
	}
	return d
}

func shellDo(t *testing.T, format string, args ...string) {
	t.Helper()
	out, err := exec.Command("/bin/sh", append([]string{"-ec", format, "sh"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", format, err, out)
	}
}

// eachSandbox calls do with and, if this is not root, without a sandbox.
func eachSandbox(t *testing.T, do func(t *testing.T, sandboxed bool)) {
	for name, sandboxed := range map[string]bool{"sandboxed": true, "unsandboxed": false} {
		if !sandboxed && os.Getuid() == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) { do(t, sandboxed) })
	}
}

// TestOwnershipOfACopy: a directory is copied while a gateway lives. The gateway stays
// the original's, and the copy gets one of its own.
func TestOwnershipOfACopy(t *testing.T) {
	for name, copyCommand := range map[string]string{"copied": "cp -a", "linked": "cp -al"} {
		eachSandbox(t, func(t *testing.T, sandboxed bool) {
			t.Run(name, func(t *testing.T) {
				l := newLife(t, sandboxed)
				s, log := l.at(filepath.Join(t.TempDir(), "agents"))
				shellDo(t, copyCommand+` "$1" "$2"`, l.Dir, s.Dir)
				if name == "linked" { // files are shared, as with rsync --link-dest: a write must not change both
					shellDo(t, `rm "$1"; printf old >"$1"; chown "$2" "$1"`, filepath.Join(s.Dir, string(l.ID), "home", "word"), ownerText(t, filepath.Join(s.Dir, string(l.ID), "home")))
				}
				d := l.checkStartsAnew(t, s)
				l.checkUntouched(t, l.driver, l.Dir)
				if n := strings.Count(log.String(), "a gateway of another directory runs"); n != 1 {
					t.Errorf("it is reported %d times: %s", n, log)
				}
				checkGateways(t, s.Dir, 1, 1)
				checkGateways(t, l.Dir, 1, 0)
				if err := d.Remove(t.Context(), "", l.ID); err != nil {
					t.Fatal(err)
				}
				l.checkUntouched(t, l.driver, l.Dir)
			})
		})
	}
}

func ownerText(t *testing.T, path string) string {
	t.Helper()
	out, err := exec.Command("stat", "-c", "%u:%g", path).Output()
	must(t, err)
	return strings.TrimSpace(string(out))
}

func checkGateways(t *testing.T, dir string, own, others int) {
	t.Helper()
	all, err := process.Gateways(dir)
	must(t, err)
	count := map[bool]int{}
	for _, g := range all {
		count[g.Own]++
		if g.PID == 0 || g.Place == "" || g.StartedAt.IsZero() || g.MemoryBytes == 0 || g.Installation != testInstallation {
			t.Errorf("gateway %+v", g)
		}
	}
	if count[true] != own || count[false] != others {
		t.Errorf("gateways %+v", all)
	}
}

// TestOwnershipOfARestoredDirectory: a backup is put in the place of a directory whose
// gateway lives, so that both have had the same path.
func TestOwnershipOfARestoredDirectory(t *testing.T) {
	for _, noGroups := range []bool{false, true} {
		l := newLife(t, true)
		moved := l.Dir + "-moved"
		shellDo(t, `mv "$1" "$2"; cp -a "$2" "$1"`, l.Dir, moved)
		s, _ := l.at(l.Dir)
		s.NoGroups = noGroups
		l.checkStartsAnew(t, s)
		s.Dir = moved
		original := open(t, s)
		l.checkUntouched(t, original, moved)
		must(t, original.Remove(t.Context(), l.Place, l.ID))
		checkGateways(t, l.Dir, 1, 0)
	}
}

// TestOwnershipOfARestoredHome: only the home is replaced.
func TestOwnershipOfARestoredHome(t *testing.T) {
	l := newLife(t, true)
	home := filepath.Join(l.Dir, string(l.ID), "home")
	shellDo(t, `mv "$1" "$1-old"; cp -a "$1-old" "$1"`, home)
	s, _ := l.at(l.Dir)
	l.checkStartsAnew(t, s)
	checkGateways(t, l.Dir, 1, 1)
	for _, g := range gatewaysIn(t, l.Dir) {
		if !g.Own {
			shellDo(t, `kill -9 "$1"`, strconv.Itoa(g.PID))
		}
	}
	runtimetest.WaitUntil(t, "the first one has ended", func() bool { return len(gatewaysIn(t, l.Dir)) == 1 })
}

func gatewaysIn(t *testing.T, dir string) []process.Gateway {
	t.Helper()
	all, err := process.Gateways(dir)
	must(t, err)
	return all
}

// TestOwnershipWithoutASandboxAtTheSamePath: without a sandbox the gateway of a
// directory that was moved reaches the one that is there now. No second one is started.
func TestOwnershipWithoutASandboxAtTheSamePath(t *testing.T) {
	if os.Getuid() == 0 {
		return
	}
	l := newLife(t, false)
	moved := l.Dir + "-moved"
	shellDo(t, `mv "$1" "$2"; cp -a "$2" "$1"`, l.Dir, moved)
	s, _ := l.at(l.Dir)
	d := open(t, s)
	place, err := d.Place(t.Context(), l.spec)
	must(t, err)
	if err := d.Start(t.Context(), place, l.spec); err == nil || !strings.Contains(err.Error(), "end it with kill ") {
		t.Errorf("start: %v", err)
	}
	s.Dir = moved
	must(t, open(t, s).Remove(t.Context(), l.Place, l.ID))
	g := runtimetest.StartAgain(t, d, l.spec)
	g.Stop(0)
}

// TestOwnershipOfAMovedDirectory: a directory is moved while a gateway lives. In a
// sandbox the gateway has its home and its secrets as before, and is adopted.
func TestOwnershipOfAMovedDirectory(t *testing.T) {
	l := newLife(t, true)
	s, _ := l.at(filepath.Join(filepath.Dir(l.Dir), "elsewhere", "agents"))
	shellDo(t, `mkdir "$(dirname "$2")"; mv "$1" "$2"`, l.Dir, s.Dir)
	d := open(t, s)
	found, err := d.List(t.Context())
	if err != nil || len(found) != 1 || !found[0].Running || found[0].Place != l.Place {
		t.Errorf("listed: %+v, %v", found, err)
	}
	l.checkUntouched(t, d, s.Dir)
	checkGateways(t, s.Dir, 1, 0)
	g := runtimetest.At(t, d, l.ID, l.Place)
	must(t, d.PutSecrets(t.Context(), l.Place, l.ID, []byte("later")))
	if got := g.Ask("/secrets"); got != "later" {
		t.Errorf("secrets: %q", got)
	}
	g.Ask("/print", "line", "after the move")
	g.WaitLog("after the move\n")
	_, _ = g.Try("/exit", "code", "7")
	if state := g.WaitExit(); state.Phase != runtime.Exited || state.ExitCode != 7 {
		t.Errorf("exited: %+v", state)
	}
	g = runtimetest.StartAgain(t, d, l.spec)
	must(t, d.Remove(t.Context(), g.Place, l.ID))
}

// TestOwnershipOfAMovedDirectoryWithoutASandbox: the gateway knows only the path of
// before. It counts as ended, and is stopped before the next start.
func TestOwnershipOfAMovedDirectoryWithoutASandbox(t *testing.T) {
	if os.Getuid() == 0 {
		return
	}
	l := newLife(t, false)
	s, _ := l.at(filepath.Join(filepath.Dir(l.Dir), "elsewhere"))
	l.Shell("(setsid sleep 1000 </dev/null >/dev/null 2>&1 &)")
	shellDo(t, `mv "$1" "$2"`, l.Dir, s.Dir)
	d := open(t, s)
	if state, err := d.Inspect(t.Context(), l.Place, l.ID); err != nil || state.Phase != runtime.Gone {
		t.Errorf("inspected: %+v, %v", state, err)
	}
	if _, err := d.Dial(t.Context(), l.Place, l.ID); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("dial: %v", err)
	}
	must(t, d.Stop(t.Context(), l.Place, l.ID, 0))
	if strings.Contains(environments(), "HOME="+l.Dir) {
		t.Error("a process of before the move runs")
	}
	g := runtimetest.StartAgain(t, d, l.spec)
	if got := g.Ask("/read", "name", "word"); got != "old" {
		t.Errorf("the home has %q", got)
	}
	must(t, d.Remove(t.Context(), g.Place, l.ID))
}

// environments returns the environments of all processes that can be read.
func environments() string {
	var all strings.Builder
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil {
			all.Write(data)
		}
	}
	return all.String()
}

// TestOwnershipOfAnotherInstallation: nothing that carries the mark of another
// installation is touched.
func TestOwnershipOfAnotherInstallation(t *testing.T) {
	l := newLife(t, true)
	s, _ := l.at(l.Dir)
	s.Installation = "inst_other"
	d := open(t, s)
	found, err := d.List(t.Context())
	if err != nil || len(found) != 1 || found[0].Owner != runtime.Foreign || found[0].Running {
		t.Errorf("listed: %+v, %v", found, err)
	}
	if state, err := d.Inspect(t.Context(), l.Place, l.ID); err != nil || state.Phase != runtime.Gone {
		t.Errorf("inspected: %+v, %v", state, err)
	}
	place, err := d.Place(t.Context(), l.spec)
	must(t, err)
	if err := d.Start(t.Context(), place, l.spec); !errors.Is(err, runtime.ErrForeign) {
		t.Errorf("start: %v", err)
	}
	if _, err := d.Home(t.Context(), place, l.ID); !errors.Is(err, runtime.ErrForeign) {
		t.Errorf("home: %v", err)
	}
	if err := d.Quarantine(t.Context(), l.ID); !errors.Is(err, runtime.ErrForeign) {
		t.Errorf("quarantine: %v", err)
	}
	must(t, d.Stop(t.Context(), l.Place, l.ID, 0))
	must(t, d.Remove(t.Context(), l.Place, l.ID))
	l.checkUntouched(t, l.driver, l.Dir)
}

// TestOwnershipOfAnUnmarkedDirectory: it gets the mark when it is used, and is left
// where it is until then.
func TestOwnershipOfAnUnmarkedDirectory(t *testing.T) {
	s := newSettings(t)
	d := open(t, s)
	id := identity.AgentID("old")
	must(t, os.MkdirAll(filepath.Join(s.Dir, string(id), "home"), 0o700))
	found, err := d.List(t.Context())
	if err != nil || len(found) != 1 || found[0].Owner != runtime.Unmarked {
		t.Errorf("listed: %+v, %v", found, err)
	}
	if err := d.Quarantine(t.Context(), id); !errors.Is(err, runtime.ErrForeign) {
		t.Errorf("quarantine: %v", err)
	}
	h, err := d.Home(t.Context(), "", id)
	must(t, err)
	must(t, h.Close())
	if found, err := d.List(t.Context()); err != nil || len(found) != 1 || found[0].Owner != runtime.Own {
		t.Errorf("listed after its use: %+v, %v", found, err)
	}
}

// TestOwnershipOfWhatHasNoDirectory: the directory of a gateway was deleted. Its control
// group and its secrets show whose it is.
func TestOwnershipOfWhatHasNoDirectory(t *testing.T) {
	l := newLife(t, true)
	if kind, _ := l.driver.Limits(); kind == "watch" {
		t.Skip("no control groups")
	}
	must(t, os.RemoveAll(filepath.Join(l.Dir, string(l.ID))))
	s, _ := l.at(l.Dir)
	other := s
	other.Installation = "inst_other"
	if found, err := open(t, other).List(t.Context()); err != nil || len(found) != 0 {
		t.Errorf("another installation lists %+v, %v", found, err)
	}
	d := open(t, s)
	found, err := d.List(t.Context())
	if err != nil || len(found) != 1 || !found[0].Running || found[0].Owner != runtime.Own {
		t.Errorf("listed: %+v, %v", found, err)
	}
	must(t, d.Quarantine(t.Context(), l.ID))
	if found, err := d.List(t.Context()); err != nil || len(found) != 0 {
		t.Errorf("listed after the quarantine: %+v, %v", found, err)
	}
	if strings.Contains(commandLines(), string(l.ID)) {
		t.Error("its processes run")
	}
}

// TestOwnershipIsMarkedFromTheBeginning: there is no moment at which a directory exists
// without its mark.
func TestOwnershipIsMarkedFromTheBeginning(t *testing.T) {
	s := newSettings(t)
	d := open(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			found, err := d.List(ctx)
			for _, f := range found {
				if f.Owner != runtime.Own {
					err = errors.New("an unmarked directory")
				}
			}
			if err != nil && ctx.Err() == nil {
				watched <- err
				return
			}
		}
		watched <- nil
	}()
	for range 200 {
		h, err := d.Home(t.Context(), "", runtimetest.NewID())
		must(t, err)
		must(t, h.Close())
	}
	cancel()
	must(t, <-watched)
	if left, err := filepath.Glob(filepath.Join(s.Dir, ".new-*")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// TestQuarantineKeepsEverything: home, logs and mark are beside the agents' directory.
func TestQuarantineKeepsEverything(t *testing.T) {
	l := newLife(t, true)
	must(t, l.driver.Quarantine(t.Context(), l.ID))
	kept, err := filepath.Glob(filepath.Join(filepath.Dir(l.Dir), "quarantine", string(l.ID)+"-*"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("kept: %v, %v", kept, err)
	}
	listed, err := process.ListQuarantine(l.Dir)
	if err != nil || len(listed) != 1 || listed[0].ID != l.ID || listed[0].Path != kept[0] || time.Since(listed[0].Since).Abs() > time.Hour {
		t.Errorf("listed: %+v, %v", listed, err)
	}
	for name, want := range map[string]string{"home/word": "old", "installation": testInstallation + "\n", "log/gateway.log": "boot " + l.boot} {
		if text, err := os.ReadFile(filepath.Join(kept[0], name)); err != nil || !strings.HasPrefix(string(text), want) {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

// TestQuarantineOfAFileSystemOfItsOwn: nothing can be moved to beside it.
func TestQuarantineOfAFileSystemOfItsOwn(t *testing.T) {
	s := newSettings(t)
	must(t, os.MkdirAll(s.Dir, 0o700))
	if err := unix.Mount("agento-test", s.Dir, "tmpfs", 0, "mode=700"); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(s.Dir, unix.MNT_DETACH)) })
	d := open(t, s)
	id := runtimetest.NewID()
	h, err := d.Home(t.Context(), "", id)
	must(t, err)
	must(t, errors.Join(h.WriteFile("word", []byte("kept")), h.Close()))
	must(t, d.Quarantine(t.Context(), id))
	listed, err := process.ListQuarantine(s.Dir)
	if err != nil || len(listed) != 1 || listed[0].ID != id {
		t.Fatalf("listed: %+v, %v", listed, err)
	}
	if word, err := os.ReadFile(filepath.Join(listed[0].Path, "home", "word")); err != nil || string(word) != "kept" {
		t.Errorf("%q, %v", word, err)
	}
	if found, err := d.List(t.Context()); err != nil || len(found) != 0 {
		t.Errorf("the driver lists %+v, %v", found, err)
	}
}

// TestHomeDescriptorStaysOutside: the shim has the home open, outside of the sandbox.
// The gateway must not get this descriptor.
func TestHomeDescriptorStaysOutside(t *testing.T) {
	eachSandbox(t, func(t *testing.T, sandboxed bool) {
		l := newLife(t, sandboxed)
		for _, pid := range []string{"self", "$PPID", "1"} {
			if sandboxed || pid != "1" {
				out := l.Shell(`ls -l /proc/%s/fd 2>/dev/null | sed 's/.*-> //'`, pid)
				if strings.Contains(out, "/home") && strings.Contains(out, string(l.ID)+"/home\n") {
					t.Errorf("process %s has the home open: %s", pid, out)
				}
			}
		}
	})
}
