package process

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/runtime"
)

// limiter keeps agents within their limits by control groups: a directory for
// each agent below one for the data directory, in each hierarchy that has a
// controller we need.
type limiter struct {
	bases  []string // one for v2; one for each controller for v1
	kind   string
	reason string // why there are none
}

func probeLimits(dataDir string) limiter {
	mounts, err := groupMounts()
	if err != nil {
		return limiter{reason: err.Error()}
	}
	name := "agento-" + dirName(dataDir)
	l := limiter{kind: "cgroup v1"}
	for _, controller := range []string{"memory", "pids", "cpuacct"} {
		if m, ok := mounts[controller]; ok {
			l.bases = append(l.bases, filepath.Join(m.own(), name))
		}
	}
	if _, v1 := mounts["memory"]; !v1 {
		l = limiter{kind: "cgroup v2"}
		if m, ok := mounts["v2"]; ok {
			l.bases = m.delegated(name)
		}
	}
	if err := l.try(); err != nil {
		return limiter{reason: err.Error()}
	}
	return l
}

func (l limiter) describe() (kind, reason string) {
	if l.reason != "" {
		return "watch", l.reason
	}
	return l.kind, ""
}

// try makes a group and takes it down again.
func (l limiter) try() error {
	if len(l.bases) == 0 {
		return errors.New("this machine lets us make no control groups")
	}
	id := ".probe-" + rand.Text()
	groups, enter, err := l.create(id, runtime.Limits{MemoryBytes: 1 << 30, Processes: 100})
	if err == nil {
		err = tryEntering(enter)
	}
	return errors.Join(err, l.remove(id, record{Groups: groups}))
}

