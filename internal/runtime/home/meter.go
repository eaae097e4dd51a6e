package home

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Used is what the files of an agent use. It is what runtime.Disk is, which says more.
type Used struct {
	Bytes  int64
	Files  int64
	Hidden bool
}

// maxDepth is how deeply nested a directory may be that a Meter enters: it keeps all that
// lead to it open. Source: the deepest that npm makes are at about 50.
const maxDepth = 256

// Meter measures what the files of an agent use, a few at a time. The agent may change them
// meanwhile. It follows no links.
type Meter struct {
	dirs  []string // that are not measured yet
	stack []level  // the directory that is being read, and those above it
	used  Used
}

// level is an open directory of which a part was read.
type level struct {
	file  *os.File
	names []string // entries that were read and are not counted yet
}

// NewMeter returns a meter of directories. Those that do not exist are empty. The caller
// closes it.
func NewMeter(dirs ...string) *Meter { return &Meter{dirs: dirs} }

// Used returns what was measured until now.
func (m *Meter) Used() Used { return m.used }

// Close closes all directories.
func (m *Meter) Close() {
	for _, l := range m.stack {
		_ = l.file.Close()
	}
	m.stack = nil
}

// Step counts at most so many entries. It reports whether all were counted.
// Errors: ctx's, when it ends first; those of the file system.
func (m *Meter) Step(ctx context.Context, entries int) (done bool, err error) {
	for range entries {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if done, err := m.next(); done || err != nil {
			return done, err
		}
	}
	return false, nil
}

// next counts one entry, or turns to the next directory.
func (m *Meter) next() (done bool, err error) {
	if len(m.stack) == 0 {
		return m.nextTop()
	}
	top := &m.stack[len(m.stack)-1]
	if len(top.names) == 0 {
		top.names, err = top.file.Readdirnames(1000)
		if len(top.names) == 0 {
			m.stack = m.stack[:len(m.stack)-1]
			closeErr := top.file.Close()
			if errors.Is(err, io.EOF) || errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
			return false, errors.Join(err, closeErr)
		}
	}
	name := top.names[0]
	top.names = top.names[1:]
	return false, m.count(top.file, name)
}

func (m *Meter) nextTop() (done bool, err error) {
	if len(m.dirs) == 0 {
		return true, nil
	}
	dir := m.dirs[0]
	m.dirs = m.dirs[1:]
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err == nil {
		m.stack = append(m.stack, level{file: f})
	}
	return false, ignoreMissing(err)
}

// count counts an entry of a directory, and enters it if it is a directory.
func (m *Meter) count(parent *os.File, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(parent.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return ignoreMissing(err) // the agent has deleted it meanwhile
	}
	m.used.Files++
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		m.used.Bytes += st.Blocks * 512 / max(1, int64(st.Nlink)) // the rest is counted with its other names
		return nil
	}
	m.used.Bytes += st.Blocks * 512
	if len(m.stack) >= maxDepth {
		m.used.Hidden = true
		return nil
	}
	fd, err := unix.Openat(int(parent.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		m.stack = append(m.stack, level{file: os.NewFile(uintptr(fd), name)})
		return nil
	case errors.Is(err, unix.EACCES): // to the server, if that is an ordinary user
		m.used.Hidden = true
		return nil
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP): // it was replaced meanwhile
		return nil
	}
	return ignoreMissing(err)
}
