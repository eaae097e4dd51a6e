package process

import (
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

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// probeCgroup returns the control groups that this process can use. The groups of
// the agents of a directory are in one group, whose name comes from shortName.
func probeCgroup(name string) cgroup {
	mounts, err := findCgroupMounts("/proc/self/cgroup", "/proc/self/mountinfo")
	if err != nil {
		return noCgroup{cause: err.Error()}
	}
	c := chooseCgroup(mounts, "agento-"+name)
	if c == nil {
		return noCgroup{cause: "this machine does not let us create control groups"}
	}
	if err := tryCgroup(c); err != nil {
		return noCgroup{cause: err.Error()}
	}
	return c
}

// chooseCgroup returns nil if no control group can be created. The memory controller
// decides the version: on machines that mount both, v2 has no controllers.
func chooseCgroup(mounts map[string]cgroupMount, name string) cgroup {
	if _, ok := mounts["memory"]; ok {
		return newCgroupV1(mounts, name)
	}
	if m, ok := mounts[unifiedHierarchy]; ok {
		if parent, ok := delegatedGroup(m, name); ok {
			return cgroupV2{groupDirs{parents: []string{parent}}}
		}
	}
	return nil
}

// tryCgroup creates a group, moves a process into it and removes it.
func tryCgroup(c cgroup) error {
	id := identity.AgentID(".probe-" + rand.Text())
	dirs, err := c.create(id, runtime.Limits{MemoryBytes: 1 << 30, Processes: 100, CPUs: 1})
	if err == nil {
		err = tryJoining(dirs)
	}
	return errors.Join(err, c.remove(c.find(id, dirs)))
}

// tryJoining joins a group as a shim does: the permission to create a group does not
// include the permission to move a process into it.
func tryJoining(dirs []string) error {
	const script = `for f; do echo $$ >"$f" || exit 1; done`
	out, err := exec.Command("/bin/sh", append([]string{"-c", script, "sh"}, joinFiles(dirs)...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("enter control group: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// groupDirs is the part that v1 and v2 share. The group of an agent has a directory
// in each parent.
type groupDirs struct{ parents []string }

// create makes the directories of a group. prepare is called for each parent, and
// limit, for the limits that v1 and v2 have differently, for each new directory.
func (g groupDirs) create(id identity.AgentID, limits runtime.Limits, prepare, limit func(dir string) error) (dirs []string, err error) {
	for _, parent := range g.parents {
		dir := filepath.Join(parent, string(id))
		err := createGroup(parent, dir, prepare)
		for range 10 {
			if !errors.Is(err, fs.ErrNotExist) {
				break
			}
			err = createGroup(parent, dir, prepare) // remove has just deleted the empty parent
		}
		if err == nil {
			limitCPU(dir, limits)
			err = limit(dir)
		}
		if err != nil {
			return nil, fmt.Errorf("create control group: %w", err)
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

func createGroup(parent, dir string, prepare func(parent string) error) error {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	if err := prepare(parent); err != nil {
		return err
	}
	limitParentCPU(parent)
	// A new directory, so that the counters begin at zero.
	if err := removeGroup(dir); err != nil {
		return err
	}
	return os.Mkdir(dir, 0o755)
}

func (g groupDirs) find(id identity.AgentID, recorded []string) []string {
	out := slices.Clone(recorded)
	for _, parent := range g.parents {
		if dir := filepath.Join(parent, string(id)); !slices.Contains(out, dir) {
			out = append(out, dir)
		}
	}
	return out
}

func (g groupDirs) ids() []identity.AgentID {
	if len(g.parents) == 0 {
		return nil
	}
	return agentDirs(g.parents[0])
}

func (groupDirs) reason() string { return "" }

func (groupDirs) limitsCPU(dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { _, ok := readCores(dir); return ok })
}

func (groupDirs) pids(dirs []string) []int {
	var pids []int
	for _, dir := range dirs {
		pids = append(pids, groupPids(dir)...)
	}
	return pids
}

func (groupDirs) forbidForks(dirs []string) {
	for _, dir := range dirs {
		if fileExists(dir, "pids.max") {
			_ = writeFile(dir, "pids.max", "0") // without it, killing again and again works too
		}
	}
}

// dirWith returns the first of the directories that has a file; empty if none has.
func dirWith(dirs []string, file string) string {
	for _, dir := range dirs {
		if fileExists(dir, file) {
			return dir
		}
	}
	return ""
}

// writeInto writes to a file that exactly one of the directories of a group has.
func writeInto(dirs []string, file, text string) error {
	dir := dirWith(dirs, file)
	if dir == "" {
		return errNoGroup
	}
	return writeFile(dir, file, text)
}

// remove also deletes the parent when it was the last group.
func (groupDirs) remove(dirs []string) error {
	for _, dir := range dirs {
		if err := removeGroup(dir); err != nil {
			return fmt.Errorf("remove control group: %w", err)
		}
		_ = os.Remove(filepath.Dir(dir)) // fails while it contains other groups
	}
	return nil
}

// removeGroup deletes the directory of a group. It waits until the kernel has removed
// the last process from it.
func removeGroup(dir string) error {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(pollInterval) {
		err := os.Remove(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
	}
}

// limitProcesses sets pids.max, which v1 and v2 have alike, in a directory that has
// it.
func limitProcesses(dir string, limit int64) error {
	if limit == 0 || !fileExists(dir, "pids.max") {
		return nil
	}
	return writeFile(dir, "pids.max", strconv.FormatInt(limit+overheadProcesses, 10))
}

// countProcesses completes a measurement. It fails if the group is empty.
func countProcesses(u usage, dir string) (usage, error) {
	u.processes = int64(len(groupPids(dir)))
	if u.processes == 0 {
		return u, errors.New("no process in the control group")
	}
	u.memory = max(u.memory, 0)
	return u, nil
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

// readCounters reads a file of lines "name number". A missing file has none.
func readCounters(dir, file string) map[string]int64 {
	out := map[string]int64{}
	_ = eachLine(filepath.Join(dir, file), func(text string) {
		if name, value, ok := strings.Cut(text, " "); ok {
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				out[name] = n
			}
		}
	})
	return out
}

func readNumber(dir, file string) (int64, error) {
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
}

func writeFile(dir, file, text string) error {
	return os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600)
}
