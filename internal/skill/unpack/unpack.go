// Package unpack reads untrusted archives. It returns a set of plain files or an
// error, never a part of the files, and writes nothing to disk.
//
// The rules are written here and not taken from a library. The path rules of
// golang.org/x/mod/module and of path/filepath differ (spaces, Unicode, device
// names on the current system only), and libraries that unpack archives write to
// disk; either would change which skills are accepted.
package unpack

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Limits bound what an archive may hold. The zero value allows nothing.
type Limits struct {
	Entries    int   // files and directories, including those that are not selected
	Files      int   // selected files
	FileBytes  int64 // one file, unpacked
	TotalBytes int64 // all selected files, unpacked
	ReadBytes  int64 // everything unpacked, selected or not (tar only)
	Ratio      int64 // unpacked size of a file over its packed size; for tar, of the whole archive
}

// Skill bounds one skill: 2 MiB, which is what the database keeps.
var Skill = Limits{Entries: 600, Files: 256, FileBytes: 1 << 20, TotalBytes: 2 << 20, ReadBytes: 8 << 20, Ratio: 150}

// Repository bounds the archive of a whole repository of which one folder is
// selected; the selected files have the bounds of Skill. The files beside it are read and thrown
// away, so only their size is bounded: the ratio is more than gzip can reach.
var Repository = Limits{Entries: 200_000, Files: 256, FileBytes: 1 << 20, TotalBytes: 2 << 20, ReadBytes: 1 << 30, Ratio: 1100}

// minRatioSize is the unpacked size in bytes below which the ratio is not checked:
// a few kilobytes of one repeated character are no attack.
const minRatioSize = 64 << 10

// ErrUnsafe is in the chain of every error for an archive that is larger than
// allowed or that holds what a skill must not hold, such as a link.
var ErrUnsafe = errors.New("unsafe archive")

// ErrBroken is in the chain of every error for an archive that cannot be read.
var ErrBroken = errors.New("broken archive")

func unsafe(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnsafe, fmt.Sprintf(format, args...))
}

func broken(err error) error { return fmt.Errorf("%w: %w", ErrBroken, err) }

// Select reports whether the file at a path of the archive is selected, and
// returns the path it gets, which is then checked. Any path can occur, such as one that is
// absolute.
type Select func(path string) (as string, ok bool)

// All selects every file under its own path.
func All(p string) (string, bool) { return p, true }

// Under selects the files below dir and drops that prefix; "" selects everything.
func Under(dir string) Select {
	if dir == "" {
		return All
	}
	return func(p string) (string, bool) { return strings.CutPrefix(p, dir+"/") }
}

// Visible selects what sel selects except hidden files: files of version control
// and of tools are no part of a skill. A path that leads upwards is not hidden but unsafe.
func Visible(sel Select) Select {
	return func(p string) (string, bool) {
		as, ok := sel(p)
		return as, ok && !slices.ContainsFunc(strings.Split(as, "/"), func(part string) bool {
			return strings.HasPrefix(part, ".") && part != "." && part != ".."
		})
	}
}

// Zip unpacks a zip archive held in memory. Errors: ErrUnsafe, ErrBroken.
func Zip(data []byte, limits Limits, sel Select) (map[string][]byte, error) {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // CheckPath checks the paths
		return nil, broken(err)
	}
	if len(z.File) > limits.Entries {
		return nil, unsafe("%d entries, %d are allowed", len(z.File), limits.Entries)
	}
	out := newFileSet(limits)
	for _, f := range z.File {
		if err := out.addZip(f, sel); err != nil {
			return nil, err
		}
	}
	return out.files, nil
}

func (s *fileSet) addZip(f *zip.File, sel Select) error {
	name, dir := strings.CutSuffix(f.Name, "/")
	as, ok := sel(name)
	if dir || f.Mode().IsDir() || !ok {
		return nil // what is not selected is not written, so it does no harm
	}
	if mode := f.Mode(); !mode.IsRegular() {
		return unsafe("%s is a %s", Quote(name), fileType(mode))
	}
	if f.Flags&1 != 0 {
		return unsafe("%s is encrypted", Quote(name))
	}
	r, err := f.Open()
	if err != nil {
		return broken(fmt.Errorf("%s: %w", Quote(name), err))
	}
	defer func() { _ = r.Close() }()
	if err := s.add(as, r); err != nil {
		return err
	}
	return s.checkRatio(Quote(name), int64(len(s.files[as])), int64(f.CompressedSize64))
}

