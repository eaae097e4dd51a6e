package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

const (
	// checkpointsName is the directory of checkpoints beside Settings.Dir.
	checkpointsName = "checkpoints"

	// diskReserve and inodeReserve are what checkpoints leave free of a file system: more than the
	// server warns at, so that a checkpoint never takes the room of the database.
	diskReserve  = 1 << 30
	inodeReserve = 10_000

	// budgetShare is the part of the file system that checkpoints may use if nothing else was said.
	budgetShare = 5
)

// checkpointDisk is where checkpoints are on a disk: a pack for each agent, in a directory that only
// the server's user can enter.
type checkpointDisk struct {
	dir    string
	budget int64 // bytes of all packs; 0: none is written
	plain  bool  // packs are not sealed

	reserve int64 // bytes that checkpoints leave free of the file system
}

func newCheckpointDisk(s Settings) checkpointDisk {
	return checkpointDisk{dir: filepath.Join(filepath.Dir(s.Dir), checkpointsName), budget: s.CheckpointBudget, plain: s.PlainCheckpoints, reserve: diskReserve}
}

// defaultBudget returns the budget of a directory that may not exist yet.
func defaultBudget(dir string) int64 {
	for ; ; dir = filepath.Dir(dir) {
		var s unix.Statfs_t
		if err := unix.Statfs(dir, &s); err == nil {
			return int64(s.Blocks) * int64(s.Bsize) / budgetShare //nolint:unconvert // the types differ between systems
		}
		if dir == filepath.Dir(dir) {
			return 0
		}
	}
}

func freeBytes(s unix.Statfs_t) int64 {
	return int64(s.Bavail) * int64(s.Bsize) //nolint:unconvert // the types differ between systems
}

func (c checkpointDisk) path(id identity.AgentID) string { return filepath.Join(c.dir, string(id)) }

// create makes the file that a pack is written to before it is valid.
func (c checkpointDisk) create(id identity.AgentID) (*os.File, error) {
	if err := errors.Join(os.MkdirAll(c.dir, 0o700), os.Chmod(c.dir, 0o700)); err != nil {
		return nil, err
	}
	return os.OpenFile(c.path(id)+newSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
}

// size returns how many bytes the pack of an agent has; 0: there is none.
func (c checkpointDisk) size(id identity.AgentID) int64 {
	st, err := os.Stat(c.path(id))
	if err != nil {
		return 0
	}
	return st.Size()
}

// remove deletes what there is of an agent. What is sealed and cannot be deleted, on a disk that is
// read-only, holds nobody up: it is garbage without its key, and is deleted later.
func (c checkpointDisk) remove(id identity.AgentID) error {
	err := errors.Join(ignoreMissing(os.Remove(c.path(id))), ignoreMissing(os.Remove(c.path(id)+newSuffix)))
	if !c.plain {
		return nil
	}
	return err
}

// files lists what there is, with the agents that it is of.
func (c checkpointDisk) files() (map[string]identity.AgentID, error) {
	entries, err := os.ReadDir(c.dir)
	all := map[string]identity.AgentID{}
	for _, e := range entries {
		all[e.Name()] = identity.AgentID(strings.TrimSuffix(e.Name(), newSuffix))
	}
	return all, ignoreMissing(err)
}

// left returns how many bytes of checkpoints can be added; a negative number, how many are too
// much.
func (c checkpointDisk) left() (int64, error) {
	files, err := c.files()
	if err != nil || c.budget == 0 && len(files) == 0 {
		return 0, err
	}
	left := c.budget
	for name := range files {
		if info, err := os.Lstat(filepath.Join(c.dir, name)); err == nil {
			left -= info.Size()
		}
	}
	var s unix.Statfs_t
	err = unix.Statfs(c.dir, &s)
	if errors.Is(err, fs.ErrNotExist) {
		err = unix.Statfs(filepath.Dir(c.dir), &s)
	}
	if err != nil {
		return 0, fmt.Errorf("look at the disk of checkpoints: %w", err)
	}
	if s.Files > 0 && s.Ffree < inodeReserve {
		left = min(left, 0)
	}
	return min(left, freeBytes(s)-c.reserve), nil
}

// checkRoom refuses a pack, or the rest of one, for which there is no room.
func (c checkpointDisk) checkRoom(bytes int64) error {
	left, err := c.left()
	if err == nil && left < bytes {
		err = runtime.ErrNoDiskRoom
	}
	return err
}
