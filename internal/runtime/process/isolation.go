package process

import (
	"context"
	"errors"
	"sync"
	"time"

	"agento.host/agento/internal/runtime"
)

const (
	// probeInterval is the pause between two tests of the sandbox while it works.
	// Source: a test takes 25-65 ms of CPU.
	probeInterval = 20 * time.Second
	// gvisorProbeInterval is probeInterval with gVisor. Source: a test takes 0.15 s of CPU.
	gvisorProbeInterval = time.Minute
	// failedProbeInterval is the pause after a test that failed.
	failedProbeInterval = 2 * time.Second
	// probeAge is how old a successful test may be when a gateway is started.
	probeAge = time.Second
)

// isolation is whether gateways can be isolated, as the last test of the sandbox found.
type isolation struct {
	testing sync.Mutex // one test at a time

	mu      sync.Mutex
	sandbox sandbox   // of the last test that succeeded; guarded by mu
	err     error     // of the last test; guarded by mu
	tested  time.Time // when it ended; guarded by mu
}

func (i *isolation) last() (sandbox, time.Time, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.sandbox, i.tested, i.err
}

// CheckIsolation implements runtime.Driver.
func (d *Driver) CheckIsolation() error {
	_, _, err := d.isolation.last()
	return err
}

// probe returns the sandbox for a start, and tests it first unless that was done a
// moment ago. Errors: *runtime.IsolationError.
func (d *Driver) probe() (sandbox, error) {
	if d.settings.NoSandbox {
		return sandbox{off: true}, nil
	}
	d.isolation.testing.Lock()
	defer d.isolation.testing.Unlock()
	b, tested, before := d.isolation.last()
	if before == nil && time.Since(tested) < probeAge {
		return b, nil
	}
	b, err := probeSandbox(d.settings, d.users)
	d.isolation.mu.Lock()
	defer d.isolation.mu.Unlock()
	d.isolation.sandbox, d.isolation.err, d.isolation.tested = b, err, time.Now()
	return b, err
}

// testedSandbox returns the sandbox as the last regular test found it, and tests it only if that
// failed: a gateway that is restored has the mounts of its checkpoint, and waits for nothing.
// Errors: *runtime.IsolationError.
func (d *Driver) testedSandbox() (sandbox, error) {
	if b, tested, err := d.isolation.last(); err == nil && !tested.IsZero() {
		return b, nil
	}
	return d.probe()
}

// probeRegularly repeats the test of the sandbox until ctx ends.
func (d *Driver) probeRegularly(ctx context.Context) {
	for {
		before := d.CheckIsolation()
		interval := probeInterval
		switch {
		case before != nil:
			interval = failedProbeInterval
		case d.settings.Sandbox == GVisor:
			interval = gvisorProbeInterval
		}
		if pause(ctx, interval) != nil {
			return
		}
		_, err := d.probe()
		switch {
		case err != nil && before == nil:
			d.settings.Log.Error("no agent is started until agents can be isolated", "error", err)
		case err == nil && before != nil:
			d.settings.Log.Warn("agents can be isolated again")
		}
	}
}

// unsandboxedGrace is how long a gateway without a sandbox may take to end.
const unsandboxedGrace = 5 * time.Second

// stopUnsandboxed stops the gateways that run without a sandbox: an earlier version of
// agento, or a development server, has started them.
func (d *Driver) stopUnsandboxed(ctx context.Context) error {
	if d.settings.NoSandbox {
		return nil
	}
	found, err := d.List(ctx)
	for _, f := range found {
		if !f.Running || f.Owner != runtime.Own {
			continue
		}
		a, agentErr := d.agent(f.ID)
		if agentErr != nil {
			continue
		}
		rec, recordErr := a.record()
		if recordErr != nil || rec.Nonce == "" || rec.Sandboxed {
			err = errors.Join(err, recordErr)
			continue
		}
		d.settings.Log.Warn("a gateway that runs without a sandbox is stopped", "agent", f.ID)
		err = errors.Join(err, d.Stop(ctx, rec.Place, f.ID, unsandboxedGrace))
	}
	return err
}
