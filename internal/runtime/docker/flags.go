package docker

import (
	"context"
	"errors"
	"fmt"
	"os"

	"agento.host/agento/internal/runtime"
)

// Flags are the command line flags of this driver.
type Flags struct {
	DockerHost       string `env:"AGENTO_DOCKER_HOST,DOCKER_HOST" help:"The container engine of --runtime docker: unix:///path of its socket, or tcp://host:port. Whoever reaches it is root on its machine." default:"unix:///var/run/docker.sock"`
	ContainerRuntime string `help:"What the container engine runs containers with, such as runsc. Empty: its default."`
	Image            string `help:"The image that agents in containers run, here and on pool servers. Empty: that of this version."`
}

// Open returns a driver with the flags' settings.
func (f Flags) Open(s runtime.Settings) (runtime.Driver, error) {
	return New(Settings{
		Installation: s.Installation, Dir: s.Dir, Host: f.DockerHost, Image: f.Image, Runtime: f.ContainerRuntime, Command: s.Command, Log: s.Log,
	})
}

// CheckIsolation returns why the engine cannot isolate gateways, or nil.
// Errors: *runtime.IsolationError, if it is that.
func (f Flags) CheckIsolation() error {
	return f.withDriver(func(d *Driver) error { return d.CheckIsolation() })
}

// withDriver calls do with a driver that has tested the engine, in a temporary directory.
func (f Flags) withDriver(do func(*Driver) error) error {
	dir, err := os.MkdirTemp("", "agento-doctor-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	d, err := New(Settings{Dir: dir, Host: f.DockerHost, Image: f.Image, Runtime: f.ContainerRuntime})
	if err != nil {
		return err
	}
	return do(d)
}

// Memory returns the memory of the machine that the engine runs on.
func (f Flags) Memory() (int64, error) {
	var total int64
	err := f.withDriver(func(d *Driver) error {
		ctx, cancel := context.WithTimeout(context.Background(), isolationTimeout)
		defer cancel()
		info, _, err := d.info(ctx)
		total = info.MemTotal
		return err
	})
	return total, err
}

// Check checks whether the engine can run gateways, and which of their limits it keeps.
func (f Flags) Check() []runtime.Check {
	var checks []runtime.Check
	err := f.withDriver(func(d *Driver) error {
		checks = d.check()
		return nil
	})
	if err != nil {
		return []runtime.Check{{Name: "container engine", State: err.Error()}}
	}
	return checks
}

func (d *Driver) check() []runtime.Check {
	ctx, cancel := context.WithTimeout(context.Background(), isolationTimeout)
	defer cancel()
	info, version, err := d.info(ctx)
	if err != nil {
		return []runtime.Check{{
			Name: "container engine", State: fmt.Sprintf("--runtime docker cannot be chosen: %v: %v", errNoAnswer, err), OK: true,
			Fix: "start a Docker engine or Podman's service, and name its socket with --docker-host",
		}}
	}
	engine := runtime.Check{Name: "container engine", State: fmt.Sprintf("version %s, API %s", info.ServerVersion, version), OK: true}
	if missing := (*runtime.IsolationError)(nil); errors.As(d.CheckIsolation(), &missing) {
		engine.State = "--runtime docker starts no agents: " + missing.Missing
	}
	return []runtime.Check{
		engine,
		limit("container memory limit", info.MemoryLimit, "an agent can use all memory of the machine"),
		limit("container process limit", info.PidsLimit, "an agent can start any number of processes"),
		limit("container CPU limit", info.CPUCfsQuota || info.CPUCfsPeriod, "an agent can use all processors"),
	}
}

// limit returns whether the engine keeps a limit. That it does not is no failure.
func limit(name string, kept bool, consequence string) runtime.Check {
	if kept {
		return runtime.Check{Name: name, State: "kept by the engine", OK: true}
	}
	return runtime.Check{Name: name, State: consequence, OK: true, Fix: "give the engine control groups with the controllers memory, pids and cpu"}
}
