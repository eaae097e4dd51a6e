package process

import (
	"os"

	"agento.host/agento/internal/runtime"
)

// Check checks how this machine can separate gateways from each other. To run
// without a sandbox or without limits is allowed, so neither is a failure.
func (Flags) Check() []runtime.Check {
	dir, err := os.MkdirTemp("", "agento-doctor-*")
	if err != nil {
		return []runtime.Check{{Name: "sandbox", State: err.Error()}}
	}
	defer func() { _ = os.RemoveAll(dir) }()
	d, err := New(Settings{Dir: dir, Command: []string{"true"}})
	if err != nil {
		return []runtime.Check{{Name: "sandbox", State: err.Error()}}
	}
	sandbox, noSandbox := d.Sandbox()
	limits, noLimits := d.Limits()
	return []runtime.Check{
		newCheck("sandbox", sandbox, "agents run unsandboxed", noSandbox,
			"install bubblewrap (Debian and Ubuntu: apt-get install bubblewrap); serve --require-sandbox refuses to run without"),
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
