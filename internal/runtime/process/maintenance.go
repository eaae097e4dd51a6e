package process

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"agento.host/agento/internal/identity"
)

// maintenanceInterval is the pause between two rounds of Run. Source: a gateway
// that prints 100 MB/s exceeds the size of its log by 200 MB, which fits the disks
// that gateways run on.
const maintenanceInterval = 2 * time.Second

// Run rotates logs, tests the sandbox, measures the files of agents and deletes what they
// have left, until ctx ends. Where the kernel does not
// enforce memory limits, it does so too. First it stops gateways without a sandbox.
func (d *Driver) Run(ctx context.Context) error {
	if err := d.stopUnsandboxed(ctx); err != nil && ctx.Err() == nil {
		d.settings.Log.Error("stopping gateways that run without a sandbox failed", "error", err)
	}
	var loops sync.WaitGroup
	defer loops.Wait()
	if !d.settings.NoSandbox {
		loops.Go(func() { d.probeRegularly(ctx) })
	}
	loops.Go(func() { d.purgeRegularly(ctx) })
	loops.Go(func() { d.measureRegularly(ctx) })
	loops.Go(func() { d.compactRegularly(ctx) })
	loops.Go(func() { d.reclaimRegularly(ctx) })
	tick := time.NewTicker(maintenanceInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			d.maintainAll(ctx)
		}
	}
}

// supervise adds an agent to those that Run maintains, or removes it.
func (d *Driver) supervise(id identity.AgentID, on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if on {
		d.supervised[id] = true
	} else {
		delete(d.supervised, id)
	}
}

func (d *Driver) maintainAll(ctx context.Context) {
	for _, id := range d.supervisedAgents() {
		a, err := d.agent(id)
		if err != nil {
			continue
		}
		if err := d.maintain(ctx, a); err != nil && ctx.Err() == nil {
			d.settings.Log.Error("maintain agent", "agent", id, "error", err)
		}
	}
}

// maintain rotates the log of an agent and enforces its memory limit if no control
// group does.
func (d *Driver) maintain(ctx context.Context, a agent) error {
	err := d.log(a).rotate(ctx)
	if err != nil {
		err = fmt.Errorf("rotate log: %w", err)
	}
	return errors.Join(err, d.limitMemory(a))
}

// limitMemory enforces the memory limit of an agent if no control group does, and ends the
// maintenance of one that does not run.
func (d *Driver) limitMemory(a agent) error {
	rec, err := a.record()
	if err != nil {
		return err
	}
	if _, alive := d.alive(a, rec); !alive {
		d.supervise(a.id, false)
		return nil
	}
	if rec.MemoryLimit == 0 || len(rec.Groups) > 0 {
		return nil
	}
	if used := usageOf(d.processes(a, rec)).memory; used > rec.MemoryLimit {
		d.settings.Log.Warn("agent killed: over its memory limit", "agent", a.id, "bytes", used, "limit", rec.MemoryLimit)
		return d.killOverLimit(a, rec)
	}
	return nil
}

// killOverLimit kills a gateway as the kernel would at its memory limit.
func (d *Driver) killOverLimit(a agent, rec record) error {
	defer d.lock(a.id)()
	now, err := a.record()
	if err != nil || now.Nonce != rec.Nonce {
		return err
	}
	now.OOMKilled = true
	if err := a.saveRecord(now); err != nil {
		return err
	}
	d.kill(withoutShim(d.processes(a, now), 0))
	return nil
}
