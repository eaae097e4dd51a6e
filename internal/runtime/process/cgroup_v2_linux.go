package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// cgroupV2 uses the one hierarchy of all controllers.
type cgroupV2 struct{ groupDirs }

// delegatedGroup creates the group in which the groups of agents are created. In v2 a
// group that contains processes cannot pass controllers on to groups below it.
// Therefore it is beside our own group, or at the top of the hierarchy.
func delegatedGroup(m cgroupMount, name string) (dir string, ok bool) {
	parents := []string{m.dir}
	if own := m.ownGroup(); own != m.dir {
		parents = []string{filepath.Dir(own), m.dir}
	}
	for _, parent := range parents {
		dir := filepath.Join(parent, name)
		if err := passOnControllers(parent); err != nil {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err == nil && passOnControllers(dir) == nil {
			return dir, true
		}
	}
	return "", false
}

// passOnControllers enables the controllers in the groups below dir.
func passOnControllers(dir string) error {
	if err := writeFile(dir, "cgroup.subtree_control", "+memory +pids"); err != nil {
		return fmt.Errorf("pass on controllers: %w", err)
	}
	_ = writeFile(dir, "cgroup.subtree_control", "+cpu") // cpu.stat has the times without it
	return nil
}

func (cgroupV2) kind() string { return "cgroup v2" }

func (c cgroupV2) create(id identity.AgentID, limits runtime.Limits) ([]string, error) {
	return c.groupDirs.create(id, limits, passOnControllers, func(dir string) error { return c.setLimits(dir, limits) })
}

func (cgroupV2) setLimits(dir string, limits runtime.Limits) error {
	var err error
	if limits.MemoryBytes > 0 && fileExists(dir, "memory.max") {
		bytes := strconv.FormatInt(limits.MemoryBytes, 10)
		err = writeFile(dir, "memory.max", bytes)
		// As much swap as memory, so that a frozen agent can be paged out completely.
		_ = writeFile(dir, "memory.swap.max", bytes)
	}
	return errors.Join(err, limitProcesses(dir, limits.Processes))
}

func (cgroupV2) usage(dirs []string) (usage, error) {
	var u usage
	if len(dirs) == 0 {
		return u, errNoGroup
	}
	for _, dir := range dirs {
		if fileExists(dir, "memory.current") {
			total, err := readNumber(dir, "memory.current")
			if err != nil {
				return u, err
			}
			stat := readCounters(dir, "memory.stat")
			u.memory = total - stat["inactive_file"] - stat["active_file"]
		}
		if us, ok := readCounters(dir, "cpu.stat")["usage_usec"]; ok {
			u.cpu = time.Duration(us) * time.Microsecond
		}
	}
	return countProcesses(u, dirs[0])
}

// freezeFile is the file that freezes a group.
const freezeFile = "cgroup.freeze"

func (cgroupV2) freezes(dirs []string) bool { return dirWith(dirs, freezeFile) != "" }

func (cgroupV2) setFrozen(dirs []string, frozen bool) error {
	state := "0"
	if frozen {
		state = "1"
	}
	return writeInto(dirs, freezeFile, state)
}

func (cgroupV2) isFrozen(dirs []string) bool {
	return readCounters(dirWith(dirs, freezeFile), "cgroup.events")["frozen"] == 1
}

func (cgroupV2) reclaim(dirs []string) error {
	const file = "memory.reclaim"
	dir := dirWith(dirs, file)
	used, err := readNumber(dir, "memory.current")
	if err != nil {
		return err
	}
	if err := writeInto(dirs, file, strconv.FormatInt(used, 10)); !errors.Is(err, unix.EAGAIN) { // less could be given
		return err
	}
	return nil
}

func (cgroupV2) oomKilled(dirs []string) bool {
	for _, dir := range dirs {
		if readCounters(dir, "memory.events")["oom_kill"] > 0 {
			return true
		}
	}
	return false
}