// tryEntering does as a shim does: the right to make a group is not yet the
// right to move into it.
func tryEntering(enter []string) error {
	const script = `for f; do echo $$ >"$f" || exit 1; done`
	out, err := exec.Command("/bin/sh", append([]string{"-c", script, "sh"}, enter...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("enter control group: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (l limiter) groups(id string, rec record) []string {
	out := slices.Clone(rec.Groups)
	for _, base := range l.bases {
		if dir := filepath.Join(base, id); !slices.Contains(out, dir) {
			out = append(out, dir)
		}
	}
	return out
}

// create makes the groups of an agent. A process is in them once its pid is
// written into each file of enter.
func (l limiter) create(id string, limits runtime.Limits) (groups, enter []string, err error) {
	for _, base := range l.bases {
		dir := filepath.Join(base, id)
		err := createGroup(base, dir)
		for range 10 {
			if !errors.Is(err, fs.ErrNotExist) {
				break
			}
			err = createGroup(base, dir) // the last agent has just taken the base down
		}
		if err == nil {
			err = bound(dir, limits)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("make control group: %w", err)
		}
		groups = append(groups, dir)
		enter = append(enter, filepath.Join(dir, "cgroup.procs"))
	}
	return groups, enter, nil
}

func createGroup(base, dir string) error {
	if err := os.MkdirAll(base, 0o755); err != nil {
		return err
	}
	if err := delegate(base); err != nil {
		return err
	}
	// A new group counts from zero.
	if err := removeGroup(dir); err != nil {
		return err
	}
	return os.Mkdir(dir, 0o755)
}

// delegate passes the controllers on to the groups below, in v2.
func delegate(base string) error {
	file := filepath.Join(base, "cgroup.subtree_control")
	if !has(base, "cgroup.subtree_control") {
		return nil // v1
	}
	if err := write(file, "+memory +pids"); err != nil {
		return fmt.Errorf("pass on controllers: %w", err)
	}
	_ = write(file, "+cpu") // cpu.stat has the times without it
	return nil
}

// bound sets the limits in whatever hierarchy the group is of.
func bound(dir string, limits runtime.Limits) error {
	bytes := strconv.FormatInt(limits.MemoryBytes, 10)
	var err error
	if limits.MemoryBytes > 0 && has(dir, "memory.limit_in_bytes") {
		err = write(filepath.Join(dir, "memory.limit_in_bytes"), bytes)
		// Memory and swap together, where swap is counted.
		_ = write(filepath.Join(dir, "memory.memsw.limit_in_bytes"), bytes)
	}
	if limits.MemoryBytes > 0 && has(dir, "memory.max") {
		err = write(filepath.Join(dir, "memory.max"), bytes)
		// So that a frozen agent can be paged out whole, but no more.
		_ = write(filepath.Join(dir, "memory.swap.max"), bytes)
	}
	if limits.Processes > 0 && has(dir, "pids.max") {
		err = errors.Join(err, write(filepath.Join(dir, "pids.max"), strconv.FormatInt(limits.Processes+ownProcesses, 10)))
	}
	return err
}

// usage measures a running agent by its groups.
func (l limiter) usage(rec record) (usage, error) {
	var u usage
	if len(rec.Groups) == 0 {
		return u, errors.New("no control group")
	}
	for _, dir := range rec.Groups {
		stat := fields(filepath.Join(dir, "memory.stat"))
		switch {
		case has(dir, "memory.usage_in_bytes"):
			total, err := number(filepath.Join(dir, "memory.usage_in_bytes"))
			if err != nil {
				return u, err
			}
			u.memory = total - stat["total_inactive_file"] - stat["total_active_file"]
		case has(dir, "memory.current"):
			total, err := number(filepath.Join(dir, "memory.current"))
			if err != nil {
				return u, err
			}
			u.memory = total - stat["inactive_file"] - stat["active_file"]
		}
		if ns, err := number(filepath.Join(dir, "cpuacct.usage")); err == nil {
			u.cpu = time.Duration(ns)
		} else if us, ok := fields(filepath.Join(dir, "cpu.stat"))["usage_usec"]; ok {
			u.cpu = time.Duration(us) * time.Microsecond
		}
	}
	u.processes = int64(len(groupPids(rec.Groups[0])))
	if u.processes == 0 {
		return u, errors.New("nobody in the control group")
	}
	u.memory = max(u.memory, 0)
	return u, nil
}

// oomKilled says whether the kernel killed something of the agent for its
// memory.
func (l limiter) oomKilled(rec record) bool {
	for _, dir := range rec.Groups {
		if fields(filepath.Join(dir, "memory.oom_control"))["oom_kill"] > 0 || fields(filepath.Join(dir, "memory.events"))["oom_kill"] > 0 {
			return true
		}
	}
	return false
}

// members lists the processes in an agent's groups.
func (l limiter) members(id string, rec record) []int {
	var pids []int
	for _, dir := range l.groups(id, rec) {
		pids = append(pids, groupPids(dir)...)
	}
	return pids
}

// seal keeps an agent that is being killed from making more processes.
func (l limiter) seal(id string, rec record) {
	for _, dir := range l.groups(id, rec) {
		if has(dir, "pids.max") {
			_ = write(filepath.Join(dir, "pids.max"), "0") // killing again and again helps too
		}
	}
}

// remove takes down the groups of an agent whose processes are gone, and those
// above when it was the last.
func (l limiter) remove(id string, rec record) error {
	for _, dir := range l.groups(id, rec) {
		if err := removeGroup(dir); err != nil {
			return fmt.Errorf("remove control group: %w", err)
		}
		_ = os.Remove(filepath.Dir(dir)) // others may still be in it
	}
	return nil
}

// removeGroup waits for the kernel to let go of the last process.
func removeGroup(dir string) error {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(glance) {
		err := os.Remove(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
	}
}

func (l limiter) ids() []string {
	if len(l.bases) == 0 {
		return nil
	}
	return subdirectories(l.bases[0])
}

// groupMount is a mounted control group hierarchy.
type groupMount struct {
	dir  string // where it is mounted
	root string // which group of the hierarchy shows there
	path string // our own group in the hierarchy
}

// own is the directory of our own group, so that agents stay within what the
// server itself may use.
func (m groupMount) own() string {
	rel := strings.TrimPrefix(m.path, strings.TrimSuffix(m.root, "/"))
	if dir := filepath.Join(m.dir, rel); !strings.HasPrefix(rel, "/..") && has(dir, "cgroup.procs") {
		return dir
	}
	return m.dir
}

// delegated returns where groups below which others may lie can be made in v2:
// a group with processes of its own cannot pass controllers on, so it is beside
// our own group, or at the top.
func (m groupMount) delegated(name string) []string {
	dirs := []string{m.dir}
	if own := m.own(); own != m.dir {
		dirs = []string{filepath.Dir(own), m.dir}
	}
	for _, dir := range dirs {
		base := filepath.Join(dir, name)
		if err := delegate(dir); err != nil {
			continue
		}
		if err := os.MkdirAll(base, 0o755); err == nil && delegate(base) == nil {
			return []string{base}
		}
	}
	return nil
}

// groupMounts finds the hierarchies by controller, "v2" for the unified one.
func groupMounts() (map[string]groupMount, error) {
	own := map[string]string{}
	err := eachLine("/proc/self/cgroup", func(text string) {
		if part := strings.SplitN(text, ":", 3); len(part) == 3 {
			for name := range strings.SplitSeq(part[1], ",") {
				own[name] = part[2]
			}
		}
	})
	if err != nil {
		return nil, err
	}
	mounts := map[string]groupMount{}
	err = eachLine("/proc/self/mountinfo", func(text string) {
		left, right, ok := strings.Cut(text, " - ")
		from, to := strings.Fields(left), strings.Fields(right)
		if !ok || len(from) < 5 || len(to) < 3 {
			return
		}
		m := groupMount{dir: from[4], root: from[3]}
		switch to[0] {
		case "cgroup":
			for name := range strings.SplitSeq(to[2], ",") {
				m.path = own[name]
				mounts[name] = m
			}
		case "cgroup2":
			m.path = own[""]
			mounts["v2"] = m
		}
	})
	return mounts, err
}

// countsByNamespace says whether the kernel counts a user's processes in each
// user namespace for itself, as it does since 5.14.
func countsByNamespace() bool {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return false
	}
	var major, minor int
	_, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	return err == nil && (major > 5 || major == 5 && minor >= 14)
}

func eachLine(file string, do func(string)) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	s := bufio.NewScanner(f)
	for s.Scan() {
		do(s.Text())
	}
	return s.Err()
}

func groupPids(dir string) []int {
	var pids []int
	_ = eachLine(filepath.Join(dir, "cgroup.procs"), func(text string) { // no group, no pids
		if pid, err := strconv.Atoi(text); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	})
	return pids
}

// fields reads a file of lines "name number".
func fields(file string) map[string]int64 {
	out := map[string]int64{}
	_ = eachLine(file, func(text string) { // no file, no fields
		if name, value, ok := strings.Cut(text, " "); ok {
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				out[name] = n
			}
		}
	})
	return out
}

func number(file string) (int64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
}

func write(file, text string) error { return os.WriteFile(file, []byte(text), 0o600) }
