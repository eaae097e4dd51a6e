package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// checkpointStore has the checkpoints of suspended gateways: in each the memory of a process, with
// the agent's secrets and conversations. So they are where only root can read, on a memory
// file system, which a reboot empties and no backup has.
type checkpointStore struct {
	dir string // on a memory file system; a directory for each agent
}

// checkpoint is one that was taken out of the store.
type checkpoint struct {
	dir  string
	meta checkpointMeta
}

// checkpointMeta is what a checkpoint must fit.
type checkpointMeta struct {
	Nonce     string               `json:"nonce"` // of the start that it continues
	Machine   string               `json:"machine"`
	Home      fileID               `json:"home"`
	Files     map[string]fileState `json:"files"` // the gateway has open, by their paths in the sandbox
	Mounts    []mount              `json:"mounts"`
	Options   map[string]string    `json:"options"` // of all mounts
	Skeleton  []skeletonEntry      `json:"skeleton"`
	Externals []external           `json:"externals"`
	Network   uint64               `json:"network"` // inode of its network namespace
}

// fileState is the state of a file of the home. A database that another process has changed, or
// that was replaced by a copy, is not the one that the gateway has open.
type fileState struct {
	ID    fileID `json:"id"`
	Size  int64  `json:"size"`
	Mode  uint32 `json:"mode"`
	MTime int64  `json:"mtime"` // nanoseconds
}

// mount is a directory or file of the machine in a sandbox.
type mount struct {
	Point  string `json:"point"`
	Source string `json:"source"`
}

// skeletonEntry is a file of the root directory of a sandbox, on which other file systems are
// mounted.
type skeletonEntry struct {
	Path string      `json:"path"`
	Mode fs.FileMode `json:"mode"`
	Link string      `json:"link,omitempty"` // of a symbolic link
}

// external is a file outside of the sandbox that its processes have open.
type external struct {
	Name string `json:"name"` // criu's
	Log  bool   `json:"log"`  // it is the log; else the null device
}

const (
	metaName      = "agento.json"
	dumpSuffix    = ".new"    // of a directory that criu writes to
	takenSuffix   = ".used"   // of one that was taken
	memoryReserve = 512 << 20 // for everything else
)

// openCheckpointStore returns the store beside the secrets. Without a memory file system there is
// none. Every program knows it, so that what it stops or removes leaves no checkpoint.
func openCheckpointStore(secrets secretStore) checkpointStore {
	if !secrets.inMemory {
		return checkpointStore{}
	}
	return checkpointStore{dir: secrets.dir + ".checkpoints"}
}

// ids lists the agents of which there are valid checkpoints.
func (s checkpointStore) ids() []identity.AgentID {
	return slices.DeleteFunc(agentDirs(s.dir), func(id identity.AgentID) bool {
		return strings.HasSuffix(string(id), dumpSuffix) || strings.HasSuffix(string(id), takenSuffix)
	})
}

func (s checkpointStore) dirOf(id identity.AgentID) string { return filepath.Join(s.dir, string(id)) }

// checkRoom refuses a checkpoint for which there is no memory.
func (s checkpointStore) checkRoom(bytes int64) error {
	available, err := availableMemory()
	if err != nil {
		return err
	}
	if available < bytes+memoryReserve {
		return &runtime.SuspendError{Missing: "the machine has no memory left for its checkpoint"}
	}
	return nil
}

// begin makes the directory that criu writes to.
func (s checkpointStore) begin(id identity.AgentID) (dir string, err error) {
	if err := s.remove(id); err != nil {
		return "", err
	}
	dir = s.dirOf(id) + dumpSuffix
	return dir, errors.Join(os.MkdirAll(s.dir, 0o700), os.Mkdir(dir, 0o700))
}

// commit makes the checkpoint in dir valid.
func (s checkpointStore) commit(id identity.AgentID, dir string, meta checkpointMeta) error {
	data, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, metaName), data, 0o600); err != nil {
		return err
	}
	return os.Rename(dir, s.dirOf(id))
}

func readMeta(dir string) (m checkpointMeta, err error) {
	data, err := os.ReadFile(filepath.Join(dir, metaName))
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	return m, err
}

// has reports whether there is a valid checkpoint of a start.
func (s checkpointStore) has(id identity.AgentID, nonce string) bool {
	if s.dir == "" {
		return false
	}
	m, err := readMeta(s.dirOf(id))
	return err == nil && m.Nonce == nonce
}

// take removes a checkpoint from the store, so that nobody takes it again. Errors:
// runtime.ErrNoCheckpoint.
func (s checkpointStore) take(ctx context.Context, id identity.AgentID, nonce string) (checkpoint, error) {
	c := checkpoint{dir: s.dirOf(id) + takenSuffix}
	if err := os.RemoveAll(c.dir); err != nil {
		return c, err
	}
	err := os.Rename(s.dirOf(id), c.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return c, runtime.ErrNoCheckpoint
	}
	if err == nil {
		c.meta, err = readMeta(c.dir)
	}
	if err == nil && c.meta.Nonce != nonce {
		err = runtime.ErrNoCheckpoint
	}
	if err == nil {
		err = expand(ctx, c.dir)
	}
	if err != nil {
		return c, errors.Join(err, c.discard())
	}
	return c, nil
}

func (c checkpoint) discard() error { return os.RemoveAll(c.dir) }

// remove deletes what the store has of an agent.
func (s checkpointStore) remove(id identity.AgentID) error {
	if s.dir == "" {
		return nil
	}
	return errors.Join(os.RemoveAll(s.dirOf(id)), os.RemoveAll(s.dirOf(id)+dumpSuffix), os.RemoveAll(s.dirOf(id)+takenSuffix))
}

// fits returns ErrNoCheckpoint unless the machine and the home are those of the checkpoint.
func (c checkpoint) fits(a agent, machine string) error {
	if c.meta.Machine != machine {
		return fmt.Errorf("%w: the machine or its programs have changed", runtime.ErrNoCheckpoint)
	}
	if id, err := identify(a.home); err != nil || id != c.meta.Home {
		return errors.Join(fmt.Errorf("%w: the home is another one", runtime.ErrNoCheckpoint), err)
	}
	for path, want := range c.meta.Files {
		got, err := stateOf(filepath.Join(a.home, path))
		if err != nil || got != want {
			return errors.Join(fmt.Errorf("%w: %s has changed", runtime.ErrNoCheckpoint, path), err)
		}
	}
	return nil
}
