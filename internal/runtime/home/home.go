// Package home is an agent's directory on a local disk. The agent is hostile.
// Whatever links, pipes or deep trees it creates there, the server reads and writes
// nothing outside of the directory, never blocks, and can always delete it. It imports
// nothing of the server, so that small programs can have it.
package home

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrTooLarge means that a file, or a directory, is larger than the limit.
var ErrTooLarge = errors.New("file too large")

// Entry is a file or directory of a home.
type Entry struct {
	Name    string
	Dir     bool
	Size    int64
	ModTime time.Time
}

// maxEntries limits what ReadDir returns, so that an agent cannot fill the server's
// memory with names.
const maxEntries = 100_000

// Owner is the user that owns the agent's files. The zero Owner is the server's own
// user.
type Owner struct {
	UID, GID int
}

// Settings are the paths of a home.
type Settings struct {
	Dir   string // the home itself; created if missing
	Trash string // a directory on the same file system, beside Dir, that the agent cannot reach
	Owner Owner
}

// Dir is an open home. It implements runtime.Home.
type Dir struct {
	ctx   context.Context // of Open: it bounds all that the caller does with the home
	root  *os.Root
	trash string
	owner Owner
}

// Open opens a home. It creates one that does not exist. The agent must not be able
// to replace Dir itself. When ctx ends, the methods of the home fail with its error.
func Open(ctx context.Context, s Settings) (*Dir, error) {
	err := os.Mkdir(s.Dir, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("create home: %w", err)
	}
	created := err == nil
	root, err := os.OpenRoot(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("open home: %w", err)
	}
	d := &Dir{ctx: ctx, root: root, trash: s.Trash, owner: s.Owner}
	if created {
		err = d.chown(".")
	}
	if err != nil {
		_ = root.Close()
		return nil, fmt.Errorf("create home: %w", err)
	}
	return d, nil
}

// Close implements runtime.Home.
func (d *Dir) Close() error { return d.root.Close() }

// ReadFile implements runtime.Home. It fails for anything but a regular file.
func (d *Dir) ReadFile(name string, limit int64) ([]byte, error) {
	if err := d.ctx.Err(); err != nil {
		return nil, err
	}
	if err := d.checkRegular(d.root.Stat(name)); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	// The agent may have replaced the file by a pipe since: opening must not block.
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if err := d.checkRegular(f.Stat()); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: %w", name, ErrTooLarge)
	}
	return data, nil
}

func (*Dir) checkRegular(st fs.FileInfo, err error) error {
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	return nil
}

