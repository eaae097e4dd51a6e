package process_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/process"
	"agento.host/agento/internal/runtime/runtimetest"
)

// TestGVisorIsMissing: a driver for gVisor starts no agent in anything less.
func TestGVisorIsMissing(t *testing.T) {
	s := newSettings(t)
	s.Sandbox = process.GVisor
	want := "gVisor needs root: run the server as root, or with --sandbox bubblewrap"
	if os.Getuid() == 0 {
		want = "runsc is not installed (make gvisor builds it; put it beside agento or on PATH)"
		t.Setenv("PATH", withoutRunsc())
	}
	d := open(t, s)
	if got := missingOf(d.CheckIsolation()); got != want {
		t.Errorf("missing: %q", got)
	}
	checkNotStarted(t, d, s, want)
}

// withoutRunsc returns PATH without the directories that have runsc.
func withoutRunsc() string {
	var dirs []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if _, err := os.Stat(filepath.Join(dir, "runsc")); err != nil {
			dirs = append(dirs, dir)
		}
	}
	return strings.Join(dirs, string(filepath.ListSeparator))
}

// openGVisor returns a driver with gVisor. make chaos-gvisor runs the tests that need it.
func openGVisor(t *testing.T) (process.Settings, *process.Driver) {
	t.Helper()
	s := newSettings(t)
	if s.Sandbox != process.GVisor {
		t.Skip("make chaos-gvisor runs it")
	}
	d := open(t, s)
	must(t, d.CheckIsolation())
	return s, d
}

// TestGVisorIsolatesAgents looks from inside an agent for the machine's kernel, processes
// and files, and from outside at what gVisor's own processes may do.
func TestGVisorIsolatesAgents(t *testing.T) {
	s, d := openGVisor(t)
	victim := runtimetest.Spec(runtimetest.NewID())
	victim.Files["victim-file"] = []byte("file of another")
	victim.Secrets = []byte("secrets of another")
	other := runtimetest.Start(t, d, victim)
	spec := runtimetest.Spec(runtimetest.NewID())
	spec.Limits = runtime.Limits{MemoryBytes: 1 << 30, Processes: 512}
	g := runtimetest.Start(t, d, spec)

	t.Run("kernel", func(t *testing.T) {
		var u unix.Utsname
		must(t, unix.Uname(&u))
		if release := strings.TrimSpace(g.Shell("uname -r")); release == "" || release == unix.ByteSliceToString(u.Release[:]) {
			t.Errorf("the agent's kernel is %q, which is the machine's", release)
		}
		if out := g.Shell("dmesg"); !strings.Contains(out, "Starting gVisor") {
			t.Errorf("the log of its kernel: %s", out)
		}
		boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		must(t, err)
		if out := g.Shell("cat /proc/sys/kernel/random/boot_id /proc/version /proc/cmdline 2>/dev/null"); strings.Contains(out, strings.TrimSpace(string(boot))) {
			t.Errorf("the machine's /proc: %s", out)
		}
	})
	t.Run("user", func(t *testing.T) {
		st, err := os.Stat(filepath.Join(s.Dir, string(g.ID), "home"))
		must(t, err)
		if out := g.Shell("id -u; id -g; id -un; id -G"); out != fmt.Sprintf("%[1]d\n%[1]d\nagent\n%[1]d\n", uidOf(st)) {
			t.Errorf("its user: %q", out)
		}
		out := g.Shell("cat /proc/self/status")
		for _, want := range []string{"CapPrm", "CapEff", "CapInh", "CapBnd"} {
			if !strings.Contains(out, want+":\t0000000000000000") {
				t.Errorf("%s: %s", want, out)
			}
		}
		if out := g.Shell("mount -t tmpfs x /tmp; unshare -m true; echo 1 >/proc/sys/kernel/printk"); strings.Count(strings.ToLower(out), "permi")+strings.Count(out, "superuser") != 3 {
			t.Errorf("it was allowed: %s", out)
		}
		g.Shell("echo x >owned")
		if st, err = os.Stat(filepath.Join(s.Dir, string(g.ID), "home", "owned")); err != nil || uidOf(st) == 0 || uidOf(st) == 65534 {
			t.Errorf("its file: %v, %v", st, err)
		}
	})
	t.Run("processes", func(t *testing.T) {
		pids := regexp.MustCompile(`\d+`).FindAllString(g.Shell("ls -d /proc/[0-9]*"), -1)
		if len(pids) > 6 { // init, the gateway, its shell and its ls
			t.Errorf("it sees %v", pids)
		}
		if out := g.Shell("kill -9 %d; cat /proc/*/cmdline | tr '\\0' ' '", os.Getpid()); !strings.Contains(out, "o such process") || strings.Contains(out, "bwrap") || strings.Contains(out, "runsc") || strings.Contains(out, s.Dir) {
			t.Errorf("processes: %s", out)
		}
	})
	t.Run("files", func(t *testing.T) {
		for _, path := range []string{
			s.Dir, s.RunDir, "/etc/shadow", "/root", "/var", "/work", "/bundle", "/view", "/runsc", "/secrets", "/run/runsc", "/sys/fs/cgroup/agento", "/dev/sda", "/dev/kvm",
			filepath.Join(s.Dir, string(other.ID), "home", "victim-file"),
		} {
			if out := g.Shell("ls -la %s", path); !strings.Contains(out, "No such file") {
				t.Errorf("%s: %s", path, out)
			}
		}
		if out := g.Shell(`grep -rsI "of another" /home /run /tmp /dev/shm; cat /run/agento/secrets.json; echo x >/usr/x; echo x >/etc/passwd; echo x >/x; echo x >/run/agento/x`); strings.Contains(out, "another") || !strings.HasPrefix(out, `{"word":"first"}`) || strings.Count(out, "Read-only")+strings.Count(out, "denied") != 4 {
			t.Errorf("files: %s", out)
		}
	})
	t.Run("gVisor's processes", func(t *testing.T) {
		n := 0
		for _, pid := range descendants(t, shims(g.ID)[0]) {
			status, err := os.ReadFile(pid + "/status")
			line, _ := os.ReadFile(pid + "/cmdline")
			if err != nil || !strings.HasPrefix(string(line), "runsc-") {
				continue
			}
			n++
			if !regexp.MustCompile(`Uid:\s+65534\s+65534\s+65534\s+65534\n`).Match(status) || !strings.Contains(string(status), "Seccomp:\t2") {
				t.Errorf("%s\n%s", line, status)
			}
			for _, kind := range []string{"user", "pid", "ipc", "uts", "mnt"} {
				own, err1 := os.Readlink("/proc/self/ns/" + kind)
				theirs, err2 := os.Readlink(pid + "/ns/" + kind)
				if err1 != nil || err2 != nil || own == theirs {
					t.Errorf("%s: namespace %s: %s, %s", line, kind, own, theirs)
				}
			}
			score, err := os.ReadFile(pid + "/oom_score_adj")
			if err != nil || strings.HasPrefix(string(line), "runsc-sandbox") && string(score) != "500\n" {
				t.Errorf("%s: oom score %s, %v", line, score, err)
			}
		}
		if n != 2 {
			t.Errorf("%d processes of gVisor", n)
		}
	})
	t.Run("it is examined", func(t *testing.T) {
		found, err := d.Examine(t.Context())
		must(t, err)
		if len(found) != 2 {
			t.Fatalf("%d gateways", len(found))
		}
		for _, e := range found {
			for _, c := range e.Checks {
				if !c.OK {
					t.Errorf("%s: %+v", e.ID, c)
				}
			}
		}
	})
	t.Run("the end", func(t *testing.T) {
		boot := other.Ask("/boot")
		_, _ = g.Try("/sh", "do", "kill -9 -1") // it kills itself too
		if state := g.WaitExit(); state.ExitCode != 137 {
			t.Errorf("killed: %+v", state)
		}
		if other.Ask("/boot") != boot {
			t.Error("the other gateway was killed")
		}
	})
}

