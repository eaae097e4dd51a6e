package main

import (
	"fmt"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/process"
)

// driverFlags choose the driver that runs gateways. Each driver brings its own flags.
type driverFlags struct {
	Runtime string        `help:"What runs gateways." enum:"process" default:"process"`
	Process process.Flags `embed:""`
}

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
	return map[string]driverKind{"process": f.Process}
}

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

// sandboxName returns what isolates agents, for people.
func (f driverFlags) sandboxName() string { return f.Process.Sandbox }

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
