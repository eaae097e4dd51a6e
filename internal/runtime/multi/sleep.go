package multi

import (
	"context"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// errElsewhere is why a gateway cannot be suspended that another server runs.
func errElsewhere() error {
	return &runtime.SuspendError{Missing: "its server can only let it stand still"}
}

// suspender returns the local driver, if it can suspend gateways.
func (d *Driver) suspender() (runtime.Suspender, error) {
	if s, ok := d.local.(runtime.Suspender); ok {
		return s, nil
	}
	return nil, errElsewhere()
}

// suspenderOf returns the local driver for a place of its own, if it can suspend gateways.
func (d *Driver) suspenderOf(place runtime.Place) (runtime.Suspender, error) {
	if server, _ := split(place); server != Local {
		return nil, errElsewhere()
	}
	return d.suspender()
}

// CheckSuspend implements runtime.Suspender.
func (d *Driver) CheckSuspend() error {
	s, err := d.suspender()
	if err != nil {
		return err
	}
	return s.CheckSuspend()
}

// Suspend implements runtime.Suspender.
func (d *Driver) Suspend(ctx context.Context, place runtime.Place, id identity.AgentID) error {
	s, err := d.suspenderOf(place)
	if err != nil {
		return err
	}
	return s.Suspend(ctx, place, id)
}

// Resume implements runtime.Suspender.
func (d *Driver) Resume(ctx context.Context, place runtime.Place, id identity.AgentID) error {
	s, err := d.suspenderOf(place)
	if err != nil {
		return runtime.ErrNoCheckpoint
	}
	return s.Resume(ctx, place, id)
}

// MoveToDisk implements runtime.Suspender.
func (d *Driver) MoveToDisk(ctx context.Context, place runtime.Place, id identity.AgentID) error {
	s, err := d.suspenderOf(place)
	if err != nil {
		return runtime.ErrNoCheckpoint
	}
	return s.MoveToDisk(ctx, place, id)
}

// AwaitDiscard implements runtime.Suspender.
func (d *Driver) AwaitDiscard(ctx context.Context, id identity.AgentID) error {
	s, err := d.suspender()
	if err != nil {
		return nil //nolint:nilerr // there is no checkpoint
	}
	return s.AwaitDiscard(ctx, id)
}

// DiskRoom implements runtime.Suspender.
func (d *Driver) DiskRoom(ctx context.Context) (int64, error) {
	s, err := d.suspender()
	if err != nil {
		return 0, nil //nolint:nilerr // nothing is ever there
	}
	return s.DiskRoom(ctx)
}

// Checkpoints implements runtime.Suspender.
func (d *Driver) Checkpoints(ctx context.Context) (runtime.CheckpointUse, error) {
	s, err := d.suspender()
	if err != nil {
		return runtime.CheckpointUse{}, nil //nolint:nilerr // there are none
	}
	return s.Checkpoints(ctx)
}

// CheckFreeze implements runtime.Freezer: it returns nil if gateways can be frozen on some server.
func (d *Driver) CheckFreeze() error { return d.checkAny(checkFreeze) }

func checkFreeze(driver runtime.Driver) error {
	f, ok := driver.(runtime.Freezer)
	if !ok {
		return errCannotFreeze()
	}
	return f.CheckFreeze()
}

func errCannotFreeze() error {
	return &runtime.SuspendError{Missing: "the server cannot let gateways stand still"}
}

func (d *Driver) freezerOf(ctx context.Context, place runtime.Place, id identity.AgentID) (runtime.Freezer, runtime.Place, error) {
	driver, inner, err := d.at(ctx, place, id)
	if err != nil {
		return nil, "", err
	}
	f, ok := driver.(runtime.Freezer)
	if !ok {
		return nil, "", errCannotFreeze()
	}
	return f, inner, f.CheckFreeze()
}

// Freeze implements runtime.Freezer.
func (d *Driver) Freeze(ctx context.Context, place runtime.Place, id identity.AgentID) error {
	f, inner, err := d.freezerOf(ctx, place, id)
	if err != nil {
		return err
	}
	return f.Freeze(ctx, inner, id)
}

// Thaw implements runtime.Freezer.
func (d *Driver) Thaw(ctx context.Context, place runtime.Place, id identity.AgentID) error {
	f, inner, err := d.freezerOf(ctx, place, id)
	if err != nil {
		return err
	}
	return f.Thaw(ctx, inner, id)
}