// TestGVisorFloods: an agent that makes too many processes ends itself and nothing else.
func TestGVisorFloods(t *testing.T) {
	_, d := openGVisor(t)
	other := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	spec := runtimetest.Spec(runtimetest.NewID())
	spec.Limits.Processes = 60
	g := runtimetest.Start(t, d, spec)
	boot := other.Ask("/boot")
	_, _ = g.Try("/sh", "do", `i=0; while [ $i -lt 400 ]; do sleep 100 </dev/null >/dev/null 2>&1 & i=$((i+1)); done; wait`)
	if state := g.WaitExit(); state.Phase != runtime.Exited {
		t.Errorf("over its processes: %+v", state)
	}
	if other.Ask("/boot") != boot {
		t.Error("the other gateway was killed")
	}
	g.Stop(0)
	runtimetest.StartAgain(t, d, spec).Stop(0)
}

// descendants lists the directories in /proc of the processes below one.
func descendants(t *testing.T, dir string) (below []string) {
	t.Helper()
	for queue := []string{dir}; len(queue) > 0; queue = queue[1:] {
		files, err := filepath.Glob(queue[0] + "/task/*/children")
		must(t, err)
		for _, f := range files {
			data, _ := os.ReadFile(f) // the process may have ended
			for pid := range strings.FieldsSeq(string(data)) {
				if _, err := strconv.Atoi(pid); err == nil {
					below, queue = append(below, "/proc/"+pid), append(queue, "/proc/"+pid)
				}
			}
		}
	}
	return below
}
