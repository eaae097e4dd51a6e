package process

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// CheckIsolation returns why this machine cannot isolate gateways, or nil.
// Errors: *runtime.IsolationError, if it is that.
func (f Flags) CheckIsolation() error {
	d, err := f.openTemporary()
	if err != nil {
		return err
	}
	return d.CheckIsolation()
}

// openTemporary returns a driver that has tested this machine in a temporary directory.
func (f Flags) openTemporary() (*Driver, error) {
	dir, err := os.MkdirTemp("", "agento-doctor-*")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	return New(Settings{Dir: dir, Command: []string{"/bin/sh"}, Sandbox: f.Sandbox})
}

// Check checks how this machine can separate gateways from each other. To run without
// limits is allowed, so it is not a failure.
func (f Flags) Check() []runtime.Check {
	d, err := f.openTemporary()
	if err != nil {
		return []runtime.Check{{Name: "sandbox", State: err.Error()}}
	}
	sandbox := runtime.Check{Name: "sandbox", State: "bubblewrap", OK: true}
	if err := d.CheckIsolation(); err != nil {
		sandbox = runtime.Check{
			Name: "sandbox", State: fmt.Sprintf("serve starts no agents: %v", err),
			Fix: "install bubblewrap (Debian and Ubuntu: apt-get install bubblewrap), and allow it to make user namespaces if the server is not root",
		}
	}
	limits, noLimits := d.Limits()
	return []runtime.Check{
		sandbox,
		checkGVisor(),
		d.checkSleep(),
		newCheck("limits", limits, "agents have no memory limit", noLimits,
			"run as root, or delegate a cgroup to the server's user"),
		newCheck("CPU limits", limits, "an agent can use all processors, and slow down the others and the server", d.noCPULimits(),
			"run as root, or delegate a cgroup with the cpu controller to the server's user"),
		newCheck("/tmp limit", "each agent has its own", "an agent can use half of the machine's memory in /tmp and in /dev/shm", d.noTempLimit(),
			"install bubblewrap 0.7 or later"),
	}
}

// noCPULimits returns why the CPU time of agents is not limited; empty: it is.
func (d *Driver) noCPULimits() string {
	if reason := d.cgroup.reason(); reason != "" {
		return reason
	}
	id := identity.AgentID(".probe-" + rand.Text())
	dirs, err := d.cgroup.create(id, runtime.Limits{CPUs: 1})
	limited := err == nil && d.cgroup.limitsCPU(dirs)
	if err := errors.Join(err, d.cgroup.remove(d.cgroup.find(id, dirs))); err != nil {
		return err.Error()
	}
	if !limited {
		return "the control group has no cpu controller"
	}
	return ""
}

// noTempLimit returns why the temporary files of agents are not limited; empty: they are.
func (d *Driver) noTempLimit() string {
	b, err := d.probe()
	switch {
	case err != nil:
		return err.Error()
	case b.tempBytes == 0:
		return "bubblewrap has no option --size"
	}
	return ""
}

// checkGVisor checks whether --sandbox gvisor can be chosen. Not to have it is no failure.
func checkGVisor() runtime.Check {
	err := Flags{Sandbox: GVisor}.CheckIsolation()
	if missing := (*runtime.IsolationError)(nil); errors.As(err, &missing) {
		return runtime.Check{Name: "gvisor", State: "--sandbox gvisor cannot be chosen: " + missing.Missing, OK: true}
	}
	if err != nil {
		return runtime.Check{Name: "gvisor", State: err.Error()}
	}
	return runtime.Check{Name: "gvisor", State: "--sandbox gvisor can be chosen", OK: true}
}

// newCheck returns what is used, or, if there is a reason that it cannot be used,
// what follows from it and how to change it.
func newCheck(name, used, consequence, reason, fix string) runtime.Check {
	if reason == "" {
		return runtime.Check{Name: name, State: used, OK: true}
	}
	return runtime.Check{Name: name, State: consequence + ": " + reason, OK: true, Fix: fix}
}

// checkSleep checks whether gateways can be suspended or frozen. That they cannot is no failure.
func (d *Driver) checkSleep() runtime.Check {
	missing, frozen := (*runtime.SuspendError)(nil), (*runtime.SuspendError)(nil)
	switch err := d.withCRIU().CheckSuspend(); {
	case errors.As(err, &missing) && errors.As(d.CheckFreeze(), &frozen):
		return runtime.Check{Name: "sleep", State: "--sleep auto keeps agents awake: " + missing.Missing + "; " + frozen.Missing, OK: true, Fix: missing.Fix}
	case errors.As(err, &missing):
		return runtime.Check{Name: "sleep", State: "--sleep auto freezes agents, in memory: " + missing.Missing, OK: true, Fix: missing.Fix}
	case err != nil:
		return runtime.Check{Name: "sleep", State: err.Error()}
	}
	return runtime.Check{Name: "sleep", State: "--sleep auto can be chosen: criu suspends gateways", OK: true}
}

// withCRIU returns what CheckSuspend needs, with the criu of this machine.
func (d *Driver) withCRIU() *Driver {
	s := d.settings
	s.CRIU = DefaultCRIU()
	return &Driver{settings: s, criu: findCRIU(s), cgroup: d.cgroup, secrets: d.secrets}
}
