package process

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"agento.host/agento/internal/identity"
)

// LeaveSuspend leaves behind what a server does that is killed while it suspends a gateway: its
// processes are stopped, and the checkpoint is valid or not.
func LeaveSuspend(ctx context.Context, d *Driver, id identity.AgentID, valid bool) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	defer d.lock(id)()
	rec, err := a.record()
	if err != nil {
		return err
	}
	rec.Checkpoint = rec.Nonce
	if err := a.saveRecord(rec); err != nil {
		return err
	}
	pid, _ := d.alive(a, rec)
	if err := d.dump(ctx, a, rec, pid); err != nil || valid {
		return err
	}
	return d.checkpoints.remove(id)
}

// Descendants returns the processes below one.
func Descendants(pid int) []int { return processTree(pid)[1:] }

// IsRunning reports whether a process runs.
func IsRunning(pid int) bool { return isRunning(pid) }

// Compact compresses the checkpoint of an agent now.
func Compact(ctx context.Context, d *Driver, id identity.AgentID) error { return d.compact(ctx, id, 0) }

// CheckpointFiles returns the paths of the files of an agent's checkpoint.
func CheckpointFiles(d *Driver, id identity.AgentID) []string {
	files, _ := filepath.Glob(filepath.Join(d.checkpoints.dirOf(id), "*"))
	return files
}

// Checkpoints lists the agents of which there are valid checkpoints.
func Checkpoints(d *Driver) []identity.AgentID { return d.checkpoints.ids() }

// LeaveFreeze leaves behind what a server does that is killed while it freezes a gateway: the record
// says that it is frozen, and its processes stand still or not.
func LeaveFreeze(ctx context.Context, d *Driver, id identity.AgentID, frozen bool) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	defer d.lock(id)()
	rec, err := a.record()
	if err != nil {
		return err
	}
	rec.FrozenAt = time.Now()
	return errors.Join(a.saveRecord(rec), d.awaitFrozen(ctx, rec.Groups, frozen))
}

// ForgetFreezer makes the record of a gateway that of an earlier version, which had no freezer.
func ForgetFreezer(d *Driver, id identity.AgentID) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	rec, err := a.record()
	rec.Groups = slices.DeleteFunc(rec.Groups, func(dir string) bool { return fileExists(dir, freezerState) || fileExists(dir, freezeFile) })
	return errors.Join(err, a.saveRecord(rec))
}

// Reclaim gives the memory of a frozen gateway to the swap now.
func Reclaim(d *Driver, id identity.AgentID) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	rec, err := a.record()
	return errors.Join(err, d.reclaim(rec))
}

// FreeSwap returns how much swap the machine has left.
func FreeSwap() (int64, error) { return freeSwap() }

// AgeProbe makes the last test of the sandbox a minute older.
func AgeProbe(d *Driver) {
	d.isolation.mu.Lock()
	defer d.isolation.mu.Unlock()
	d.isolation.tested = d.isolation.tested.Add(-time.Minute)
}

// ProbeSandbox tests the sandbox unless that was done a moment ago.
func ProbeSandbox(d *Driver) error {
	_, err := d.probe()
	return err
}
