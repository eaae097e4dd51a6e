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
	a.suspended, a.stored = true, 0
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
	a.suspended, a.stored = false, 0
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

// MoveToDisk implements runtime.Suspender. It is done when it returns.
func (d *Driver) MoveToDisk(ctx context.Context, place runtime.Place, id identity.AgentID) error {
	a := d.agent(id)
	if a == nil {
		return fmt.Errorf("move the checkpoint of %s: %w", id, runtime.ErrNoCheckpoint)
	}
	left, err := d.DiskRoom(ctx)
	if err != nil {
		return err
	}
	d.mu.Lock()
	bytes := d.script.checkpointBytes
	a.mu.Lock()
	suspended, stored := a.suspended && a.place == place, a.stored > 0
	a.mu.Unlock()
	switch {
	case !suspended:
		err = runtime.ErrNoCheckpoint
	case !stored && left < max(bytes, 1):
		err = runtime.ErrNoDiskRoom
	case !stored:
		err = d.script.failMove.next()
	}
	d.mu.Unlock()
	if err != nil {
		return fmt.Errorf("move the checkpoint of %s: %w", id, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.suspended {
		a.stored = max(bytes, 1)
	}
	return nil
}

// AwaitDiscard implements runtime.Suspender.
func (d *Driver) AwaitDiscard(ctx context.Context, _ identity.AgentID) error { return ctx.Err() }

// DiskRoom implements runtime.Suspender.
func (d *Driver) DiskRoom(ctx context.Context) (int64, error) {
	use, err := d.Checkpoints(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	return use.Budget - d.script.diskFull - use.OnDisk.Bytes, err
}

// Checkpoints implements runtime.Suspender. None is ever compressed.
func (d *Driver) Checkpoints(context.Context) (use runtime.CheckpointUse, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	use.Budget = d.script.diskBudget
	for _, a := range d.agents {
		a.mu.Lock()
		switch {
		case a.suspended && a.stored > 0:
			use.OnDisk.Count++
			use.OnDisk.Bytes += a.stored
		case a.suspended:
			use.Fresh.Count++
			use.Fresh.Bytes += d.script.checkpointBytes
		}
		a.mu.Unlock()
	}
	return use, nil
}

// FailMove makes the next n calls of MoveToDisk that would move a checkpoint return err.
func (d *Driver) FailMove(n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script.failMove = failures{left: n, err: err}
}

// SetCheckpointDisk sets what checkpoints may take of the disk, and how much of that the disk has no
// room for.
func (d *Driver) SetCheckpointDisk(budget, full int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script.diskBudget, d.script.diskFull = budget, full
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
	a.suspended, a.stored = false, 0
}
