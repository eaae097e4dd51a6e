package process

import (
	"fmt"
	"os"

	"agento.host/agento/internal/runtime"
)

// CheckIsolation returns why this machine cannot isolate gateways, or nil.
// Errors: *runtime.IsolationError, if it is that.
func (Flags) CheckIsolation() error {
	d, err := openTemporary()
	if err != nil {
		return err
	}
	return d.CheckIsolation()
}

// openTemporary returns a driver that has tested this machine in a temporary directory.
func openTemporary() (*Driver, error) {
	dir, err := os.MkdirTemp("", "agento-doctor-*")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	return New(Settings{Dir: dir, Command: []string{"/bin/sh"}})
}

// Check checks how this machine can separate gateways from each other. To run without
// limits is allowed, so it is not a failure.
func (Flags) Check() []runtime.Check {
	d, err := openTemporary()
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
		newCheck("limits", limits, "agents have no memory limit", noLimits,
			"run as root, or delegate a cgroup to the server's user"),
	}
}

// newCheck returns what is used, or, if there is a reason that it cannot be used,
// what follows from it and how to change it.
func newCheck(name, used, consequence, reason, fix string) runtime.Check {
	if reason == "" {
		return runtime.Check{Name: name, State: used, OK: true}
	}
	return runtime.Check{Name: name, State: consequence + ": " + reason, OK: true, Fix: fix}
}
