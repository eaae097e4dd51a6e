package process

import (
	"bytes"
	"crypto/rand"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// TestCgroupConformance tests whichever version of control groups this machine has.
func TestCgroupConformance(t *testing.T) {
	c := probeCgroup("test-" + rand.Text())
	if c.reason() != "" {
		t.Skipf("no control groups: %s", c.reason())
	}
	t.Logf("tests %s", c.kind())
	parts := map[string]func(t *testing.T, c cgroup, id identity.AgentID){
		"create, find and remove":           testCgroupLifeCycle,
		"usage is measured":                 testCgroupUsage,
		"over the memory limit is OOM":      testCgroupMemoryLimit,
		"the process limit stops forks":     testCgroupProcessLimit,
		"CPU time is limited":               testCgroupCPULimit,
		"forbidForks stops forks":           testCgroupForbidForks,
		"a new group counts from zero":      testCgroupReplaced,
		"a frozen group stands still":       testCgroupFreeze,
		"remove waits for the last process": testCgroupRemoveWaits,
	}
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		t.Run(name, func(t *testing.T) {
			c := probeCgroup("test-" + rand.Text()) // a parent of its own
			id := identity.AgentID("agent-1")
			t.Cleanup(func() {
				if err := c.remove(c.find(id, nil)); err != nil {
					t.Errorf("remove after the test: %v", err)
				}
			})
			parts[name](t, c, id)
		})
	}
}

func newGroup(t *testing.T, c cgroup, id identity.AgentID, limits runtime.Limits) []string {
	t.Helper()
	dirs, err := c.create(id, limits)
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

// groupMember is a shell that has joined a group. It and its children are killed when
// the test ends.
type groupMember struct {
	t   *testing.T
	cmd *exec.Cmd
	in  *os.File
	out bytes.Buffer // read it after wait only
}

// joinGroup starts a shell that joins a group, as a shim does, and then runs script.
func joinGroup(t *testing.T, dirs []string, script string) *groupMember {
	t.Helper()
	const join = `script=$1; shift; for f; do echo $$ >"$f" || exit 9; done; eval "$script"`
	m := &groupMember{t: t, cmd: exec.Command("/bin/sh", append([]string{"-c", join, "sh", script}, joinFiles(dirs)...)...)}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	m.in = w
	m.cmd.Stdin, m.cmd.Stdout, m.cmd.Stderr = r, &m.out, &m.out
	m.cmd.WaitDelay = time.Second
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := errors.Join(m.cmd.Start(), r.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.kill)
	return m
}

// kill kills the shell and its children.
func (m *groupMember) kill() {
	_ = m.in.Close()                                      // again if the script has ended
	_ = syscall.Kill(-m.cmd.Process.Pid, syscall.SIGKILL) // they may have ended
	_ = m.cmd.Wait()                                      // killed
}

// finish ends the input and returns what the script has printed.
func (m *groupMember) finish() string {
	m.t.Helper()
	_ = m.in.Close()
	_ = m.cmd.Wait() // some scripts fail on purpose
	return m.out.String()
}

func awaitCondition(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out: waited until %s", what)
		}
	}
}

func testCgroupLifeCycle(t *testing.T, c cgroup, id identity.AgentID) {
	if found := c.find(id, nil); len(found) == 0 || len(c.pids(found)) != 0 || len(c.ids()) != 0 {
		t.Errorf("before create: %v %v %v", found, c.pids(found), c.ids())
	}
	dirs := newGroup(t, c, id, runtime.Limits{})
	if found := c.find(id, dirs); !slices.Equal(found, dirs) || !slices.Equal(c.find(id, nil), dirs) {
		t.Errorf("created %v, found %v", dirs, found)
	}
	if elsewhere := c.find(id, []string{"/elsewhere"}); len(elsewhere) != len(dirs)+1 || elsewhere[0] != "/elsewhere" {
		t.Errorf("a recorded directory is missing: %v", elsewhere)
	}
	if !slices.Contains(c.ids(), id) {
		t.Errorf("ids: %v", c.ids())
	}
	if _, err := c.usage(dirs); err == nil {
		t.Error("usage of an empty group")
	}
	m := joinGroup(t, dirs, "read line")
	awaitCondition(t, "the shell has joined", func() bool { return slices.Contains(c.pids(dirs), m.cmd.Process.Pid) })
	m.kill()
	awaitCondition(t, "the group is empty", func() bool { return len(c.pids(dirs)) == 0 })
	for range 2 {
		if err := c.remove(dirs); err != nil {
			t.Error(err)
		}
	}
	if ids := c.ids(); len(ids) != 0 {
		t.Errorf("ids after remove: %v", ids)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Dir(dir)); err == nil {
			t.Errorf("%s was not removed with the last group", filepath.Dir(dir))
		}
	}
}

