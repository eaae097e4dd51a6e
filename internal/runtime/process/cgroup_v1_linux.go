package process

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// cgroupV1 uses a hierarchy for each controller.
type cgroupV1 struct{ groupDirs }

// newCgroupV1 uses those controllers that are mounted. The groups are below our own,
// so that agents stay within the limits of the server itself.
func newCgroupV1(mounts map[string]cgroupMount, name string) cgroupV1 {
	var c cgroupV1
	for _, controller := range []string{"memory", "pids", "cpuacct", "cpu", "freezer"} {
		m, ok := mounts[controller]
		if !ok {
			continue
		}
		// Some controllers are mounted together.
		if parent := filepath.Join(m.ownGroup(), name); !slices.Contains(c.parents, parent) {
			c.parents = append(c.parents, parent)
		}
	}
	return c
}

func (cgroupV1) kind() string { return "cgroup v1" }

func (c cgroupV1) create(id identity.AgentID, limits runtime.Limits) ([]string, error) {
	return c.groupDirs.create(id, limits,
		func(string) error { return nil }, // controllers need not be passed on
		func(dir string) error { return c.setLimits(dir, limits) })
}

func (cgroupV1) setLimits(dir string, limits runtime.Limits) error {
	var err error
	if limits.MemoryBytes > 0 && fileExists(dir, "memory.limit_in_bytes") {
		bytes := strconv.FormatInt(limits.MemoryBytes, 10)
		err = writeFile(dir, "memory.limit_in_bytes", bytes)
		// The sum of memory and swap. The file exists if the kernel counts swap.
		_ = writeFile(dir, "memory.memsw.limit_in_bytes", bytes)
	}
	return errors.Join(err, limitProcesses(dir, limits.Processes))
}

func (cgroupV1) usage(dirs []string) (usage, error) {
	var u usage
	if len(dirs) == 0 {
		return u, errNoGroup
	}
	for _, dir := range dirs {
		if fileExists(dir, "memory.usage_in_bytes") {
			total, err := readNumber(dir, "memory.usage_in_bytes")
			if err != nil {
				return u, err
			}
			stat := readCounters(dir, "memory.stat")
			u.memory = total - stat["total_inactive_file"] - stat["total_active_file"]
		}
		if ns, err := readNumber(dir, "cpuacct.usage"); err == nil {
			u.cpu = time.Duration(ns)
		}
	}
	return countProcesses(u, dirs[0])
}

// freezerState is the file of the freezer controller.
const freezerState = "freezer.state"

func (cgroupV1) freezes(dirs []string) bool { return dirWith(dirs, freezerState) != "" }

func (cgroupV1) setFrozen(dirs []string, frozen bool) error {
	state := "THAWED"
	if frozen {
		state = "FROZEN"
	}
	return writeInto(dirs, freezerState, state)
}

func (cgroupV1) isFrozen(dirs []string) bool {
	state, err := os.ReadFile(filepath.Join(dirWith(dirs, freezerState), freezerState))
	return err == nil && strings.TrimSpace(string(state)) == "FROZEN"
}

func (cgroupV1) reclaim(dirs []string) error {
	return writeInto(dirs, "memory.force_empty", "0")
}

func (cgroupV1) oomKilled(dirs []string) bool {
	for _, dir := range dirs {
		if readCounters(dir, "memory.oom_control")["oom_kill"] > 0 {
			return true
		}
	}
	return false
}
