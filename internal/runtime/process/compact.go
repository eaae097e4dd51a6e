package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

const (
	// compactAfter is how old a checkpoint is when it is compressed. Source: 2 s of CPU time, and 1 s
	// more at the wake, for a quarter of the memory.
	compactAfter = time.Minute
	// tidyInterval is the pause between two searches for what could not be deleted of the disk.
	tidyInterval = 10 * time.Minute
	// packRatio is how many times smaller a checkpoint is at least when it is compressed. Source: docs/checkpoints.md.
	packRatio = 3
	// compactInterval is the pause between two searches for checkpoints to compress.
	compactInterval = 5 * time.Second
)

// compaction is the work on checkpoints of gateways that are suspended: compression, and moves to
// the disk. It is done on one at a time, makes way for gateways that are resumed and for turns, and
// does not have the agent's lock, which is taken only to make the result valid.
type compaction struct {
	more chan struct{} // has an element if a move is wanted
	way  way

	mu     sync.Mutex
	id     identity.AgentID           // of the checkpoint that is worked on; guarded by mu; empty: none
	cancel func()                     // guarded by mu
	moves  []identity.AgentID         // checkpoints that are to move to the disk, in their order; guarded by mu
	failed map[identity.AgentID]error // why the last move of a checkpoint has failed, until that was told; guarded by mu
}

func newCompaction() *compaction {
	return &compaction{more: make(chan struct{}, 1), way: way{busy: processorsWanted}, failed: map[identity.AgentID]error{}}
}

// begin returns the context of the work on a checkpoint.
func (c *compaction) begin(ctx context.Context, id identity.AgentID) (limited context.Context, end func()) {
	limited, cancel := context.WithCancel(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.id, c.cancel = id, cancel
	return limited, func() {
		cancel()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.id, c.cancel = "", nil
	}
}

// interrupt ends the work on an agent's checkpoint, which is resumed or removed.
func (c *compaction) interrupt(id identity.AgentID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.id == id {
		c.cancel()
	}
	c.moves = slices.DeleteFunc(c.moves, func(other identity.AgentID) bool { return other == id })
	delete(c.failed, id)
}

// want adds a checkpoint to those that are to move. It returns why its last move has failed, once.
func (c *compaction) want(id identity.AgentID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.failed[id]; err != nil {
		delete(c.failed, id)
		return err
	}
	if !slices.Contains(c.moves, id) {
		c.moves = append(c.moves, id)
	}
	select {
	case c.more <- struct{}{}:
	default:
	}
	return nil
}

// coming returns the checkpoints that are to move to the disk.
func (c *compaction) coming() []identity.AgentID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.moves)
}

// next returns the checkpoint that is to move first.
func (c *compaction) next() (id identity.AgentID, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.moves) == 0 {
		return "", false
	}
	return c.moves[0], true
}

// moved ends the wish for a move.
func (c *compaction) moved(id identity.AgentID, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.moves, id)
	if i < 0 {
		return // interrupted
	}
	c.moves = slices.Delete(c.moves, i, i+1)
	if err != nil {
		c.failed[id] = err
	}
}

// MoveToDisk implements runtime.Suspender.
func (d *Driver) MoveToDisk(_ context.Context, place runtime.Place, id identity.AgentID) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	rec, err := a.record()
	if err == nil {
		err = d.moveToDisk(a, rec, place)
	}
	if err != nil {
		return fmt.Errorf("move the checkpoint of %s to the disk: %w", id, err)
	}
	return nil
}

func (d *Driver) moveToDisk(a agent, rec record, place runtime.Place) error {
	if rec.Place != place || !d.isSuspended(a, rec) {
		return runtime.ErrNoCheckpoint
	}
	x, err := d.checkpoints.index(a.id)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if x.Disk {
		return nil
	}
	if d.checkpoints.disk.budget == 0 {
		return runtime.ErrNoDiskRoom
	}
	least := int64(1) // how small it is compressed is not known yet
	if err == nil {
		least = d.checkpoints.size(a.id)
	}
	if err := d.checkpoints.disk.checkRoom(least); err != nil {
		return err
	}
	return d.compaction.want(a.id)
}