func testCgroupUsage(t *testing.T, c cgroup, id identity.AgentID) {
	dirs := newGroup(t, c, id, runtime.Limits{MemoryBytes: 1 << 30, Processes: 100})
	m := joinGroup(t, dirs, `i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; sleep 1000 & x=$(head -c 30000000 /dev/zero | tr '\0' x); read line`)
	var u usage
	awaitCondition(t, "the memory is measured", func() bool {
		var err error
		u, err = c.usage(dirs)
		return err == nil && u.memory > 25<<20 && u.processes == 2
	})
	if u.cpu <= 0 || u.cpu > time.Minute || u.memory > 500<<20 {
		t.Errorf("usage: %+v", u)
	}
	if c.oomKilled(dirs) {
		t.Error("reported as killed because of its memory")
	}
	m.kill()
	awaitCondition(t, "the group is empty", func() bool { return len(c.pids(dirs)) == 0 })
}

func testCgroupMemoryLimit(t *testing.T, c cgroup, id identity.AgentID) {
	dirs := newGroup(t, c, id, runtime.Limits{MemoryBytes: 32 << 20})
	out := joinGroup(t, dirs, `x=$(head -c 100000000 /dev/zero | tr '\0' x); echo survived`).finish()
	if !c.oomKilled(dirs) || strings.Contains(out, "survived") {
		t.Errorf("not killed at its memory limit: %q", out)
	}
}

// forkMany runs n background processes in a new shell of the group and returns its
// output.
func forkMany(t *testing.T, dirs []string, n int) string {
	t.Helper()
	m := joinGroup(t, dirs, `i=0; while [ $i -lt `+strconv.Itoa(n)+` ]; do sleep 100 </dev/null >/dev/null 2>&1 & i=$((i+1)); done; echo all`)
	defer m.kill()
	awaitCondition(t, "the shell ends", func() bool { return !isRunning(m.cmd.Process.Pid) })
	return m.finish()
}

func testCgroupProcessLimit(t *testing.T, c cgroup, id identity.AgentID) {
	dirs := newGroup(t, c, id, runtime.Limits{Processes: 10})
	if out := forkMany(t, dirs, 5); !strings.Contains(out, "all") {
		t.Errorf("within the limit: %q", out)
	}
	awaitCondition(t, "the group is empty", func() bool { return len(c.pids(dirs)) == 0 })
	if out := forkMany(t, dirs, 10+overheadProcesses+1); strings.Contains(out, "all") {
		t.Errorf("over the limit: %q", out)
	}
}

func testCgroupForbidForks(t *testing.T, c cgroup, id identity.AgentID) {
	dirs := newGroup(t, c, id, runtime.Limits{})
	m := joinGroup(t, dirs, `read line; /bin/true && echo forked; echo end`)
	awaitCondition(t, "the shell has joined", func() bool { return len(c.pids(dirs)) > 0 })
	c.forbidForks(dirs)
	if _, err := m.in.WriteString("go\n"); err != nil {
		t.Fatal(err)
	}
	if out := m.finish(); strings.Contains(out, "forked") {
		t.Errorf("it forked: %q", out)
	}
}

