package home

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"strings"
)

// Purge deletes a directory with everything in it. It succeeds if there is none. It
// follows no links. Unreadable directories and trees that are too deep to walk do
// not stop it: it moves each subdirectory to the top before it empties it, so that
// paths stay short and few files are open. Errors: ctx's, when it ends first.
func Purge(ctx context.Context, dir string) error {
	_, err := PurgeSome(ctx, dir, math.MaxInt)
	return err
}

// PurgeSome is Purge for at most so many entries. It reports whether nothing is left. A
// later call continues. Errors: ctx's, when it ends first.
func PurgeSome(ctx context.Context, dir string, entries int) (done bool, err error) {
	st, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err == nil && !st.IsDir() {
		return true, os.Remove(dir)
	}
	if err == nil {
		err = purgeTree(ctx, dir, entries)
	}
	if errors.Is(err, errBudgetSpent) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("purge %s: %w", dir, err)
	}
	return true, nil
}

// errBudgetSpent means that a purger has deleted as many entries as it may.
var errBudgetSpent = errors.New("as many entries were deleted as may be")

func purgeTree(ctx context.Context, dir string, entries int) error {
	// It fails for a directory of another user; the removal reports that.
	_ = os.Chmod(dir, 0o700)
	top, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = top.Close() }()
	p := purger{top: top, prefix: ".purge-" + rand.Text() + "-", left: entries}
	if err := p.empty(ctx, "."); err != nil {
		return err
	}
	for len(p.pending) > 0 {
		last := p.pending[len(p.pending)-1]
		p.pending = p.pending[:len(p.pending)-1]
		if err := p.empty(ctx, last); err != nil {
			return err
		}
		if err := ignoreMissing(top.Remove(last)); err != nil {
			return err
		}
	}
	return ignoreMissing(os.Remove(dir))
}

type purger struct {
	top     *os.Root
	prefix  string
	created int
	left    int      // how many entries may still be deleted
	pending []string // directories that were moved to the top and are not empty yet
}

// empty deletes the files of a directory and moves its directories to the top. It
// repeats this until nothing is left, because a read of a directory may skip
// entries when others are deleted.
func (p *purger) empty(ctx context.Context, dir string) error {
	for {
		found, err := p.emptyOnce(ctx, dir)
		if err != nil || found == 0 {
			return err
		}
	}
}

func (p *purger) emptyOnce(ctx context.Context, dir string) (found int, err error) {
	f, err := p.top.Open(dir)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	for {
		if err := ctx.Err(); err != nil {
			return found, err
		}
		entries, err := f.ReadDir(1000)
		for _, e := range entries {
			if dir == "." && strings.HasPrefix(e.Name(), p.prefix) {
				continue
			}
			if p.left--; p.left < 0 {
				return found, errBudgetSpent
			}
			found++
			if err := p.remove(path.Join(dir, e.Name()), e.IsDir()); err != nil {
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

func (p *purger) remove(name string, isDir bool) error {
	if !isDir {
		return ignoreMissing(p.top.Remove(name))
	}
	_ = p.top.Chmod(name, 0o700)
	p.created++
	to := fmt.Sprintf("%s%d", p.prefix, p.created)
	if err := p.top.Rename(name, to); err != nil {
		return err
	}
	p.pending = append(p.pending, to)
	return nil
}

// Limits of Size: what an agent has made must not keep the caller busy.
const (
	maxSizeEntries = 200_000
	maxSizeDepth   = 100
)

// Size returns how many bytes are in a directory. complete is false if it holds more:
// there were too many files, too deep ones, or unreadable directories. It
// follows no links. The directory must not change meanwhile. complete is false too if ctx
// ends.
func Size(ctx context.Context, dir string) (bytes int64, complete bool) {
	top, err := os.OpenRoot(dir)
	if err != nil {
		return 0, false
	}
	defer func() { _ = top.Close() }()
	s := sizer{top: top, complete: true}
	for pending := []string{"."}; len(pending) > 0 && s.files < maxSizeEntries; {
		if ctx.Err() != nil {
			return s.bytes, false
		}
		last := pending[len(pending)-1]
		pending = append(pending[:len(pending)-1], s.add(last)...)
		s.complete = s.complete && (s.files < maxSizeEntries || len(pending) == 0)
	}
	return s.bytes, s.complete
}

type sizer struct {
	top      *os.Root
	bytes    int64
	files    int
	complete bool
}

// add adds what is in a directory, and returns the directories in it.
func (s *sizer) add(dir string) (below []string) {
	f, err := s.top.Open(dir)
	if err != nil || strings.Count(dir, "/") >= maxSizeDepth {
		s.complete = false
		if err == nil {
			_ = f.Close()
		}
		return nil
	}
	defer func() { _ = f.Close() }()
	for s.files < maxSizeEntries {
		entries, err := f.ReadDir(1000)
		for _, e := range entries {
			s.files++
			if e.IsDir() {
				below = append(below, path.Join(dir, e.Name()))
			} else if st, err := e.Info(); err == nil {
				s.bytes += st.Size()
			}
		}
		if errors.Is(err, io.EOF) {
			return below
		}
		if err != nil {
			break
		}
	}
	s.complete = false
	return below
}