// WriteFile implements runtime.Home. The agent owns the file. A new file has mode
// 0600; one that exists keeps its permissions. A symbolic link is replaced, not
// followed. What else is in the way is moved aside, in the same directory: a directory with
// the name of the file, or something that is no directory of the home where one should be.
// Otherwise the agent could make itself unstartable.
func (d *Dir) WriteFile(name string, data []byte) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	name = path.Clean(name)
	dir, base := path.Split(name)
	if err := d.makeAll(path.Clean("./" + dir)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	mode := fs.FileMode(0o600)
	if st, err := d.root.Lstat(name); err == nil && st.Mode().IsRegular() {
		mode = st.Mode().Perm()
	}
	temp := dir + ".agento-" + rand.Text()
	if err := d.writeNew(temp, mode, data); err != nil {
		_ = d.root.Remove(temp)
		return fmt.Errorf("write %s: %w", name, err)
	}
	err := d.root.Rename(temp, dir+base)
	if st, there := d.root.Lstat(name); err != nil && there == nil && st.IsDir() && name != "." {
		if err = d.moveAside(name); err == nil {
			err = d.root.Rename(temp, dir+base)
		}
	}
	if err != nil {
		_ = d.root.Remove(temp)
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func (d *Dir) writeNew(name string, mode fs.FileMode, data []byte) error {
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && d.owner != (Owner{}) {
		err = f.Chown(d.owner.UID, d.owner.GID)
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// makeAll creates a directory and its missing parents, all owned by the agent.
func (d *Dir) makeAll(dir string) error {
	if dir == "." {
		return nil
	}
	created := ""
	for part := range strings.SplitSeq(dir, "/") {
		created = path.Join(created, part)
		if part == ".." {
			created = dir // create nothing on the way: os.Root rejects the whole path
		}
		if err := d.makeOne(created); err != nil {
			return err
		}
	}
	return nil
}

// makeOne creates a directory that the agent owns from the first moment. If it
// changed the owner afterwards and the server died in between, the agent could not
// enter the directory, and OpenClaw would refuse to start.
func (d *Dir) makeOne(name string) error {
	if st, err := d.root.Stat(name); err == nil && st.IsDir() {
		return nil
	}
	if _, err := d.root.Lstat(name); err == nil {
		if err := d.moveAside(name); err != nil {
			return err
		}
	}
	temp := path.Join(path.Dir(name), ".agento-"+rand.Text())
	err := d.root.Mkdir(temp, 0o700)
	if err != nil {
		return err
	}
	if err = d.chown(temp); err == nil {
		err = d.root.Rename(temp, name)
	}
	if err == nil {
		return nil
	}
	_ = d.root.Remove(temp)
	if _, there := d.root.Lstat(name); there == nil {
		return nil // another process has created it
	}
	return err
}

// moveAside renames something of the agent's, which keeps it.
func (d *Dir) moveAside(name string) error {
	return d.root.Rename(name, path.Join(path.Dir(name), ".moved-"+rand.Text()))
}

func (d *Dir) chown(name string) error {
	if d.owner == (Owner{}) {
		return nil
	}
	return d.root.Lchown(name, d.owner.UID, d.owner.GID)
}

// ReadDir implements runtime.Home. It returns ErrTooLarge for a directory of more
// than 100,000 entries.
func (d *Dir) ReadDir(name string) ([]Entry, error) {
	if err := d.ctx.Err(); err != nil {
		return nil, err
	}
	st, err := d.root.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return nil, fmt.Errorf("list %s: %w", name, syscall.ENOTDIR)
	}
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	names, err := f.Readdirnames(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(names) > maxEntries {
		return nil, fmt.Errorf("list %s: %w", name, ErrTooLarge)
	}
	slices.Sort(names)
	return d.entries(name, names), d.ctx.Err()
}

func (d *Dir) entries(dir string, names []string) []Entry {
	out := make([]Entry, 0, len(names))
	for _, n := range names {
		if d.ctx.Err() != nil {
			break
		}
		st, err := d.root.Lstat(path.Join(dir, n))
		if err != nil {
			continue // the agent has deleted it meanwhile
		}
		out = append(out, Entry{Name: n, Dir: st.IsDir(), Size: st.Size(), ModTime: st.ModTime()})
	}
	return out
}

// RemoveAll implements runtime.Home. A directory that is not empty goes to the trash,
// where whoever has it as working directory can still add to it: only the owner of the
// trash, who knows when the gateway has ended, can purge it.
func (d *Dir) RemoveAll(name string) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	name = path.Clean(name)
	st, err := d.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case name == ".":
		return errors.New("remove .: only Driver.Remove deletes a home")
	case !st.IsDir():
		return ignoreMissing(d.root.Remove(name))
	}
	if err := ignoreMissing(d.root.Remove(name)); err == nil {
		return nil // it was empty
	}
	if err := d.discard(name); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// discard moves a directory from the home to the trash.
func (d *Dir) discard(name string) error {
	if err := os.MkdirAll(d.trash, 0o700); err != nil {
		return err
	}
	trash, err := os.Open(d.trash)
	if err != nil {
		return err
	}
	defer func() { _ = trash.Close() }()
	parent, err := d.root.OpenFile(path.Dir(name), os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = parent.Close() }()
	// A directory cannot be moved if its owner may not write to it.
	_ = d.root.Chmod(name, 0o700)
	return unix.Renameat(int(parent.Fd()), path.Base(name), int(trash.Fd()), rand.Text())
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
