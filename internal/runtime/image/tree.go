package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"time"
)

// tree are the files of a layer by their paths, such as "usr/bin/env". Two paths with the
// same entry are hard links of one file.
type tree struct {
	entries map[string]*entry
}

// entry is a directory, a regular file or a symbolic link.
type entry struct {
	kind byte // of tar
	mode int64
	uid  int
	gid  int
	link string // of a symbolic link
	size int64
	open func() (io.ReadCloser, error) // of a regular file
}

func newTree() *tree { return &tree{entries: map[string]*entry{}} }

// add adds an entry. A directory may be added again; the first one stays. Errors: if another
// entry has the path.
func (t *tree) add(name string, e *entry) error {
	old, exists := t.entries[name]
	switch {
	case !exists:
		t.entries[name] = e
		return nil
	case old.kind == tar.TypeDir && e.kind == tar.TypeDir:
		return nil
	case old.kind == tar.TypeSymlink && e.kind == tar.TypeSymlink && old.link == e.link:
		return nil
	}
	return fmt.Errorf("two packages have the file /%s", name)
}

// set adds an entry in place of any other.
func (t *tree) set(name string, e *entry) { t.entries[name] = e }

func directory(mode int64) *entry { return &entry{kind: tar.TypeDir, mode: mode} }

func symlink(to string) *entry { return &entry{kind: tar.TypeSymlink, mode: 0o777, link: to} }

func regular(content []byte, mode int64) *entry {
	return &entry{kind: tar.TypeReg, mode: mode, size: int64(len(content)), open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}}
}

// onDisk is a regular file with the content of a file of this machine.
func onDisk(name string, size, mode int64) *entry {
	return &entry{kind: tar.TypeReg, mode: mode, size: size, open: func() (io.ReadCloser, error) { return os.Open(name) }}
}

// read returns the content of a regular file.
func (e *entry) read() ([]byte, error) {
	file, err := e.open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return io.ReadAll(file)
}

// addParents adds the directories that entries are in.
func (t *tree) addParents() {
	for _, name := range slices.Collect(maps.Keys(t.entries)) {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, exists := t.entries[dir]; exists {
				break
			}
			t.entries[dir] = directory(0o755)
		}
	}
}

// write writes the tree as a tar archive: always the same one for the same tree.
func (t *tree) write(w io.Writer, at time.Time) error {
	out := tar.NewWriter(w)
	written := map[*entry]string{}
	for _, name := range slices.Sorted(maps.Keys(t.entries)) {
		e := t.entries[name]
		header := &tar.Header{Typeflag: e.kind, Name: name, Mode: e.mode, Uid: e.uid, Gid: e.gid, Linkname: e.link, Size: e.size, ModTime: at}
		first, isLink := written[e]
		switch {
		case isLink:
			header.Typeflag, header.Linkname, header.Size = tar.TypeLink, first, 0
		case e.kind == tar.TypeDir:
			header.Name += "/"
		case e.kind == tar.TypeReg:
			written[e] = name
		}
		if err := out.WriteHeader(header); err != nil {
			return fmt.Errorf("write /%s: %w", name, err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if err := e.copyTo(out); err != nil {
			return fmt.Errorf("write /%s: %w", name, err)
		}
	}
	return out.Close()
}

func (e *entry) copyTo(w io.Writer) error {
	file, err := e.open()
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	n, err := io.Copy(w, io.LimitReader(file, e.size))
	if err == nil && n < e.size {
		err = fmt.Errorf("it has become shorter: %w", io.ErrUnexpectedEOF)
	}
	return err
}
