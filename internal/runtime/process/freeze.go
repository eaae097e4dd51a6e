package process

import (
	"context"
	"errors"
	"fmt"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

const (
	// freezeTimeout bounds how long processes take until they stand still, and until they go on.
	// Source: 2-20 ms; a process that waits for a disk stands still only after that.
	freezeTimeout = 5 * time.Second
	// reclaimAfter is how long a gateway is frozen before its memory is given to the swap: one that is
	// wanted again at once need not read it back.
	reclaimAfter = time.Minute
	// reclaimInterval is the pause between two searches for gateways whose memory can be given to the
	// swap.
	reclaimInterval = 5 * time.Second
)

// CheckFreeze implements runtime.Freezer.
func (d *Driver) CheckFreeze() error { return d.canFreeze() }

// Freeze implements runtime.Freezer. The record says it first: whoever finds it after a crash looks at
// the control group.
func (d *Driver) Freeze(ctx context.Context, place runtime.Place, id identity.AgentID) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	defer d.lock(id)()
	rec, _, err := d.running(place, id)
	if err == nil {
		err = d.freeze(ctx, a, rec)
	}
	if err != nil {
		return fmt.Errorf("freeze %s: %w", id, err)
	}
	return nil
}

func (d *Driver) freeze(ctx context.Context, a agent, rec record) error {
	if err := d.CheckFreeze(); err != nil {
		return err
	}
	if !d.cgroup.freezes(rec.Groups) {
		return &runtime.SuspendError{Missing: "it was started by an earlier version", Fix: "restart the agent"}
	}
	rec.FrozenAt = time.Now().UTC()
	if err := a.saveRecord(rec); err != nil {
		return err
	}
	if err := d.awaitFrozen(ctx, rec.Groups, true); err != nil {
		return errors.Join(err, d.thaw(context.WithoutCancel(ctx), a, rec))
	}
	return nil
}

// awaitFrozen lets the processes of a control group stand still, or go on, and returns when they do.
func (d *Driver) awaitFrozen(ctx context.Context, groups []string, frozen bool) error {
	ctx, cancel := context.WithTimeout(ctx, freezeTimeout)
	defer cancel()
	if err := d.cgroup.setFrozen(groups, frozen); err != nil {
		return err
	}
	for d.cgroup.isFrozen(groups) != frozen {
		if err := pause(ctx, pollInterval); err != nil {
			return fmt.Errorf("wait until the processes stand still (%t): %w", frozen, err)
		}
	}
	return nil
}

// Thaw implements runtime.Freezer.
func (d *Driver) Thaw(ctx context.Context, place runtime.Place, id identity.AgentID) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	defer d.lock(id)()
	rec, err := a.record()
	if _, alive := d.alive(a, rec); err == nil && (!alive || rec.Place != place || rec.FrozenAt.IsZero()) {
		err = runtime.ErrNotRunning
	}
	if err == nil {
		err = d.thaw(ctx, a, rec)
	}
	if err != nil {
		return fmt.Errorf("thaw %s: %w", id, err)
	}
	return nil
}

// thaw lets the processes of a gateway go on.
func (d *Driver) thaw(ctx context.Context, a agent, rec record) error {
	if err := d.awaitFrozen(ctx, rec.Groups, false); err != nil {
		return err
	}
	rec.FrozenAt = time.Time{}
	return a.saveRecord(rec)
}

// settleFreeze ends what a server that was killed has begun: a gateway that does not stand still as a
// whole goes on. The caller holds the lock of the agent.
func (d *Driver) settleFreeze(ctx context.Context, a agent) error {
	rec, err := a.record()
	if err != nil || rec.FrozenAt.IsZero() {
		return err
	}
	if _, alive := d.alive(a, rec); !alive || d.cgroup.isFrozen(rec.Groups) {
		return nil
	}
	return d.thaw(ctx, a, rec)
}

// endFrozen ends the frozen gateway of an agent, if it has one. The caller holds the lock of the agent.
func (d *Driver) endFrozen(ctx context.Context, a agent) error {
	rec, err := a.record()
	if err != nil || rec.FrozenAt.IsZero() {
		return err
	}
	return d.cleanUp(ctx, a, rec)
}

// tryFreeze freezes a process. Errors: *runtime.SuspendError.
func (d *Driver) tryFreeze() error {
	if reason := d.cgroup.reason(); reason != "" {
		return &runtime.SuspendError{Missing: "there are no control groups", Fix: "mount the control groups, and run the server as root or delegate a group to its user", Cause: errors.New(reason)}
	}
	if err := d.freezeProbe(); err != nil {
		return &runtime.SuspendError{Missing: "the control groups do not freeze processes", Fix: "use control groups v2 of Linux 5.2 or later, or mount the freezer controller of v1", Cause: err}
	}
	return nil
}

// reclaimRegularly gives the memory of gateways that are frozen for longer to the swap, until ctx ends.
func (d *Driver) reclaimRegularly(ctx context.Context) {
	done := map[identity.AgentID]time.Time{} // when the gateways were frozen whose memory was given
	for pause(ctx, reclaimInterval) == nil {
		for _, id := range d.supervisedAgents() {
			a, err := d.agent(id)
			if err != nil {
				continue
			}
			rec, err := a.record()
			if err != nil || rec.FrozenAt.IsZero() || rec.FrozenAt.Equal(done[id]) || time.Since(rec.FrozenAt) < reclaimAfter {
				continue
			}
			done[id] = rec.FrozenAt
			if err := d.reclaim(rec); err != nil {
				d.settings.Log.WarnContext(ctx, "giving the memory of a frozen gateway to the swap failed", "agent", id, "error", err)
			}
		}
	}
}

// reclaim gives the memory of a frozen gateway to the swap, if the machine has some left.
func (d *Driver) reclaim(rec record) error {
	if free, err := freeSwap(); err != nil || free == 0 {
		return err
	}
	return d.cgroup.reclaim(rec.Groups)
}
