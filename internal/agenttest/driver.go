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

// HookedDriver is a fake driver that calls Before at the beginning of Stop, Remove,
// Inspect and Home. Its error makes the call fail; a Stop happens nevertheless.
type HookedDriver struct {
	*fake.Driver
	Before func(method string) error
}

// FailingDriver returns a driver whose next calls of a method fail, as many as left
// says.
func FailingDriver(d *fake.Driver, method string) (driver HookedDriver, left *atomic.Int64) {
	left = &atomic.Int64{}
	return HookedDriver{d, func(called string) error {
		if called == method && left.Add(-1) >= 0 {
			return errors.New("the driver fails")
		}
		return nil
	}}, left
}

// Stop implements runtime.Driver.
func (d HookedDriver) Stop(ctx context.Context, place runtime.Place, id identity.AgentID, grace time.Duration) error {
	return errors.Join(d.Before("Stop"), d.Driver.Stop(ctx, place, id, grace))
}

// Remove implements runtime.Driver.
func (d HookedDriver) Remove(ctx context.Context, place runtime.Place, id identity.AgentID) error {
	if err := d.Before("Remove"); err != nil {
		return err
	}
	return d.Driver.Remove(ctx, place, id)
}

// Inspect implements runtime.Driver.
func (d HookedDriver) Inspect(ctx context.Context, place runtime.Place, id identity.AgentID) (runtime.State, error) {
	if err := d.Before("Inspect"); err != nil {
		return runtime.State{}, err
	}
	return d.Driver.Inspect(ctx, place, id)
}

// Home implements runtime.Driver.
func (d HookedDriver) Home(ctx context.Context, place runtime.Place, id identity.AgentID) (runtime.Home, error) {
	if err := d.Before("Home"); err != nil {
		return nil, err
	}
	return d.Driver.Home(ctx, place, id)
}