// TarGz unpacks a gzipped tar archive while it is read. Errors: ErrUnsafe,
// ErrBroken, and the errors of r.
func TarGz(r io.Reader, limits Limits, sel Select) (map[string][]byte, error) {
	packed := &countingReader{r: r}
	gz, err := gzip.NewReader(packed)
	if err != nil {
		return nil, broken(err)
	}
	defer func() { _ = gz.Close() }()
	plain := &countingReader{r: gz, limit: limits.ReadBytes}
	out := newFileSet(limits)
	for archive, entries := tar.NewReader(plain), 0; ; entries++ {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			if _, err := io.Copy(io.Discard, plain); err != nil { // read on to check the checksum
				return nil, broken(err)
			}
			return out.files, nil
		}
		if err != nil {
			return nil, broken(err)
		}
		if entries >= limits.Entries {
			return nil, unsafe("more than %d entries", limits.Entries)
		}
		if err := out.checkRatio("the archive", plain.n, packed.n); err != nil {
			return nil, err
		}
		if err := out.addTar(h, archive, sel); err != nil {
			return nil, err
		}
	}
}

func (s *fileSet) addTar(h *tar.Header, r io.Reader, sel Select) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name := strings.TrimSuffix(strings.TrimPrefix(h.Name, "./"), "/")
	as, ok := sel(name)
	if name == "" || name == "." || !ok || h.Typeflag == tar.TypeDir {
		return nil // what is not selected is not written, so it does no harm
	}
	if h.Typeflag != tar.TypeReg {
		return unsafe("%s is a %s", Quote(name), fileType(h.FileInfo().Mode()))
	}
	return s.add(as, r)
}

// fileSet collects files within limits.
type fileSet struct {
	limits Limits
	files  map[string][]byte
	folded map[string]string // folded path of a file or directory → its path; directories end in a slash
	total  int64
}

func newFileSet(l Limits) *fileSet {
	return &fileSet{limits: l, files: map[string][]byte{}, folded: map[string]string{}}
}

func (s *fileSet) add(name string, r io.Reader) error {
	if err := CheckPath(name); err != nil {
		return err
	}
	if len(s.files) >= s.limits.Files {
		return unsafe("more than %d files", s.limits.Files)
	}
	if err := s.addPath(name); err != nil {
		return err
	}
	left := min(s.limits.FileBytes, s.limits.TotalBytes-s.total)
	data, err := io.ReadAll(io.LimitReader(r, left+1))
	if err != nil {
		if errors.Is(err, ErrUnsafe) {
			return err
		}
		return broken(fmt.Errorf("%s: %w", Quote(name), err))
	}
	if int64(len(data)) > left {
		return unsafe("%s exceeds the limit of %d bytes for one file and %d for all files", Quote(name), s.limits.FileBytes, s.limits.TotalBytes)
	}
	s.total += int64(len(data))
	s.files[name] = data
	return nil
}

// addPath refuses two files whose paths are one path on some file system, and a
// file where another file needs a directory.
func (s *fileSet) addPath(name string) error {
	key := Fold(name)
	if before, ok := s.folded[key]; ok {
		return unsafe("%s and %s are the same path", Quote(strings.TrimSuffix(before, "/")), Quote(name))
	}
	s.folded[key] = name
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		before, ok := s.folded[Fold(dir)]
		if ok && before != dir+"/" {
			return unsafe("%s and %s are the same path", Quote(strings.TrimSuffix(before, "/")), Quote(dir))
		}
		s.folded[Fold(dir)] = dir + "/"
	}
	return nil
}

func (s *fileSet) checkRatio(name string, plain, packed int64) error {
	if plain > minRatioSize && (packed <= 0 || plain/packed > s.limits.Ratio) {
		return unsafe("%s unpacks to more than %d times its size", name, s.limits.Ratio)
	}
	return nil
}

// countingReader counts the bytes that are read. With a limit above 0 it fails
// once more bytes were read.
type countingReader struct {
	r        io.Reader
	n, limit int64
}

// Read implements io.Reader. Errors: ErrUnsafe beyond the limit.
func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.limit > 0 && c.n > c.limit {
		return n, unsafe("it unpacks to more than %d bytes", c.limit)
	}
	return n, err
}

func fileType(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSymlink != 0:
		return "symbolic link"
	case mode&(fs.ModeDevice|fs.ModeCharDevice) != 0:
		return "device"
	case mode&fs.ModeNamedPipe != 0:
		return "named pipe"
	case mode&fs.ModeSocket != 0:
		return "socket"
	}
	return "link or special file"
}
