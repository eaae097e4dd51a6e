package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// processStatus is /proc/PID/status.
type processStatus struct {
	pid    int
	fields map[string]string
}

// readStatus reads the status of a process. Errors: os.ErrNotExist, if it has ended.
func readStatus(pid int) (processStatus, error) {
	p := processStatus{pid: pid, fields: map[string]string{}}
	err := eachLine(procPath(pid, "status"), func(text string) {
		name, value, _ := strings.Cut(text, ":")
		p.fields[name] = strings.TrimSpace(value)
	})
	if errors.Is(err, unix.ESRCH) || err == nil && strings.HasPrefix(p.fields["State"], "Z") {
		err = os.ErrNotExist
	}
	return p, err
}

// exists reports whether the process still runs: what was read of one that has ended means
// nothing.
func (p processStatus) exists() bool { return isRunning(p.pid) }

// processChecks returns what every process of an agent must have.
func processChecks() []check {
	return []check{
		{"namespaces", checkNamespaces},
		{"user", checkUser},
		{"capabilities", checkCapabilities},
		{"privileges", func(_ examined, p processStatus) (state, wrong string) {
			if p.fields["NoNewPrivs"] != "1" {
				return "", "it can gain privileges"
			}
			return "none can be gained", ""
		}},
		{"system calls", func(_ examined, p processStatus) (state, wrong string) {
			if p.fields["Seccomp"] != "2" {
				return "", "there is no filter"
			}
			return "filtered", ""
		}},
		{"descriptors", checkDescriptors},
	}
}

// gvisorChecks returns what each of gVisor's own processes must have.
func gvisorChecks() []check {
	return []check{
		{"namespaces", checkNamespaces},
		{"user", checkUser},
		{"capabilities", func(_ examined, p processStatus) (state, wrong string) {
			theirs, err := os.Readlink(procPath(p.pid, "ns/user"))
			if err != nil {
				return "", err.Error()
			}
			if ours, err := os.Readlink("/proc/self/ns/user"); err != nil || ours == theirs {
				return "", "it has the user namespace of the server"
			}
			return "of its own user namespace, in gVisor", ""
		}},
		{"system calls", func(_ examined, p processStatus) (state, wrong string) {
			if p.fields["Seccomp"] != "2" {
				return "", "there is no filter"
			}
			return "those of gVisor", ""
		}},
	}
}

// gvisorProcesses returns gVisor's own processes below a shim: its kernel, and the one that
// opens files for it.
func gvisorProcesses(shim int) []int {
	return slices.DeleteFunc(processTree(shim), func(pid int) bool {
		line, err := os.ReadFile(procPath(pid, "cmdline"))
		return err != nil || !strings.HasPrefix(string(line), "runsc-")
	})
}

// checkNamespaces checks that a process has namespaces of its agent alone.
func checkNamespaces(e examined, p processStatus) (state, wrong string) {
	kinds := []string{"pid", "ipc", "uts", "mnt"}
	if _, err := os.Stat("/proc/self/ns/cgroup"); err == nil {
		kinds = append(kinds, "cgroup")
	}
	if e.record.Ports == (ports{}) { // else it was started by a version that gave it no network
		kinds = append(kinds, "net")
	}
	if os.Getuid() != 0 {
		kinds = append(kinds, "user")
	}
	for _, kind := range kinds {
		ns, err := os.Readlink(procPath(p.pid, "ns/"+kind))
		if err != nil {
			return "", err.Error()
		}
		if ours, err := os.Readlink("/proc/self/ns/" + kind); err != nil || ours == ns {
			return "", fmt.Sprintf("it has the %s namespace of the server", kind)
		}
		if owner, ok := e.owners[ns]; ok && owner != e.id {
			return "", fmt.Sprintf("it has the %s namespace of agent %s", kind, owner)
		}
		e.owners[ns] = e.id
	}
	return strings.Join(kinds, " "), ""
}

