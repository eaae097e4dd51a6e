package fake

import (
	"context"
	"fmt"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// CheckSuspend implements runtime.Suspender.
func (d *Driver) CheckSuspend() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.script.noSuspend == "" {
		return nil
	}
	return &runtime.SuspendError{Missing: d.script.noSuspend}
}

// Suspend implements runtime.Suspender. The handler of the gateway is kept.
func (d *Driver) Suspend(_ context.Context, place runtime.Place, id identity.AgentID) error {
	a := d.agent(id)
	if a == nil {
		return fmt.Errorf("suspend %s: %w", id, runtime.ErrNotRunning)
	}
	a.op.Lock()
	defer a.op.Unlock()
	a.mu.Lock()
	g := a.running()
	here := g != nil && a.place == place && !a.frozen
	a.mu.Unlock()
	if !here {
		return fmt.Errorf("suspend %s: %w", id, runtime.ErrNotRunning)
	}
	if err := d.CheckSuspend(); err != nil {
		return fmt.Errorf("suspend %s: %w", id, err)
	}
	d.mu.Lock()
	err := d.script.failSuspend.next()
	d.mu.Unlock()
	if err != nil {
		return fmt.Errorf("suspend %s: %w", id, err)
	}
	a.mu.Lock()
	a.suspended = true
	a.mu.Unlock()
	l := g.current()
	g.Exit(0)
	<-l.served
	return nil
}

// Resume implements runtime.Suspender.
func (d *Driver) Resume(_ context.Context, place runtime.Place, id identity.AgentID) error {
	a := d.agent(id)
	if a == nil {
		return fmt.Errorf("resume %s: %w", id, runtime.ErrNoCheckpoint)
	}
	a.op.Lock()
	defer a.op.Unlock()
	a.mu.Lock()
	suspended, g := a.suspended && a.place == place, a.gateway
	a.suspended = false
	a.mu.Unlock()
	if !suspended {
		return fmt.Errorf("resume %s: %w", id, runtime.ErrNoCheckpoint)
	}
	d.mu.Lock()
	err := d.script.failResume.next()
	if err == nil {
		d.resumes[id]++
	}
	d.mu.Unlock()
	if err != nil {
		return fmt.Errorf("resume %s: %w", id, err)
	}
	g.resume()
	return nil
}

// FailSuspend makes the next n calls of Suspend that would suspend a gateway return err.
func (d *Driver) FailSuspend(n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script.failSuspend = failures{left: n, err: err}
}

// FailResume makes the next n calls of Resume that would resume a gateway return err.
func (d *Driver) FailResume(n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script.failResume = failures{left: n, err: err}
}

// SetCheckpointMemory sets what each checkpoint takes.
func (d *Driver) SetCheckpointMemory(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script.checkpointBytes = bytes
}

// SetNoSuspend sets why gateways cannot be suspended; empty: they can.
func (d *Driver) SetNoSuspend(why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script.noSuspend = why
}

// Resumes returns how often gateways of an agent were resumed.
func (d *Driver) Resumes(id identity.AgentID) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.resumes[id]
}

// LoseCheckpoint removes the checkpoint of an agent, as a restart of the machine does.
func (d *Driver) LoseCheckpoint(id identity.AgentID) {
	a := d.addAgent(id)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.suspended = false
}
