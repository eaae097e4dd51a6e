package process

import (
	"errors"
	"path/filepath"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// cgroup enforces and measures what agents use, with control groups of the Linux
// kernel. Each agent has one group. A group is a list of directories: one in v2, one
// for each controller in v1. The implementations are cgroupV1, cgroupV2 and noCgroup.
type cgroup interface {
	// kind returns "cgroup v1", "cgroup v2" or "watch", which is noCgroup: then
	// Driver.Run enforces memory limits.
	kind() string
	// reason returns why there are no control groups; empty if there are.
	reason() string
	// limitsCPU reports whether a group limits CPU time.
	limitsCPU(dirs []string) bool
	// create makes an empty group with limits and returns its directories. A group
	// of the same agent that exists is replaced; it must be empty.
	create(id identity.AgentID, limits runtime.Limits) (dirs []string, err error)
	// find returns the directories of an agent's group: the recorded ones, and
	// those that create would make, whether or not they exist.
	find(id identity.AgentID, recorded []string) []string
	// ids lists the agents that have a group.
	ids() []identity.AgentID
	// pids lists the processes in a group. In v1 a process is listed once for each
	// directory.
	pids(dirs []string) []int
	// usage measures the processes in a group. It fails if the group is empty.
	usage(dirs []string) (usage, error)
	// oomKilled reports whether the kernel has killed a process of the group
	// because of the memory limit.
	oomKilled(dirs []string) bool
	// forbidForks stops the processes of a group from creating more, as far as
	// possible.
	forbidForks(dirs []string)
	// freezes reports whether the processes of a group can be frozen.
	freezes(dirs []string) bool
	// setFrozen lets all processes of a group stand still, or go on, which takes a moment.
	setFrozen(dirs []string, frozen bool) error
	// isFrozen reports whether all processes of a group stand still.
	isFrozen(dirs []string) bool
	// reclaim gives the memory of a group to the swap, as far as that is possible.
	reclaim(dirs []string) error
	// remove deletes a group whose processes have ended.
	remove(dirs []string) error
}

// usage is what the processes of an agent use.
type usage struct {
	memory    int64
	cpu       time.Duration
	processes int64
}

// joinFiles returns the files that a process writes its pid to when it joins a
// group.
func joinFiles(dirs []string) []string {
	files := make([]string, len(dirs))
	for i, dir := range dirs {
		files[i] = filepath.Join(dir, "cgroup.procs")
	}
	return files
}

var errNoGroup = errors.New("no control group")

// noCgroup is the cgroup of a machine without usable control groups.
type noCgroup struct{ cause string }

func (noCgroup) kind() string     { return "watch" }
func (c noCgroup) reason() string { return c.cause }

func (noCgroup) limitsCPU([]string) bool                                   { return false }
func (noCgroup) create(identity.AgentID, runtime.Limits) ([]string, error) { return nil, nil }
func (noCgroup) find(_ identity.AgentID, recorded []string) []string       { return recorded }
func (noCgroup) ids() []identity.AgentID                                   { return nil }
func (noCgroup) pids([]string) []int                                       { return nil }
func (noCgroup) usage([]string) (usage, error)                             { return usage{}, errNoGroup }
func (noCgroup) oomKilled([]string) bool                                   { return false }
func (noCgroup) forbidForks([]string)                                      {}
func (noCgroup) freezes([]string) bool                                     { return false }
func (noCgroup) setFrozen([]string, bool) error                            { return errNoGroup }
func (noCgroup) isFrozen([]string) bool                                    { return false }
func (noCgroup) reclaim([]string) error                                    { return errNoGroup }
func (noCgroup) remove([]string) error                                     { return nil }
