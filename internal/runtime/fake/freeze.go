package fake

import (
	"context"
	"fmt"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// CheckFreeze implements runtime.Freezer.
func (d *Driver) CheckFreeze() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.script.noFreeze == "" {
		return nil
	}
	return &runtime.SuspendError{Missing: d.script.noFreeze}
}

// Freeze implements runtime.Freezer.
func (d *Driver) Freeze(_ context.Context, place runtime.Place, id identity.AgentID) error {
	err := d.CheckFreeze()
	if err == nil {
		err = d.setFrozen(place, id, true)
	}
	if err != nil {
		return fmt.Errorf("freeze %s: %w", id, err)
	}
	return nil
}

// Thaw implements runtime.Freezer.
func (d *Driver) Thaw(_ context.Context, place runtime.Place, id identity.AgentID) error {
	if err := d.setFrozen(place, id, false); err != nil {
		return fmt.Errorf("thaw %s: %w", id, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.thaws[id]++
	return nil
}

func (d *Driver) setFrozen(place runtime.Place, id identity.AgentID, frozen bool) error {
	a := d.agent(id)
	if a == nil {
		return runtime.ErrNotRunning
	}
	a.op.Lock()
	defer a.op.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.running() == nil || a.place != place || a.frozen == frozen {
		return runtime.ErrNotRunning
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	next := &d.script.failThaw
	if frozen {
		next = &d.script.failFreeze
	}
	if err := next.next(); err != nil {
		return err
	}
	a.frozen = frozen
	return nil
}

// FailFreeze makes the next n calls of Freeze that would freeze a gateway return err.
func (d *Driver) FailFreeze(n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script.failFreeze = failures{left: n, err: err}
}

// FailThaw makes the next n calls of Thaw that would thaw a gateway return err.
func (d *Driver) FailThaw(n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script.failThaw = failures{left: n, err: err}
}

// SetNoFreeze sets why gateways cannot be frozen; empty: they can.
func (d *Driver) SetNoFreeze(why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script.noFreeze = why
}

// Thaws returns how often gateways of an agent were thawed.
func (d *Driver) Thaws(id identity.AgentID) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.thaws[id]
}
