package process

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/klauspost/compress/s2"

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

// Move moves the checkpoint of an agent to the disk now.
func Move(ctx context.Context, d *Driver, id identity.AgentID) error { return d.move(ctx, id) }

// StoredCheckpoint returns the path of an agent's checkpoint on the disk.
func StoredCheckpoint(d *Driver, id identity.AgentID) string { return d.checkpoints.disk.path(id) }

// CheckpointDir returns the directory of all checkpoints in memory.
func CheckpointDir(d *Driver) string { return d.checkpoints.dir }

// StoredCheckpoints lists the files on the disk.
func StoredCheckpoints(d *Driver) []string {
	files, _ := filepath.Glob(filepath.Join(d.checkpoints.disk.dir, "*"))
	return files
}

// ReadStored returns what whoever reads the disk and knows the chunks of a pack can read of it.
func ReadStored(d *Driver, id identity.AgentID) (clear []byte, err error) {
	x, err := d.checkpoints.index(id)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(d.checkpoints.disk.path(id))
	for _, c := range x.chunks() {
		raw, _ := s2.Decode(nil, data[c.at:c.at+int64(c.length)])
		clear = append(clear, raw...)
	}
	return clear, err
}

// SetDiskReserve sets what checkpoints leave free of the disk.
func SetDiskReserve(d *Driver, bytes int64) { d.checkpoints.disk.reserve = bytes }

// MachineParts returns what a checkpoint must fit.
func MachineParts(criu string, s Settings) map[string]string { return machineParts(criu, s) }

// The steps of a move after which a server can be killed.
const (
	MoveWritten = iota // to a temporary name
	MoveRenamed        // not valid yet
	MoveValid          // the checkpoint in memory is still there
	MoveTaken          // resumed, but not ended
)

// LeaveMove leaves behind what a server does that is killed while it moves a checkpoint to the disk,
// or takes it from there.
func LeaveMove(ctx context.Context, d *Driver, id identity.AgentID, step int) error {
	dir, err := os.OpenRoot(d.checkpoints.dirOf(id))
	if err != nil {
		return err
	}
	x := packIndex{Disk: true, Form: packForm, Key: newKey()}
	disk := d.checkpoints.disk
	if x.Files, err = disk.write(ctx, id, dir, nil, x.Key, nil); err != nil {
		return errors.Join(err, dir.Close())
	}
	if step >= MoveRenamed {
		err = os.Rename(disk.path(id)+newSuffix, disk.path(id))
	}
	if step >= MoveValid {
		err = errors.Join(err, writeIndex(dir, x))
	}
	if step >= MoveTaken {
		err = errors.Join(err, os.Rename(d.checkpoints.dirOf(id), d.checkpoints.dirOf(id)+takenSuffix))
	}
	return errors.Join(err, dir.Close())
}
