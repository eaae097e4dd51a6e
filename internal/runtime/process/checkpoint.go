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
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// checkpointStore has the checkpoints of suspended gateways: in each the memory of a process, with
// the agent's secrets and conversations. So they are where only root can read, on a memory
// file system, which a reboot empties and no backup has. One that is not used for a while moves to
// a disk, and leaves here the key that it is sealed with.
//
// A checkpoint is a directory. At first it has the files that criu has written. When it has an
// index, they are in the pack that the index is of, here or on the disk; what else there is then
// was left by a server that was killed.
type checkpointStore struct {
	dir      string // on a memory file system; a directory for each agent
	disk     checkpointDisk
	promised *atomic.Int64 // bytes that are being written by those who have asked for room
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
	Files     map[string]fileState `json:"files"`     // the gateway has open, by their paths in the sandbox
	Libraries map[string]fileState `json:"libraries"` // of the system, by their paths
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
	dumpSuffix    = newSuffix // of a directory that criu writes to
	takenSuffix   = ".used"   // of one that was taken
	memoryReserve = 512 << 20 // for everything else
)

// openCheckpointStore returns the store beside the secrets. Without a memory file system there is
// none. Every program knows it, so that what it stops or removes leaves no checkpoint.
func openCheckpointStore(secrets secretStore, disk checkpointDisk) checkpointStore {
	if !secrets.inMemory {
		return checkpointStore{}
	}
	return checkpointStore{dir: secrets.dir + ".checkpoints", disk: disk, promised: &atomic.Int64{}}
}

// ids lists the agents of which there are valid checkpoints.
func (s checkpointStore) ids() []identity.AgentID {
	return slices.DeleteFunc(agentDirs(s.dir), func(id identity.AgentID) bool {
		return strings.HasSuffix(string(id), dumpSuffix) || strings.HasSuffix(string(id), takenSuffix)
	})
}

func (s checkpointStore) dirOf(id identity.AgentID) string { return filepath.Join(s.dir, string(id)) }

// index returns the index of the pack of an agent's checkpoint. Errors: fs.ErrNotExist, if the
// checkpoint is as criu has written it, or if there is none.
func (s checkpointStore) index(id identity.AgentID) (packIndex, error) {
	dir, err := os.OpenRoot(s.dirOf(id))
	if err != nil {
		return packIndex{}, err
	}
	defer func() { _ = dir.Close() }()
	return readIndex(dir)
}

// takeRoom promises memory for the files of a checkpoint until done is called, when they are written.
// It refuses what the machine does not have beside what it has promised to others.
func (s checkpointStore) takeRoom(bytes int64) (done func(), err error) {
	available, err := availableMemory()
	if err != nil {
		return nil, err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(s.dir), &fs); err != nil {
		return nil, err
	}
	// What of a promise is written already counts twice, for the second that it takes.
	if promised := s.promised.Add(bytes); min(available-memoryReserve, freeBytes(fs)) < promised {
		s.promised.Add(-bytes)
		return nil, &runtime.SuspendError{Missing: "the machine has no memory left for its checkpoint"}
	}
	return sync.OnceFunc(func() { s.promised.Add(-bytes) }), nil
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
		err = s.expand(ctx, id, c.dir)
	}
	if err != nil {
		return c, errors.Join(err, c.discard(), s.disk.remove(id))
	}
	return c, nil
}

// expand makes the files of a checkpoint that was taken as criu has written them. Nothing of its
// pack is left.
func (s checkpointStore) expand(ctx context.Context, id identity.AgentID, path string) error {
	dir, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	x, err := readIndex(dir)
	if err != nil {
		return ignoreMissing(err)
	}
	var pack *os.File
	if x.Disk {
		pack, err = os.Open(s.disk.path(id))
	} else {
		pack, err = dir.Open(packName)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return runtime.ErrNoCheckpoint
	}
	if err != nil {
		return err
	}
	defer func() { _ = pack.Close() }()
	written, err := s.takeRoom(x.size())
	if err != nil {
		return fmt.Errorf("%w: %w", runtime.ErrNoCheckpoint, err)
	}
	defer written()
	// From here on nobody else can use it, whatever happens to this server.
	if err := errors.Join(dir.Remove(indexName), s.disk.remove(id)); err != nil {
		return err
	}
	if err := unpack(ctx, x, pack, dir); err != nil {
		return fmt.Errorf("unpack a checkpoint: %w", err)
	}
	return ignoreMissing(dir.Remove(packName))
}

func (c checkpoint) discard() error { return os.RemoveAll(c.dir) }

// remove deletes what the store has of an agent.
func (s checkpointStore) remove(id identity.AgentID) error {
	if s.dir == "" {
		return nil
	}
	return errors.Join(os.RemoveAll(s.dirOf(id)), os.RemoveAll(s.dirOf(id)+dumpSuffix), os.RemoveAll(s.dirOf(id)+takenSuffix), s.disk.remove(id))
}

// stored returns how much of a disk the checkpoint of an agent takes; 0: it is in memory.
func (s checkpointStore) stored(id identity.AgentID) int64 {
	bytes := s.disk.size(id)
	if bytes == 0 {
		return 0
	}
	if x, err := s.index(id); err != nil || !x.Disk {
		return 0 // it is being moved
	}
	return bytes
}

// size returns how much memory the checkpoint of an agent takes.
func (s checkpointStore) size(id identity.AgentID) (bytes int64) {
	entries, err := os.ReadDir(s.dirOf(id))
	if err != nil {
		return 0
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			bytes += info.Size()
		}
	}
	return bytes
}

// state returns how a suspended gateway is.
func (s checkpointStore) state(id identity.AgentID) runtime.State {
	st := runtime.State{Phase: runtime.Suspended, ExitCode: -1, MemoryBytes: s.size(id), StoredBytes: s.stored(id)}
	if x, err := s.index(id); err == nil {
		st.ExtraBytes = x.size()
	} else {
		st.ExtraBytes = st.MemoryBytes / packRatio // it can be compressed before the wake
	}
	return st
}

// fits returns ErrNoCheckpoint unless the machine and the home are those of the checkpoint.
func (c checkpoint) fits(a agent, machine string) error {
	if c.meta.Machine != machine {
		return fmt.Errorf("%w: the machine or its programs have changed", runtime.ErrNoCheckpoint)
	}
	if id, err := identify(a.home); err != nil || id != c.meta.Home {
		return errors.Join(fmt.Errorf("%w: the home is another one", runtime.ErrNoCheckpoint), err)
	}
	for path, want := range c.meta.Libraries {
		if got, err := stateOf(path); err != nil || got != want {
			return errors.Join(fmt.Errorf("%w: %s has changed", runtime.ErrNoCheckpoint, path), err)
		}
	}
	for path, want := range c.meta.Files {
		got, err := stateOf(filepath.Join(a.home, path))
		if err != nil || got != want {
			return errors.Join(fmt.Errorf("%w: %s has changed", runtime.ErrNoCheckpoint, path), err)
		}
	}
	return nil
}
