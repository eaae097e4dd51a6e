package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// Examine implements runtime.Examiner.
func (d *Driver) Examine(ctx context.Context) ([]runtime.Examination, error) {
	return Examine(ctx, d.settings.Dir, d.settings.NoSandbox)
}

// Examine checks what the processes of each gateway have that runs for a directory of
// agents. It needs no driver and changes nothing. It must run as the server's user. With
// development, gateways are promised no isolation.
func Examine(ctx context.Context, dir string, development bool) ([]runtime.Examination, error) {
	var all []runtime.Examination
	owners := map[string]identity.AgentID{} // of namespaces
	err := eachAgent(dir, func(a agent) error {
		r, err := a.record()
		if err != nil {
			return err
		}
		shim, ok := a.readShimFile("pid", r)
		if !ok || !isShim(shim, r.Nonce) {
			return nil
		}
		if !r.Sandboxed {
			all = append(all, runtime.Examination{ID: a.id, Checks: []runtime.Check{{Name: "sandbox", State: "none", OK: development}}})
			return nil
		}
		e := examined{id: a.id, record: r, lock: a.path("lock"), owners: owners}
		checks, err := e.await(ctx, shim)
		if err == nil && isShim(shim, r.Nonce) { // else it has ended meanwhile
			all = append(all, runtime.Examination{ID: a.id, Checks: checks})
		}
		return err
	})
	return all, err
}

// sandboxTimeout is how long a gateway that has just been started may take until its
// processes are in a sandbox and have given their permissions away.
const sandboxTimeout = 2 * time.Second

// await examines the gateway below a shim. A check that fails is repeated for a while: a
// sandbox may be being made.
func (e examined) await(ctx context.Context, shim int) ([]runtime.Check, error) {
	for deadline := time.Now().Add(sandboxTimeout); ; {
		e.findProcesses(shim)
		checks := e.examine()
		good := !slices.ContainsFunc(checks, func(c runtime.Check) bool { return !c.OK })
		if good || time.Now().After(deadline) {
			return checks, nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// findProcesses finds the processes of the agent below a shim, and those that are neither
// in the sandbox nor make it.
func (e *examined) findProcesses(shim int) {
	e.pids, e.outside = nil, nil
	makers := append(children(shim), shim) // bubblewrap
	for _, pid := range processTree(shim) {
		switch n := pidInside(pid); {
		case n > 1:
			e.pids = append(e.pids, pid)
		case n == 0 && isRunning(pid) && !slices.Contains(makers, pid):
			e.outside = append(e.outside, pid)
		}
	}
	if gvisor := gvisorProcesses(shim); len(gvisor) > 0 {
		e.gvisor, e.pids = true, gvisor
	}
}

// examined is a gateway that is being examined.
type examined struct {
	id            identity.AgentID
	record        record
	pids, outside []int
	gvisor        bool                        // pids are gVisor's own processes: the agent's are its threads
	lock          string                      // the path of its lock file
	owners        map[string]identity.AgentID // of the namespaces that were seen before
}

// check is one thing that every process of an agent must have.
type check struct {
	name string
	// of returns what a process has, and what is wrong with that; empty: nothing.
	of func(e examined, p processStatus) (state, wrong string)
}

// examine returns the results of all checks of a gateway. A check fails if one process
// fails it.
func (e examined) examine() []runtime.Check {
	results := []runtime.Check{e.checkProcesses()}
	checks := processChecks()
	if e.gvisor {
		checks = gvisorChecks()
	}
	for _, c := range checks {
		results = append(results, e.run(c))
	}
	return append(results, e.checkGroups())
}

func (e examined) checkProcesses() runtime.Check {
	c := runtime.Check{Name: "sandbox", State: fmt.Sprintf("%d processes", len(e.pids)), OK: true}
	switch {
	case len(e.outside) > 0:
		c.State, c.OK = fmt.Sprintf("processes outside of it: %v", e.outside), false
	case len(e.pids) == 0:
		c.State, c.OK = "no process is in it", false
	}
	return c
}

func (e examined) run(c check) runtime.Check {
	result := runtime.Check{Name: c.name, OK: true}
	for _, pid := range e.pids {
		p, err := readStatus(pid)
		if errors.Is(err, os.ErrNotExist) {
			continue // it has ended
		}
		state, wrong := "", ""
		if err != nil {
			wrong = err.Error()
		} else if state, wrong = c.of(e, p); !p.exists() {
			continue
		}
		if wrong != "" {
			return runtime.Check{Name: c.name, State: fmt.Sprintf("process %d: %s", pid, wrong)}
		}
		result.State = state
	}
	return result
}

// checkGroups checks that the processes are in the control group of the record and that it
// limits them. A machine without control groups promises none.
func (e examined) checkGroups() runtime.Check {
	c := runtime.Check{Name: "control group", OK: true}
	if len(e.record.Groups) == 0 {
		c.State = "none: the server watches the memory"
		return c
	}
	var limits []string
	for _, dir := range e.record.Groups {
		members := groupMembers(dir)
		for _, pid := range e.pids {
			if p, err := readStatus(pid); err == nil && !slices.Contains(members, pid) && p.exists() {
				c.State, c.OK = fmt.Sprintf("process %d is not in %s", pid, dir), false
				return c
			}
		}
		limits = append(limits, groupLimits(dir)...)
	}
	if c.State = strings.Join(limits, ", "); c.State == "" {
		c.State = "no limits"
	}
	if e.record.MemoryLimit > 0 && !slices.ContainsFunc(limits, func(l string) bool { return strings.HasPrefix(l, "memory ") }) {
		c.State, c.OK = "it does not limit the memory", false
	}
	return c
}
