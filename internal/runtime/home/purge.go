package home

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// Purge deletes a directory with all below it; a missing one is success. It
// follows no link and is not stopped by unreadable directories or by trees too
// deep to walk: each subdirectory is moved to the top before it is emptied, so
// that no path is ever long and few files are ever open.
func Purge(dir string) error {
	st, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !st.IsDir() {
		return os.Remove(dir)
	}
	if err == nil {
		err = purgeTree(dir)
	}
	if err != nil {
		return fmt.Errorf("purge %s: %w", dir, err)
	}
	return nil
}

func purgeTree(dir string) error {
	// Fails for a directory of another user, where removal will say so.
	_ = os.Chmod(dir, 0o700)
	top, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = top.Close() }()
	p := purger{top: top, prefix: ".purge-" + rand.Text() + "-"}
	if err := p.empty("."); err != nil {
		return err
	}
	for len(p.flat) > 0 {
		last := p.flat[len(p.flat)-1]
		p.flat = p.flat[:len(p.flat)-1]
		if err := p.empty(last); err != nil {
			return err
		}
		if err := ignoreMissing(top.Remove(last)); err != nil {
			return err
		}
	}
	return ignoreMissing(os.Remove(dir))
}

type purger struct {
	top    *os.Root
	prefix string
	made   int
	flat   []string // directories moved to the top, not yet emptied
}

// empty deletes the files of a directory and moves its directories to the top.
// It looks again until nothing is left, since deleting while reading may skip
// entries.
func (p *purger) empty(dir string) error {
	for {
		found, err := p.pass(dir)
		if err != nil || found == 0 {
			return err
		}
	}
}

func (p *purger) pass(dir string) (found int, err error) {
	f, err := p.top.Open(dir)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	for {
		entries, err := f.ReadDir(1000)
		for _, e := range entries {
			if dir == "." && strings.HasPrefix(e.Name(), p.prefix) {
				continue
			}
			found++
			if err := p.drop(path.Join(dir, e.Name()), e.IsDir()); err != nil {
				return found, err
			}
		}
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return found, err
		}
	}
}

func (p *purger) drop(name string, isDir bool) error {
	if !isDir {
		return ignoreMissing(p.top.Remove(name))
	}
	_ = p.top.Chmod(name, 0o700)
	p.made++
	to := fmt.Sprintf("%s%d", p.prefix, p.made)
	if err := p.top.Rename(name, to); err != nil {
		return err
	}
	p.flat = append(p.flat, to)
	return nil
}
