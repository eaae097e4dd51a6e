package process

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

const (
	// suspendTimeout bounds a dump, of which criu's own timeout covers only a part. Source:
	// 0.6 s for 1 GB, up to 3.5 s on a machine that gives memory back to its host.
	suspendTimeout = 20 * time.Second
	// resumeTimeout bounds a restore: criu can wait for ever for a process that has failed.
	// Source: 0.5 s, up to 3.5 s.
	resumeTimeout = 12 * time.Second
	// unpackTimeout bounds what comes before that for a checkpoint that is compressed. Source: 1 s;
	// 7 s on a machine with ten times as much work as it can do.
	unpackTimeout = 20 * time.Second
)

// Suspend implements runtime.Suspender. criu stops the processes and writes them to a
// checkpoint, which becomes valid when it is renamed; only then are they killed. Until then they
// can go on, whatever fails.
func (d *Driver) Suspend(ctx context.Context, place runtime.Place, id identity.AgentID) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	defer d.lock(id)()
	rec, shim, err := d.running(place, id)
	if err == nil {
		err = d.suspend(ctx, a, rec, shim)
	}
	if err != nil {
		return fmt.Errorf("suspend %s: %w", id, err)
	}
	return nil
}

func (d *Driver) suspend(ctx context.Context, a agent, rec record, shim int) error {
	if err := d.CheckSuspend(); err != nil {
		return err
	}
	if !rec.Suspendable {
		return &runtime.SuspendError{Missing: "it was started without being prepared for it", Fix: "restart the agent"}
	}
	written, err := d.checkpoints.takeRoom(d.runningState(a, rec).MemoryBytes)
	if err != nil {
		return err
	}
	defer written()
	// The record comes first: whoever finds it after a crash ends what has begun.
	rec.Checkpoint = rec.Nonce
	if err := a.saveRecord(rec); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, suspendTimeout)
	defer cancel()
	if err := d.dump(ctx, a, rec, shim); err != nil {
		return errors.Join(err, d.undoSuspend(a, rec))
	}
	return d.endSuspended(context.WithoutCancel(ctx), a, rec)
}

// endSuspended ends the processes of a gateway of which there is a checkpoint.
func (d *Driver) endSuspended(ctx context.Context, a agent, rec record) error {
	secrets, err := d.secrets.read(a, rec)
	if err != nil {
		return err
	}
	if err := d.cleanUp(ctx, a, rec); err != nil {
		return err
	}
	return d.secrets.write(a, rec, secrets)
}

// undoSuspend makes the processes of a gateway go on that was not suspended.
func (d *Driver) undoSuspend(a agent, rec record) error {
	err := d.removeCheckpoint(a.id)
	d.continueAll(d.processes(a, rec))
	rec.Checkpoint = ""
	return errors.Join(err, a.saveRecord(rec))
}

// settleSuspend ends what a server that was killed has begun: a suspend whose checkpoint is
// valid is ended, another one is undone. The caller holds the lock of the agent.
func (d *Driver) settleSuspend(ctx context.Context, a agent) error {
	rec, err := a.record()
	if err != nil || rec.Checkpoint == "" {
		return err
	}
	if _, alive := d.alive(a, rec); !alive {
		return nil
	}
	if d.checkpoints.has(a.id, rec.Checkpoint) {
		return d.endSuspended(ctx, a, rec)
	}
	return d.undoSuspend(a, rec)
}

// settled waits until no suspend or freeze of the agent is under way, ends what a killed server has left,
// and returns the record.
func (d *Driver) settled(ctx context.Context, a agent) (record, error) {
	defer d.lock(a.id)()
	if err := errors.Join(d.settleSuspend(ctx, a), d.settleFreeze(ctx, a)); err != nil {
		return record{}, err
	}
	return a.record()
}

// isSuspended reports whether the gateway of a record has ended and can be resumed.
func (d *Driver) isSuspended(a agent, rec record) bool {
	return rec.Checkpoint != "" && d.checkpoints.has(a.id, rec.Checkpoint)
}

// Resume implements runtime.Suspender.
func (d *Driver) Resume(ctx context.Context, place runtime.Place, id identity.AgentID) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	d.compaction.interrupt(id)
	defer d.compaction.way.resume()()
	defer d.lock(id)()
	if err := d.resume(ctx, a, place); err != nil {
		return fmt.Errorf("resume %s: %w", id, err)
	}
	return nil
}

func (d *Driver) resume(ctx context.Context, a agent, place runtime.Place) error {
	if err := d.settleSuspend(ctx, a); err != nil {
		return err
	}
	rec, err := a.record()
	switch {
	case err != nil:
		return err
	case rec.Place != place || !d.isSuspended(a, rec):
		return runtime.ErrNoCheckpoint
	}
	if err := d.CheckSuspend(); err != nil { // the last server could
		return errors.Join(runtime.ErrNoCheckpoint, err)
	}
	if _, alive := d.alive(a, rec); alive {
		return errors.New("it runs")
	}
	lock, err := a.tryLock()
	if err != nil {
		return err
	}
	if lock == nil {
		return errors.New("an unknown process holds its lock file")
	}
	defer func() { _ = lock.Close() }()

	unpacking, cancel := context.WithTimeout(ctx, unpackTimeout)
	defer cancel()
	c, err := d.checkpoints.take(unpacking, a.id, rec.Checkpoint)
	if err != nil {
		return err
	}
	defer d.discardLater(a.id, c)
	ctx, cancel = context.WithTimeout(ctx, resumeTimeout)
	defer cancel()
	rec.Nonce, rec.At, rec.Checkpoint = rand.Text(), time.Now().UTC(), ""
	if err := d.restore(ctx, a, rec, c, lock); err != nil {
		_ = lock.Close()
		err = errors.Join(err, d.cleanUp(context.WithoutCancel(ctx), a, rec))
		d.settings.Log.WarnContext(ctx, "a gateway could not be resumed", "agent", a.id, "error", err)
		return err
	}
	return nil
}

// discardLater deletes a checkpoint that was taken, without delaying its agent: freeing 1 GB takes
// 0.1 to 0.5 s. It holds the lock of the agent meanwhile, which the caller holds now.
func (d *Driver) discardLater(id identity.AgentID, c checkpoint) {
	done := make(chan struct{})
	d.mu.Lock()
	d.discards[id] = done
	d.mu.Unlock()
	go func() {
		defer d.lock(id)()
		if err := c.discard(); err != nil {
			d.settings.Log.Warn("deleting a checkpoint failed", "agent", id, "error", err)
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		close(done)
		if d.discards[id] == done {
			delete(d.discards, id)
		}
	}()
}

// AwaitDiscard implements runtime.Suspender.
func (d *Driver) AwaitDiscard(ctx context.Context, id identity.AgentID) error {
	d.mu.Lock()
	done := d.discards[id]
	d.mu.Unlock()
	if done == nil {
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// read returns the secrets of an agent.
func (s secretStore) read(a agent, rec record) ([]byte, error) {
	data, err := os.ReadFile(s.fileOf(a.id + rec.Variant))
	if err != nil {
		return nil, fmt.Errorf("read secrets: %w", err)
	}
	return data, nil
}