func testCgroupReplaced(t *testing.T, c cgroup, id identity.AgentID) {
	testCgroupMemoryLimit(t, c, id)
	awaitCondition(t, "the group is empty", func() bool { return len(c.pids(c.find(id, nil))) == 0 })
	if c.oomKilled(newGroup(t, c, id, runtime.Limits{})) {
		t.Error("a new group has the counters of the old one")
	}
}

func testCgroupRemoveWaits(t *testing.T, c cgroup, id identity.AgentID) {
	dirs := newGroup(t, c, id, runtime.Limits{})
	m := joinGroup(t, dirs, "read line")
	awaitCondition(t, "the shell has joined", func() bool { return len(c.pids(dirs)) > 0 })
	// remove waits until the process has ended.
	time.AfterFunc(50*time.Millisecond, func() { _ = m.cmd.Process.Kill() })
	if err := c.remove(dirs); err != nil {
		t.Error(err)
	}
	if pids := c.pids(dirs); len(pids) != 0 {
		t.Errorf("processes after remove: %v", pids)
	}
}

// writeTree writes files that stand for those of a control group.
func writeTree(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

func readText(t *testing.T, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestCgroupFiles tests the names and formats of the files of both versions, in
// directories that stand for control groups.
func TestCgroupFiles(t *testing.T) {
	type versioned interface {
		cgroup
		setLimits(dir string, limits runtime.Limits) error
	}
	for _, v := range []struct {
		cgroup versioned
		dirs   []string
		files  map[string]string // with the usage below
		limits map[string]string // files that setLimits writes

		frozen, thawed, reclaimed map[string]string // files that are written
		isFrozen                  map[string]string // what the kernel says then
		oom                       [2]string         // the file that counts killed processes, and its content
	}{
		{
			cgroup: cgroupV1{},
			dirs:   []string{"memory", "cpuacct", "pids", "freezer"},
			files: map[string]string{
				"memory/cgroup.procs": "10\n11\n", "pids/cgroup.procs": "10\n11\n", "cpuacct/cgroup.procs": "10\n11\n",
				"memory/memory.usage_in_bytes": "50000\n",
				"memory/memory.stat":           "cache 7\ninactive_file 1\ntotal_inactive_file 1000\ntotal_active_file 2000\n",
				"memory/memory.oom_control":    "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
				"cpuacct/cpuacct.usage":        "1500000000\n",
				"memory/memory.limit_in_bytes": "9223372036854771712\n", "memory/memory.memsw.limit_in_bytes": "9223372036854771712\n",
				"pids/pids.max": "max\n", "freezer/freezer.state": "FREEZING\n", "memory/memory.force_empty": "",
			},
			frozen: map[string]string{"freezer/freezer.state": "FROZEN"}, isFrozen: map[string]string{"freezer/freezer.state": "FROZEN\n"},
			thawed: map[string]string{"freezer/freezer.state": "THAWED"}, reclaimed: map[string]string{"memory/memory.force_empty": "0"},
			limits: map[string]string{"memory/memory.limit_in_bytes": "4096", "memory/memory.memsw.limit_in_bytes": "4096", "pids/pids.max": "14"},
			oom:    [2]string{"memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"},
		},
		{
			cgroup: cgroupV2{},
			dirs:   []string{"group"},
			files: map[string]string{
				"group/cgroup.procs": "10\n11\n", "group/memory.current": "50000\n",
				"group/memory.stat":   "anon 7\ninactive_file 1000\nactive_file 2000\n",
				"group/memory.events": "low 0\nmax 3\noom 1\noom_kill 0\n",
				"group/cpu.stat":      "usage_usec 1500000\nuser_usec 1\n",
				"group/memory.max":    "max\n", "group/memory.swap.max": "max\n", "group/pids.max": "max\n",
				"group/cgroup.freeze": "0\n", "group/cgroup.events": "populated 1\nfrozen 0\n", "group/memory.reclaim": "",
			},
			frozen: map[string]string{"group/cgroup.freeze": "1"}, isFrozen: map[string]string{"group/cgroup.events": "populated 1\nfrozen 1\n"},
			thawed: map[string]string{"group/cgroup.freeze": "0"}, reclaimed: map[string]string{"group/memory.reclaim": "50000"},
			limits: map[string]string{"group/memory.max": "4096", "group/memory.swap.max": "4096", "group/pids.max": "14"},
			oom:    [2]string{"group/memory.events", "low 0\nmax 3\noom 1\noom_kill 1\n"},
		},
	} {
		t.Run(v.cgroup.kind(), func(t *testing.T) {
			base := t.TempDir()
			writeTree(t, base, v.files)
			var dirs []string
			for _, name := range v.dirs {
				dirs = append(dirs, filepath.Join(base, name))
			}
			u, err := v.cgroup.usage(dirs)
			if err != nil || u != (usage{memory: 47000, cpu: 1500 * time.Millisecond, processes: 2}) {
				t.Errorf("usage: %+v %v", u, err)
			}
			if pids := v.cgroup.pids(dirs[:1]); !slices.Equal(pids, []int{10, 11}) {
				t.Errorf("pids: %v", pids)
			}
			for _, dir := range dirs {
				if err := v.cgroup.setLimits(dir, runtime.Limits{MemoryBytes: 4096, Processes: 10}); err != nil {
					t.Error(err)
				}
			}
			for name, want := range v.limits {
				if got := readText(t, base, name); got != want {
					t.Errorf("%s has %q, want %q", name, got, want)
				}
			}
			v.cgroup.forbidForks(dirs)
			if got := readText(t, dirs[len(dirs)/2], "pids.max"); got != "0" {
				t.Errorf("pids.max after forbidForks: %q", got)
			}
			check := func(files map[string]string) {
				t.Helper()
				for name, want := range files {
					if got := readText(t, base, name); got != want {
						t.Errorf("%s has %q, want %q", name, got, want)
					}
				}
			}
			if !v.cgroup.freezes(dirs) || v.cgroup.freezes(dirs[:0]) || v.cgroup.isFrozen(dirs) {
				t.Error("before the freeze")
			}
			for _, step := range []struct {
				do    error
				files map[string]string
			}{{v.cgroup.reclaim(dirs), v.reclaimed}, {v.cgroup.setFrozen(dirs, true), v.frozen}} {
				if step.do != nil {
					t.Error(step.do)
				}
				check(step.files)
			}
			writeTree(t, base, v.isFrozen)
			if !v.cgroup.isFrozen(dirs) {
				t.Error("the kernel says that it is frozen")
			}
			if err := v.cgroup.setFrozen(dirs, false); err != nil {
				t.Error(err)
			}
			check(v.thawed)
			if err := v.cgroup.setFrozen([]string{filepath.Join(base, "gone")}, false); err == nil {
				t.Error("a group that is gone was thawed")
			}
			if v.cgroup.oomKilled(dirs) {
				t.Error("killed because of its memory, although the counter is 0")
			}
			writeTree(t, base, map[string]string{v.oom[0]: v.oom[1]})
			if !v.cgroup.oomKilled(dirs) {
				t.Error("not killed because of its memory, although the counter is 1")
			}
			if _, err := v.cgroup.usage(nil); err == nil {
				t.Error("usage without a group")
			}
		})
	}
}

// TestCgroupMounts tests which directories are used for the mounts that machines
// have.
func TestCgroupMounts(t *testing.T) {
	base := t.TempDir()
	writeTree(t, base, map[string]string{
		"v1/memory/ours/cgroup.procs": "", "v1/pids/cgroup.procs": "", "v1/cpu/cgroup.procs": "",
		"unified/system.slice/agento.service/cgroup.procs": "", "unified/cgroup.subtree_control": "", "unified/cgroup.procs": "",
		"unified/system.slice/cgroup.subtree_control": "",
		"container/cgroup.procs":                      "", "container/cgroup.subtree_control": "",
	})
	mount := func(dir, root, kind, options string) string {
		return "30 20 0:1 " + root + " " + filepath.Join(base, dir) + " rw - " + kind + " cgroup " + options + "\n"
	}
	for name, test := range map[string]struct {
		cgroup, mountinfo string
		kind              string // empty: none
		parents           []string
	}{
		"v1": {
			cgroup:    "5:memory:/ours\n4:pids:/\n3:cpu,cpuacct:/\n",
			mountinfo: mount("v1/memory", "/", "cgroup", "rw,memory") + mount("v1/pids", "/", "cgroup", "rw,pids") + mount("v1/cpu", "/", "cgroup", "rw,cpu,cpuacct"),
			kind:      "cgroup v1", parents: []string{"v1/memory/ours/name", "v1/pids/name", "v1/cpu/name"},
		},
		"v1 without the pids controller, in a container": {
			cgroup:    "5:memory:/docker/1\n",
			mountinfo: mount("v1/memory", "/docker/1", "cgroup", "rw,memory"),
			kind:      "cgroup v1", parents: []string{"v1/memory/name"},
		},
		"both: the controllers are in v1": {
			cgroup:    "5:memory:/ours\n0::/\n",
			mountinfo: mount("unified", "/", "cgroup2", "rw") + mount("v1/memory", "/", "cgroup", "rw,memory"),
			kind:      "cgroup v1", parents: []string{"v1/memory/ours/name"},
		},
		"v2: beside our own group": {
			cgroup:    "0::/system.slice/agento.service\n",
			mountinfo: mount("unified", "/", "cgroup2", "rw"),
			kind:      "cgroup v2", parents: []string{"unified/system.slice/name"},
		},
		"v2 in a container: at the top": {
			cgroup:    "0::/\n",
			mountinfo: mount("container", "/", "cgroup2", "rw"),
			kind:      "cgroup v2", parents: []string{"container/name"},
		},
		"none": {cgroup: "1:name=systemd:/\n", mountinfo: mount("v1/pids", "/", "cgroup", "rw,pids") + "malformed line\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeTree(t, dir, map[string]string{"cgroup": test.cgroup, "mountinfo": test.mountinfo})
			mounts, err := findCgroupMounts(filepath.Join(dir, "cgroup"), filepath.Join(dir, "mountinfo"))
			if err != nil {
				t.Fatal(err)
			}
			c := chooseCgroup(mounts, "name")
			if c == nil {
				if test.kind != "" {
					t.Errorf("no control groups, want %s", test.kind)
				}
				return
			}
			var want []string
			for _, p := range test.parents {
				want = append(want, filepath.Join(base, p, "agent"))
			}
			if got := c.find("agent", nil); c.kind() != test.kind || !slices.Equal(got, want) {
				t.Errorf("%s in %v, want %s in %v", c.kind(), got, test.kind, want)
			}
		})
	}
	if got := readText(t, base, "unified/system.slice/name/cgroup.subtree_control"); got != "+cpu" {
		t.Errorf("the controllers were not passed on: %q", got)
	}
}

// testCgroupCPULimit: an agent has a limit of its own, and all agents together leave the
// server a part.
func testCgroupCPULimit(t *testing.T, c cgroup, id identity.AgentID) {
	dirs := newGroup(t, c, id, runtime.Limits{CPUs: 0.1, CPUWeight: 50})
	if !c.limitsCPU(dirs) {
		t.Skip("no cpu controller")
	}
	var dir string
	for _, d := range dirs {
		if n, ok := readCores(d); ok {
			dir = d
			if n != 0.1 {
				t.Errorf("the agent may use %v cores", n)
			}
		}
	}
	available := availableCores(filepath.Dir(filepath.Dir(dir)))
	if n, ok := readCores(filepath.Dir(dir)); !ok || n < 0.89*available || n > 0.91*available {
		t.Errorf("all agents may use %v of %v cores", n, available)
	}
	weight, _ := os.ReadFile(filepath.Join(dir, "cpu.weight"))
	shares, _ := os.ReadFile(filepath.Join(dir, "cpu.shares"))
	if got := strings.TrimSpace(string(weight) + string(shares)); got != "50" && got != "512" {
		t.Errorf("weight %q", got)
	}
	joinGroup(t, dirs, "while :; do :; done & while :; do :; done")
	for deadline := time.Now().Add(30 * time.Second); readCounters(dir, "cpu.stat")["nr_throttled"] < 3; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it is not throttled: %v", readCounters(dir, "cpu.stat"))
		}
	}
	// More than the parent has is as much as it has.
	if n, ok := readCores(newCPUGroup(t, c, runtime.Limits{CPUs: 1e6})); !ok || n > 0.91*available {
		t.Errorf("another agent may use %v cores", n)
	}
}

