// Package home is an agent's directory on a local disk. The agent is hostile:
// whatever links, pipes or depths it leaves there, the server reads and writes
// nothing outside of it, never blocks, and can always delete it.
package home

import (
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

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/runtime"
)

// maxEntries bounds what ReadDir returns, so that an agent cannot fill the
// server's memory with names.
const maxEntries = 100_000

// Owner is the user that the agent's files belong to. The zero Owner leaves
// them to the server's own user.
type Owner struct {
	UID, GID int
}

// Settings say where a home is.
type Settings struct {
	Dir   string // the home itself; made if missing
	Trash string // a directory on the same file system, beside Dir, out of the agent's reach
	Owner Owner
}

// Dir is a home; it implements runtime.Home.
type Dir struct {
	root  *os.Root
	trash string
	owner Owner
}

// Open opens a home, making it first if it does not exist. Dir itself must not
// be within the agent's reach.
func Open(s Settings) (*Dir, error) {
	err := os.Mkdir(s.Dir, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make home: %w", err)
	}
	made := err == nil
	root, err := os.OpenRoot(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("open home: %w", err)
	}
	d := &Dir{root: root, trash: s.Trash, owner: s.Owner}
	if made {
		err = d.own(".")
	}
	if err != nil {
		_ = root.Close()
		return nil, fmt.Errorf("make home: %w", err)
	}
	return d, nil
}

// Close implements runtime.Home.
func (d *Dir) Close() error { return d.root.Close() }

// ReadFile implements runtime.Home. What is not a regular file is an error.
func (d *Dir) ReadFile(name string, limit int64) ([]byte, error) {
	if err := d.regular(d.root.Stat(name)); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	// The agent may have put a pipe there since: opening must not wait for it.
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if err := d.regular(f.Stat()); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: %w", name, runtime.ErrTooLarge)
	}
	return data, nil
}

func (*Dir) regular(st fs.FileInfo, err error) error {
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	return nil
}

// WriteFile implements runtime.Home. The file belongs to the agent and keeps
// the permissions of the one it replaces; a new one is 0600. A link at name is
// replaced, not followed.
func (d *Dir) WriteFile(name string, data []byte) error {
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
	if err := d.root.Rename(temp, dir+base); err != nil {
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

// makeAll makes a directory and those above it, each belonging to the agent.
func (d *Dir) makeAll(dir string) error {
	if dir == "." {
		return nil
	}
	made := ""
	for part := range strings.SplitSeq(dir, "/") {
		made = path.Join(made, part)
		if part == ".." {
			made = dir // nothing made on the way: os.Root refuses the whole
		}
		if err := d.makeOne(made); err != nil {
			return err
		}
	}
	return nil
}

// makeOne makes a directory that belongs to the agent from its first moment. Were
// it made first and given away then, a server that dies in between would leave one
// that the agent cannot enter, for which OpenClaw refuses to start.
func (d *Dir) makeOne(name string) error {
	if _, err := d.root.Lstat(name); err == nil {
		return nil // or a file, as the next step finds out
	}
	temp := path.Join(path.Dir(name), ".agento-"+rand.Text())
	err := d.root.Mkdir(temp, 0o700)
	if err != nil {
		return err
	}
	if err = d.own(temp); err == nil {
		err = d.root.Rename(temp, name)
	}
	if err == nil {
		return nil
	}
	_ = d.root.Remove(temp)
	if _, there := d.root.Lstat(name); there == nil {
		return nil // made by somebody else meanwhile
	}
	return err
}

func (d *Dir) own(name string) error {
	if d.owner == (Owner{}) {
		return nil
	}
	return d.root.Lchown(name, d.owner.UID, d.owner.GID)
}

// ReadDir implements runtime.Home. A directory of more than 100,000 entries is
// ErrTooLarge.
func (d *Dir) ReadDir(name string) ([]runtime.Entry, error) {
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
		return nil, fmt.Errorf("list %s: %w", name, runtime.ErrTooLarge)
	}
	slices.Sort(names)
	return d.entries(name, names), nil
}

func (d *Dir) entries(dir string, names []string) []runtime.Entry {
	out := make([]runtime.Entry, 0, len(names))
	for _, n := range names {
		st, err := d.root.Lstat(path.Join(dir, n))
		if err != nil {
			continue // the agent has deleted it since
		}
		out = append(out, runtime.Entry{Name: n, Dir: st.IsDir(), Size: st.Size(), At: st.ModTime()})
	}
	return out
}

// RemoveAll implements runtime.Home. A tree is gone for the agent in one step,
// however long its deletion takes.
func (d *Dir) RemoveAll(name string) error {
	name = path.Clean(name)
	st, err := d.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case name == ".":
		return errors.New("remove .: a home is removed by its driver")
	case !st.IsDir():
		return ignoreMissing(d.root.Remove(name))
	}
	doomed, err := d.discard(name)
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return Purge(doomed)
}

// discard moves a directory out of the home.
func (d *Dir) discard(name string) (string, error) {
	if err := os.MkdirAll(d.trash, 0o700); err != nil {
		return "", err
	}
	trash, err := os.Open(d.trash)
	if err != nil {
		return "", err
	}
	defer func() { _ = trash.Close() }()
	parent, err := d.root.OpenFile(path.Dir(name), os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = parent.Close() }()
	// A directory that its owner may not write cannot be moved.
	_ = d.root.Chmod(name, 0o700)
	to := rand.Text()
	if err := unix.Renameat(int(parent.Fd()), path.Base(name), int(trash.Fd()), to); err != nil {
		return "", err
	}
	return path.Join(d.trash, to), nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
