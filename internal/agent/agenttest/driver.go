package agenttest

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/fake"
)

// Driver is a fake driver that is controlled by the ids of agents.
type Driver struct{ *fake.Driver }

// Starts returns how often a gateway of an agent was started.
func (d Driver) Starts(id identity.AgentID) int { return d.Driver.Starts(string(id)) }

// Kill ends an agent's gateway with an exit code.
func (d Driver) Kill(id identity.AgentID, code int) { d.Driver.Kill(string(id), code) }

// KillForMemory ends an agent's gateway as the kernel does at the memory limit.
func (d Driver) KillForMemory(id identity.AgentID) { d.Driver.KillForMemory(string(id)) }

// ExitAfterStart makes the next n gateways of an agent end with a code at once.
func (d Driver) ExitAfterStart(id identity.AgentID, n, code int) {
	d.Driver.ExitAfterStart(string(id), n, code)
}

// Print adds a line to an agent's log.
func (d Driver) Print(id identity.AgentID, line string) { d.Driver.Print(string(id), line) }

// SetUsage sets what an agent's gateway uses.
func (d Driver) SetUsage(id identity.AgentID, memoryBytes int64, cpu time.Duration) {
	d.Driver.SetUsage(string(id), memoryBytes, cpu)
}

// Gateway returns the last gateway of an agent.
func (d Driver) Gateway(id identity.AgentID) *fake.Gateway { return d.Driver.Gateway(string(id)) }

// HookedDriver is a fake driver that calls Before at the beginning of Stop, Remove,
// Inspect and Home. Its error makes the call fail; a Stop happens nevertheless.
type HookedDriver struct {
	*fake.Driver
	Before func(method string) error
}

// FailingDriver returns a driver whose next calls of a method fail, as many as left
// says.
func FailingDriver(d Driver, method string) (driver HookedDriver, left *atomic.Int64) {
	left = &atomic.Int64{}
	return HookedDriver{d.Driver, func(called string) error {
		if called == method && left.Add(-1) >= 0 {
			return errors.New("the driver fails")
		}
		return nil
	}}, left
}

// Stop implements runtime.Driver.
func (d HookedDriver) Stop(ctx context.Context, place, id string, grace time.Duration) error {
	return errors.Join(d.Before("Stop"), d.Driver.Stop(ctx, place, id, grace))
}

// Remove implements runtime.Driver.
func (d HookedDriver) Remove(ctx context.Context, place, id string) error {
	if err := d.Before("Remove"); err != nil {
		return err
	}
	return d.Driver.Remove(ctx, place, id)
}

// Inspect implements runtime.Driver.
func (d HookedDriver) Inspect(ctx context.Context, place, id string) (runtime.State, error) {
	if err := d.Before("Inspect"); err != nil {
		return runtime.State{}, err
	}
	return d.Driver.Inspect(ctx, place, id)
}

// Home implements runtime.Driver.
func (d HookedDriver) Home(ctx context.Context, place, id string) (runtime.Home, error) {
	if err := d.Before("Home"); err != nil {
		return nil, err
	}
	return d.Driver.Home(ctx, place, id)
}
