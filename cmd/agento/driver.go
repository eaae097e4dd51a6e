package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"

	"agento.host/agento/internal/openclaw/install"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/docker"
	"agento.host/agento/internal/runtime/image"
	"agento.host/agento/internal/runtime/process"
)

// driverFlags choose the driver that runs gateways. Each driver brings its own flags.
type driverFlags struct {
	Runtime string        `help:"What runs gateways: process, as processes of this machine in a sandbox; docker, in containers of a Docker engine or of Podman." enum:"process,docker" default:"process"`
	Process process.Flags `embed:""`
	Docker  docker.Flags  `embed:""`
}

// runtimeDocker is the value of --runtime with which agents run in containers.
const runtimeDocker = "docker"

// driverKind makes and checks one kind of driver. The flags of each driver implement
// it.
type driverKind interface {
	Open(s runtime.Settings) (runtime.Driver, error)
	Check() []runtime.Check
	// CheckIsolation returns nil if this machine can isolate gateways.
	CheckIsolation() error
	// Memory returns the memory of the machine that gateways share with the server; 0: they
	// share none.
	Memory() (int64, error)
}

// kinds returns the drivers by the values of --runtime.
func (f driverFlags) kinds() map[string]driverKind {
	inContainers := f.Docker
	inContainers.Image = f.image()
	return map[string]driverKind{"process": f.Process, runtimeDocker: inContainers}
}

// image returns the image that agents in containers run, here and on pool servers.
func (f driverFlags) image() string { return cmp.Or(f.Docker.Image, image.DefaultReference) }

func (f driverFlags) kind() (driverKind, error) {
	kind, ok := f.kinds()[f.Runtime]
	if !ok { // the enum of the flag prevents it
		return nil, fmt.Errorf("--runtime: there is no driver %q", f.Runtime)
	}
	return kind, nil
}

func (f driverFlags) open(s runtime.Settings) (runtime.Driver, error) {
	kind, err := f.kind()
	if err != nil {
		return nil, err
	}
	return kind.Open(s)
}

// checkIsolation returns why this machine cannot isolate gateways, or nil.
func (f driverFlags) checkIsolation() error {
	kind, err := f.kind()
	if err != nil {
		return err
	}
	return kind.CheckIsolation()
}

// command returns what starts a gateway, and what it may read of this machine. The runtime of agents
// is installed if they run on this machine; an image has its own.
func (f serveFlags) command(ctx context.Context, t *terminal) (command, readOnly []string, err error) {
	if f.Runtime == runtimeDocker {
		return image.Runtime().Command(f.Lean), nil, nil
	}
	openClaw, err := install.Install(ctx, install.Settings{Dir: f.RuntimeDir, Progress: t.err})
	if err != nil {
		return nil, nil, fmt.Errorf("install the agent runtime: %w", err)
	}
	return openClaw.Command(f.Lean), openClaw.Dirs, nil
}

// containersDir is the directory of the data directory with the records of agents that run in containers.
const containersDir = "containers"

// driverDir returns what the driver stores in. Homes of agents that run in containers are in the engine.
func (f serveFlags) driverDir() string {
	if f.Runtime == runtimeDocker {
		return filepath.Join(f.Data, containersDir)
	}
	return filepath.Join(f.Data, agentsDir)
}

// sandboxName returns what isolates agents, for people.
func (f driverFlags) sandboxName() string {
	if f.Runtime == runtimeDocker {
		return "containers"
	}
	return f.Process.Sandbox
}

// minReserve is the least memory that is left to the server and the machine.
const minReserve = 512 << 20

// memory returns what all gateways may use together; 0: any.
func (f serveFlags) memory() (int64, error) {
	if f.Memory > 0 {
		return f.Memory << 20, nil
	}
	return f.machineMemory()
}

// machineMemory returns what the gateways of a driver may use together without --memory.
func (f driverFlags) machineMemory() (int64, error) {
	kind, err := f.kind()
	if err != nil {
		return 0, err
	}
	total, err := kind.Memory()
	if err != nil {
		return 0, fmt.Errorf("find out how much memory there is: %w: set it with --memory", err)
	}
	if total == 0 {
		return 0, nil
	}
	return max(total-max(total/8, minReserve), 1), nil
}

// limits returns the limits of each gateway.
func (f serveFlags) limits() runtime.Limits {
	return runtime.Limits{
		MemoryBytes: f.AgentMemory << 20, Processes: f.AgentProcesses, CPUs: f.AgentCPUs, CPUWeight: f.AgentCPUWeight,
		DiskBytes: f.AgentDisk << 20, Files: f.AgentFiles,
	}
}