// compactRegularly compresses the checkpoints that are not used soon, and moves those to the disk
// that are to, until ctx ends.
func (d *Driver) compactRegularly(ctx context.Context) {
	if d.checkpoints.dir == "" {
		return
	}
	lowerPriority()
	if err := d.tidyCheckpoints(); err != nil {
		d.settings.Log.ErrorContext(ctx, "removing what is left of checkpoints failed", "error", err)
	}
	tick, tidy := time.NewTicker(compactInterval), time.NewTicker(tidyInterval)
	defer tick.Stop()
	defer tidy.Stop()
	for {
		d.moveAll(ctx)
		select {
		case <-ctx.Done():
			return
		case <-d.compaction.more:
			continue
		case <-tidy.C:
			if err := d.tidyDisk(); err != nil {
				d.settings.Log.WarnContext(ctx, "removing what is left of checkpoints failed", "error", err)
			}
			continue
		case <-tick.C:
		}
		for _, id := range d.checkpoints.ids() {
			if err := d.compact(ctx, id, compactAfter); err != nil && ctx.Err() == nil {
				d.settings.Log.WarnContext(ctx, "compressing a checkpoint failed", "agent", id, "error", err)
			}
			d.moveAll(ctx)
		}
	}
}

// moveAll moves the checkpoints to the disk that are to.
func (d *Driver) moveAll(ctx context.Context) {
	for ctx.Err() == nil {
		id, ok := d.compaction.next()
		if !ok {
			return
		}
		err := d.move(ctx, id)
		if err != nil && ctx.Err() == nil {
			d.settings.Log.WarnContext(ctx, "moving a checkpoint to the disk failed", "agent", id, "error", err)
		}
		d.compaction.moved(id, err)
	}
}

// compact compresses the checkpoint of an agent, if there is one that is old enough.
func (d *Driver) compact(ctx context.Context, id identity.AgentID, age time.Duration) error {
	dir := d.checkpoints.dirOf(id)
	st, err := os.Stat(filepath.Join(dir, metaName))
	if err != nil || time.Since(st.ModTime()) < age || fileExists(dir, indexName) {
		return ignoreMissing(err)
	}
	return d.rework(ctx, id, func(ctx context.Context, dir *os.Root, x *packIndex) (commit func() error, err error) {
		if x != nil {
			return nil, nil
		}
		out, err := dir.OpenFile(packName+newSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return nil, err
		}
		files, err := packFiles(ctx, dir, &packer{out: out, wait: d.compaction.way.waiter()})
		if err = errors.Join(err, out.Close()); err != nil {
			return nil, errors.Join(err, dir.Remove(packName+newSuffix))
		}
		return func() error {
			return errors.Join(dir.Rename(packName+newSuffix, packName), writeIndex(dir, packIndex{Form: packForm, Files: files}))
		}, nil
	})
}

// move moves the checkpoint of an agent to the disk, if there is one.
func (d *Driver) move(ctx context.Context, id identity.AgentID) error {
	disk := d.checkpoints.disk
	return d.rework(ctx, id, func(ctx context.Context, dir *os.Root, x *packIndex) (commit func() error, err error) {
		if x != nil && x.Disk {
			return nil, nil
		}
		written := packIndex{Disk: true, Form: packForm}
		if x != nil {
			written.Form = x.Form
		}
		if !disk.plain {
			written.Key = newKey()
		}
		if written.Files, err = disk.write(ctx, id, dir, x, written.Key, d.compaction.way.waiter()); err != nil {
			return nil, errors.Join(err, ignoreMissing(os.Remove(disk.path(id)+newSuffix)))
		}
		return func() error {
			err := errors.Join(os.Rename(disk.path(id)+newSuffix, disk.path(id)), syncDir(disk.dir))
			if err == nil {
				err = writeIndex(dir, written)
			}
			if err != nil {
				return errors.Join(err, disk.remove(id))
			}
			return nil
		}, nil
	})
}