// checkUser checks that a process has a user without permissions: not root, and if the
// server is root, not the server's and in no group of others. Else the user namespace
// takes them away.
func checkUser(_ examined, p processStatus) (state, wrong string) {
	ids := strings.Fields(p.fields["Uid"])
	groups := strings.Fields(p.fields["Gid"])
	if len(ids) != 4 || len(groups) != 4 {
		return "", "its user is not known"
	}
	if slices.Contains(ids, "0") || slices.Contains(groups, "0") {
		return "", "it is root"
	}
	if os.Getuid() != 0 {
		return ids[0] + ", in a user namespace", ""
	}
	if len(slices.Compact(ids)) != 1 || len(slices.Compact(groups)) != 1 {
		return "", "it has more than one user or group"
	}
	if p.fields["Groups"] != "" {
		return "", "it is in the groups " + p.fields["Groups"]
	}
	return ids[0], ""
}

func checkCapabilities(_ examined, p processStatus) (state, wrong string) {
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if strings.Trim(p.fields[set], "0") != "" || p.fields[set] == "" {
			return "", set + " is " + p.fields[set]
		}
	}
	return "none", ""
}

// checkDescriptors checks that a process has no file of outside of its sandbox open, and no
// socket or pipe of the server. Its output goes to the log, and its sandbox holds the lock
// file.
func checkDescriptors(e examined, p processStatus) (state, wrong string) {
	mounts := map[string]bool{}
	err := eachLine(procPath(p.pid, "mountinfo"), func(text string) {
		id, _, _ := strings.Cut(text, " ")
		mounts[id] = true
	})
	entries, listErr := os.ReadDir(procPath(p.pid, "fd"))
	if err := errors.Join(err, listErr); err != nil {
		return "", err.Error()
	}
	ours := openObjects()
	lock, err := identify(e.lock)
	if err != nil {
		return "", err.Error()
	}
	for _, entry := range entries {
		path := procPath(p.pid, "fd/"+entry.Name())
		target, err := os.Readlink(path)
		if err != nil {
			continue // closed meanwhile
		}
		if fd, err := strconv.Atoi(entry.Name()); err != nil || fd <= 2 {
			continue
		}
		switch id, err := identify(path); {
		case err == nil && id == lock:
		case ours[target]:
			return "", fmt.Sprintf("descriptor %s is the server's %s", entry.Name(), target)
		case strings.HasPrefix(target, "/") && !strings.HasPrefix(target, "/memfd:") && !mounts[mountOf(p.pid, entry.Name())]:
			return "", fmt.Sprintf("descriptor %s leads outside: %s", entry.Name(), target)
		}
	}
	return "its own", ""
}

// mountOf returns the id of the mount of a descriptor.
func mountOf(pid int, fd string) (id string) {
	_ = eachLine(procPath(pid, "fdinfo/"+fd), func(text string) { // empty if it is closed
		if value, ok := strings.CutPrefix(text, "mnt_id:"); ok {
			id = strings.TrimSpace(value)
		}
	})
	return id
}

// openObjects returns the sockets and pipes that this process has open.
func openObjects() map[string]bool {
	all := map[string]bool{}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && (strings.HasPrefix(target, "socket:") || strings.HasPrefix(target, "pipe:")) {
			all[target] = true
		}
	}
	return all
}

// groupMembers returns the processes in a directory of a control group and below it.
func groupMembers(dir string) []int {
	var all []int
	_ = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil || filepath.Base(path) != "cgroup.procs" {
			return nil //nolint:nilerr // a group below has just ended
		}
		return eachLine(path, func(text string) {
			if pid, err := strconv.Atoi(text); err == nil {
				all = append(all, pid)
			}
		})
	})
	return all
}

// groupLimits describes the limits that a directory of a control group sets.
func groupLimits(dir string) []string {
	var limits []string
	for _, l := range []struct{ file, name string }{{"memory.max", "memory"}, {"memory.limit_in_bytes", "memory"}, {"pids.max", "processes"}} {
		data, err := os.ReadFile(filepath.Join(dir, l.file))
		if err != nil {
			continue
		}
		const unlimited = 1 << 62 // v1 has nearly the largest number
		if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && n < unlimited {
			limits = append(limits, fmt.Sprintf("%s %d", l.name, n))
		}
	}
	return limits
}
