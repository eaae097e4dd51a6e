// Package unpack opens archives that strangers made. It gives back a set of
// plain files or an error, never a part of it, and writes nothing to disk.
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
	"strings"
)

// Limits bound what an archive may hold. The zero value allows nothing.
type Limits struct {
	Entries    int   // files and directories, also those that are not taken
	Files      int   // files taken
	FileBytes  int64 // one file, unpacked
	TotalBytes int64 // all files taken, unpacked
	ReadBytes  int64 // everything unpacked on the way, taken or not (tar only)
	Ratio      int64 // unpacked size of a file over its packed size; of the whole for tar
}

// Skill is what one skill may hold: 2 MiB, as the database keeps it.
var Skill = Limits{Entries: 600, Files: 256, FileBytes: 1 << 20, TotalBytes: 2 << 20, ReadBytes: 8 << 20, Ratio: 150}

// Repository is for the archive of a whole repository of which one folder is
// taken, within the bounds of Skill.
var Repository = Limits{Entries: 50_000, Files: 256, FileBytes: 1 << 20, TotalBytes: 2 << 20, ReadBytes: 256 << 20, Ratio: 150}

// ratioFloor is the size below which the ratio says nothing: a few kilobytes of
// one repeated character are no attack.
const ratioFloor = 64 << 10

// ErrUnsafe is in the chain of every error that says the archive tries something
// a skill has no business with, or is larger than allowed.
var ErrUnsafe = errors.New("unsafe archive")

// ErrBroken is in the chain of every error that says the archive cannot be read.
var ErrBroken = errors.New("broken archive")

func unsafe(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnsafe, fmt.Sprintf(format, args...))
}

func broken(err error) error { return fmt.Errorf("%w: %w", ErrBroken, err) }

// Select says whether the file at a path of the archive is taken, and as what
// path. Paths are clean and relative, with slashes.
type Select func(path string) (as string, take bool)

// All takes every file under its own path.
func All(p string) (string, bool) { return p, true }

// Under takes what lies below dir and drops that prefix; "" takes everything.
func Under(dir string) Select {
	if dir == "" {
		return All
	}
	return func(p string) (string, bool) { return strings.CutPrefix(p, dir+"/") }
}

// Visible takes what sel takes but for hidden files: what version control and
// tools leave behind is no part of a skill.
func Visible(sel Select) Select {
	return func(p string) (string, bool) {
		as, take := sel(p)
		return as, take && !strings.HasPrefix(as, ".") && !strings.Contains(as, "/.")
	}
}

// Zip unpacks a zip archive held in memory. Errors: ErrUnsafe, ErrBroken.
func Zip(data []byte, limits Limits, sel Select) (map[string][]byte, error) {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // Check judges paths
		return nil, broken(err)
	}
	if len(z.File) > limits.Entries {
		return nil, unsafe("%d entries, %d are allowed", len(z.File), limits.Entries)
	}
	out := newTree(limits)
	for _, f := range z.File {
		if err := out.addZip(f, sel); err != nil {
			return nil, err
		}
	}
	return out.files, nil
}

func (t *tree) addZip(f *zip.File, sel Select) error {
	name, dir := strings.CutSuffix(f.Name, "/")
	if err := Check(name); err != nil {
		return err
	}
	if mode := f.Mode(); !mode.IsRegular() && !mode.IsDir() {
		return unsafe("%s is a %s", Show(name), kind(mode))
	}
	if f.Flags&1 != 0 {
		return unsafe("%s is encrypted", Show(name))
	}
	as, take := sel(name)
	if dir || f.Mode().IsDir() || !take {
		return nil
	}
	r, err := f.Open()
	if err != nil {
		return broken(fmt.Errorf("%s: %w", Show(name), err))
	}
	defer func() { _ = r.Close() }()
	if err := t.add(as, r); err != nil {
		return err
	}
	return t.checkRatio(Show(name), int64(len(t.files[as])), int64(f.CompressedSize64))
}

// TarGz unpacks a gzipped tar archive as it comes. Errors: ErrUnsafe,
// ErrBroken, and whatever r returns.
func TarGz(r io.Reader, limits Limits, sel Select) (map[string][]byte, error) {
	packed := &counter{r: r}
	gz, err := gzip.NewReader(packed)
	if err != nil {
		return nil, broken(err)
	}
	defer func() { _ = gz.Close() }()
	plain := &counter{r: gz, limit: limits.ReadBytes}
	out := newTree(limits)
	for archive, entries := tar.NewReader(plain), 0; ; entries++ {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			if _, err := io.Copy(io.Discard, plain); err != nil { // up to the checksum
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

func (t *tree) addTar(h *tar.Header, r io.Reader, sel Select) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name := strings.TrimSuffix(strings.TrimPrefix(h.Name, "./"), "/")
	if name == "" || name == "." {
		return nil
	}
	if err := Check(name); err != nil {
		return err
	}
	as, take := sel(name)
	if !take || h.Typeflag == tar.TypeDir {
		return nil // a link outside the folder that is taken is no concern of ours
	}
	if h.Typeflag != tar.TypeReg {
		return unsafe("%s is a %s", Show(name), kind(h.FileInfo().Mode()))
	}
	return t.add(as, r)
}

// tree collects files within limits.
type tree struct {
	limits Limits
	files  map[string][]byte
	folded map[string]string // folded path or directory → the spelling seen
	total  int64
}

func newTree(l Limits) *tree {
	return &tree{limits: l, files: map[string][]byte{}, folded: map[string]string{}}
}

func (t *tree) add(name string, r io.Reader) error {
	if err := Check(name); err != nil {
		return err
	}
	if len(t.files) >= t.limits.Files {
		return unsafe("more than %d files", t.limits.Files)
	}
	if err := t.claim(name); err != nil {
		return err
	}
	room := min(t.limits.FileBytes, t.limits.TotalBytes-t.total)
	data, err := io.ReadAll(io.LimitReader(r, room+1))
	if err != nil {
		if errors.Is(err, ErrUnsafe) {
			return err
		}
		return broken(fmt.Errorf("%s: %w", Show(name), err))
	}
	if int64(len(data)) > room {
		return unsafe("%s goes beyond the limit of %d bytes a file and %d in all", Show(name), t.limits.FileBytes, t.limits.TotalBytes)
	}
	t.total += int64(len(data))
	t.files[name] = data
	return nil
}

// claim refuses two files whose paths are one on some file system, and a file
// where another file needs a directory.
func (t *tree) claim(name string) error {
	key := Fold(name)
	if before, ok := t.folded[key]; ok {
		return unsafe("%s and %s are the same path", Show(strings.TrimSuffix(before, "/")), Show(name))
	}
	t.folded[key] = name
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		before, ok := t.folded[Fold(dir)]
		if ok && before != dir+"/" {
			return unsafe("%s and %s are the same path", Show(strings.TrimSuffix(before, "/")), Show(dir))
		}
		t.folded[Fold(dir)] = dir + "/"
	}
	return nil
}

func (t *tree) checkRatio(what string, plain, packed int64) error {
	if plain > ratioFloor && (packed <= 0 || plain/packed > t.limits.Ratio) {
		return unsafe("%s unpacks to more than %d times its size", what, t.limits.Ratio)
	}
	return nil
}

// counter counts what is read and, with a limit, fails beyond it.
type counter struct {
	r        io.Reader
	n, limit int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.limit > 0 && c.n > c.limit {
		return n, unsafe("it unpacks to more than %d bytes", c.limit)
	}
	return n, err
}

func kind(mode fs.FileMode) string {
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