// write writes a checkpoint, which is packed already if x is not nil, to a pack that is not valid
// yet, and waits until the disk has it. It calls wait before each chunk.
func (c checkpointDisk) write(ctx context.Context, id identity.AgentID, dir *os.Root, x *packIndex, key []byte, wait func(context.Context) error) (files []packFile, err error) {
	s, err := newSealer(key)
	if err != nil {
		return nil, err
	}
	out, err := c.create(id)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	p := &packer{out: out, sealer: s, room: c.checkRoom, wait: wait}
	if x == nil {
		files, err = packFiles(ctx, dir, p)
	} else {
		var in *os.File
		if in, err = dir.Open(packName); err != nil {
			return nil, err
		}
		defer func() { _ = in.Close() }()
		files, err = repack(ctx, *x, in, p)
	}
	if err != nil {
		return nil, err
	}
	return files, out.Sync()
}

// rework replaces the form of an agent's checkpoint by another one. build writes that, while the
// checkpoint can be taken or removed, and commit makes it valid; x is nil if the checkpoint has no
// pack. Whatever fails, or is interrupted, the checkpoint is as it was. What is not needed any more
// is deleted last.
func (d *Driver) rework(ctx context.Context, id identity.AgentID, build func(ctx context.Context, dir *os.Root, x *packIndex) (commit func() error, err error)) error {
	ctx, end := d.compaction.begin(ctx, id)
	defer end()
	dir, err := os.OpenRoot(d.checkpoints.dirOf(id)) // stays the same directory when it is renamed
	if err != nil {
		return ignoreMissing(err)
	}
	defer func() { _ = dir.Close() }()
	var before *packIndex
	if x, err := readIndex(dir); err == nil {
		before = &x
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	commit, err := build(ctx, dir, before)
	switch {
	case err != nil && (ctx.Err() != nil || !d.checkpoints.isCurrent(id, dir)):
		return nil // it was taken or removed meanwhile
	case err != nil || commit == nil:
		return err
	}
	defer d.lock(id)()
	if ctx.Err() != nil || !d.checkpoints.isCurrent(id, dir) {
		return errors.Join(ignoreMissing(dir.Remove(packName+newSuffix)), ignoreMissing(os.Remove(d.checkpoints.disk.path(id)+newSuffix)))
	}
	if err := commit(); err != nil {
		return err
	}
	return tidyCheckpoint(dir)
}

// isCurrent reports whether a directory is still the checkpoint of an agent.
func (s checkpointStore) isCurrent(id identity.AgentID, dir *os.Root) bool {
	now, err := os.Stat(s.dirOf(id))
	if err != nil {
		return false
	}
	then, err := dir.Stat(".")
	return err == nil && os.SameFile(now, then)
}

// tidyCheckpoint deletes the forms of a checkpoint that its index has replaced.
func tidyCheckpoint(dir *os.Root) error {
	x, err := readIndex(dir)
	if err != nil {
		return ignoreMissing(err)
	}
	names, err := imagesIn(dir)
	if err != nil {
		return err
	}
	names = append(names, packName+newSuffix, indexName+newSuffix)
	if x.Disk {
		names = append(names, packName)
	}
	for _, name := range names {
		err = errors.Join(err, ignoreMissing(dir.Remove(name)))
	}
	return err
}

// tidyCheckpoints removes what a server that was killed has left of checkpoints, those on the disk
// that have no key although they should, and those whose keys are gone.
func (d *Driver) tidyCheckpoints() error {
	var failed error
	for _, name := range agentDirs(d.checkpoints.dir) {
		if id := identity.AgentID(strings.TrimSuffix(string(name), takenSuffix)); id != name {
			unlock := d.lock(id)
			failed = errors.Join(failed, os.RemoveAll(d.checkpoints.dirOf(name)))
			unlock()
		}
	}
	for _, id := range d.checkpoints.ids() {
		failed = errors.Join(failed, d.tidyOne(id))
	}
	return errors.Join(failed, d.tidyDisk())
}

// tidyDisk removes the checkpoints from the disk whose keys are gone, as all are after a restart of
// the machine. Nothing must be moved meanwhile.
func (d *Driver) tidyDisk() error {
	files, failed := d.checkpoints.disk.files()
	for name, id := range files {
		unlock := d.lock(id)
		if x, err := d.checkpoints.index(id); err != nil || !x.Disk || name != string(id) {
			failed = errors.Join(failed, os.RemoveAll(filepath.Join(d.checkpoints.disk.dir, name)))
		}
		unlock()
	}
	return failed
}

func (d *Driver) tidyOne(id identity.AgentID) error {
	defer d.lock(id)()
	dir, err := os.OpenRoot(d.checkpoints.dirOf(id))
	if err != nil {
		return ignoreMissing(err)
	}
	defer func() { _ = dir.Close() }()
	if x, err := readIndex(dir); err == nil && x.Disk && len(x.Key) == 0 && !d.checkpoints.disk.plain {
		return d.checkpoints.remove(id)
	}
	return tidyCheckpoint(dir)
}

// syncDir waits until the disk has the names in a directory.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Checkpoints implements runtime.Suspender.
func (d *Driver) Checkpoints(context.Context) (runtime.CheckpointUse, error) {
	return d.checkpoints.use()
}

// CheckpointUse returns what the checkpoints of an installation take. It needs no driver, only the
// directories and the installation of the settings, and changes nothing.
func CheckpointUse(s Settings) (runtime.CheckpointUse, error) {
	dir, err := resolve(s.Dir)
	if err != nil {
		return runtime.CheckpointUse{}, err
	}
	name, err := shortName(dir, s.Installation)
	if errors.Is(err, fs.ErrNotExist) {
		return runtime.CheckpointUse{}, nil
	}
	if err != nil {
		return runtime.CheckpointUse{}, err
	}
	disk := newCheckpointDisk(Settings{Dir: dir})
	for _, run := range runDirs(s.RunDir, dir) {
		secrets := secretStore{dir: filepath.Join(run, name), inMemory: true}
		if s := openCheckpointStore(secrets, disk); len(s.ids()) > 0 {
			return s.use()
		}
	}
	return runtime.CheckpointUse{}, nil
}

func (s checkpointStore) use() (use runtime.CheckpointUse, err error) {
	if s.dir == "" {
		return use, nil
	}
	use.Budget, use.Plain = s.disk.budget, s.disk.plain && s.disk.budget > 0
	for _, id := range s.ids() {
		x, err := s.index(id)
		form := &use.Compressed
		switch {
		case errors.Is(err, fs.ErrNotExist):
			form = &use.Fresh
		case err != nil:
			return use, err
		case x.Disk:
			form = &use.OnDisk
			form.Bytes += s.disk.size(id)
			use.Plain = use.Plain || len(x.Key) == 0
		}
		form.Count++
		if !x.Disk {
			form.Bytes += s.size(id)
		}
	}
	return use, nil
}

// DiskRoom implements runtime.Suspender.
func (d *Driver) DiskRoom(context.Context) (bytes int64, err error) {
	if d.checkpoints.dir == "" {
		return 0, nil
	}
	left, err := d.checkpoints.disk.left()
	for _, id := range d.compaction.coming() {
		bytes := d.checkpoints.size(id)
		if _, err := d.checkpoints.index(id); err != nil {
			bytes /= packRatio
		}
		left -= bytes
	}
	return left, err
}

// removeCheckpoint deletes the checkpoint of an agent and ends the work on it.
func (d *Driver) removeCheckpoint(id identity.AgentID) error {
	d.compaction.interrupt(id)
	return d.checkpoints.remove(id)
}