// newCPUGroup returns the directory of a new group in the hierarchy of the cpu controller.
func newCPUGroup(t *testing.T, c cgroup, limits runtime.Limits) string {
	t.Helper()
	dirs := newGroup(t, c, "agent-2", limits)
	t.Cleanup(func() {
		if err := c.remove(dirs); err != nil {
			t.Error(err)
		}
	})
	for _, dir := range dirs {
		if fileExists(dir, "cpu.max") || fileExists(dir, "cpu.cfs_quota_us") {
			return dir
		}
	}
	t.Fatal("no cpu controller")
	return ""
}

// testCgroupFreeze: a process stands still, goes on, and ends although it is frozen.
func testCgroupFreeze(t *testing.T, c cgroup, id identity.AgentID) {
	dirs := newGroup(t, c, id, runtime.Limits{})
	if !c.freezes(dirs) {
		t.Skip("no freezer here")
	}
	checkFreeze(t, c, dirs)
}

// TestCgroupV2Freezes tests the freezer of v2 where only that part of v2 can be used.
func TestCgroupV2Freezes(t *testing.T) {
	mounts, err := findCgroupMounts("/proc/self/cgroup", "/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(mounts[unifiedHierarchy].dir, "agento-test-"+rand.Text())
	if mounts[unifiedHierarchy].dir == "" || os.Mkdir(dir, 0o755) != nil {
		t.Skip("no group of v2 can be made here")
	}
	t.Cleanup(func() {
		if err := removeGroup(dir); err != nil {
			t.Error(err)
		}
	})
	checkFreeze(t, cgroupV2{}, []string{dir})
}

func checkFreeze(t *testing.T, c cgroup, dirs []string) {
	t.Helper()
	ticks := filepath.Join(t.TempDir(), "ticks")
	m := joinGroup(t, dirs, "while :; do echo >>"+ticks+"; sleep 0.01; done")
	size := func() int64 {
		st, err := os.Stat(ticks)
		if err != nil {
			return 0
		}
		return st.Size()
	}
	awaitCondition(t, "it writes", func() bool { return size() > 0 })
	for range 2 {
		if err := c.setFrozen(dirs, true); err != nil {
			t.Fatal(err)
		}
		awaitCondition(t, "it is frozen", func() bool { return c.isFrozen(dirs) })
		before := size()
		time.Sleep(50 * time.Millisecond) // for it to go on, if it did
		if after := size(); after != before {
			t.Errorf("a frozen process wrote %d bytes", after-before)
		}
		if err := c.setFrozen(dirs, false); err != nil {
			t.Fatal(err)
		}
		awaitCondition(t, "it goes on", func() bool { return !c.isFrozen(dirs) && size() > before })
	}
	if err := c.setFrozen(dirs, true); err != nil {
		t.Fatal(err)
	}
	awaitCondition(t, "it is frozen", func() bool { return c.isFrozen(dirs) })
	if err := syscall.Kill(-m.cmd.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := c.setFrozen(dirs, false); err != nil {
		t.Fatal(err)
	}
	_ = m.cmd.Wait() // killed
	awaitCondition(t, "nothing is left", func() bool { return len(c.pids(dirs)) == 0 })
}
