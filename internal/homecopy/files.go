package homecopy

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

type stat = unix.Stat_t

func identify(st stat) identity {
	return identity{Inode: uint64(st.Ino), Size: st.Size, MTime: modTime(st), Change: changeTime(st)}
}

func modTime(st stat) int64    { return nanoseconds(st.Mtim) }
func changeTime(st stat) int64 { return nanoseconds(st.Ctim) }

func nanoseconds(t unix.Timespec) int64 { return int64(t.Sec)*1e9 + int64(t.Nsec) }

// settled reports whether a file that is read from now on would show a later change in its
// times.
func settled(st stat, now time.Time) bool {
	return now.Sub(time.Unix(0, changeTime(st))) > settleTime
}

func statAt(at place) (st stat, err error) {
	err = unix.Fstatat(int(at.dir.Fd()), at.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}

func statFile(f *os.File) (st stat, err error) {
	err = unix.Fstat(int(f.Fd()), &st)
	return st, err
}

// openFile opens a regular file. A pipe or a device that the agent has put in its place is
// not waited for. Errors: errGone.
func openFile(at place) (*os.File, stat, error) { return openAt(at, unix.O_RDONLY) }

func openAt(at place, how int) (*os.File, stat, error) {
	fd, err := unix.Openat(int(at.dir.Fd()), at.name, how|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV), errors.Is(err, unix.EISDIR):
		return nil, stat{}, errGone
	case err != nil: // a lease that the agent has on it, for example
		return nil, stat{}, &fileError{err}
	}
	f := os.NewFile(uintptr(fd), at.name)
	st, err := statFile(f)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errGone
	}
	if err != nil {
		_ = f.Close()
		return nil, stat{}, err
	}
	return f, st, nil
}

// openDir opens a directory. Errors: errGone.
func openDir(at place) (*os.File, error) {
	fd, err := unix.Openat(int(at.dir.Fd()), at.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
		return nil, errGone
	case err != nil:
		return nil, err
	}
	return os.NewFile(uintptr(fd), at.name), nil
}

// readNames returns the names in a directory, sorted. Errors: ErrTooMany.
func readNames(ctx context.Context, dir *os.File) ([]string, error) {
	var names []string
	for {
		some, err := dir.Readdirnames(4096)
		names = append(names, some...)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, fs.ErrNotExist), err == nil && len(some) == 0:
			slices.Sort(names)
			return names, nil
		case err != nil:
			return nil, &fileError{err}
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case len(names) > maxEntries:
			return nil, ErrTooMany
		}
	}
}

// readLink returns where a link leads; empty if it is no link any more.
func readLink(at place) string {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(at.dir.Fd()), at.name, buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

// fileReader reads parts of a file, at most size bytes in all.
type fileReader struct {
	ctx  context.Context
	file *os.File
	left []Range
}

// newFileReader returns a reader of the data of a file, or of its first size bytes if data is
// nil. It ends early if the file has got shorter.
func newFileReader(ctx context.Context, f *os.File, data []Range, size int64) *fileReader {
	if data == nil {
		data = []Range{{0, size}}
	}
	return &fileReader{ctx, f, slices.Clone(data)}
}

// Read implements io.Reader.
func (r *fileReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	for len(r.left) > 0 && r.left[0].Length == 0 {
		r.left = r.left[1:]
	}
	if len(r.left) == 0 {
		return 0, io.EOF
	}
	at := &r.left[0]
	n, err := r.file.ReadAt(p[:min(int64(len(p)), at.Length)], at.Offset)
	at.Offset += int64(n)
	at.Length -= int64(n)
	if errors.Is(err, io.EOF) {
		r.left = nil
		err = nil
		if n == 0 {
			return 0, io.EOF
		}
	}
	if err != nil {
		err = &fileError{err}
	}
	return n, err
}
