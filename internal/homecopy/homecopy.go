// Package homecopy makes one consistent copy of an agent's home while the agent works, and
// writes copies back. The agent is hostile: no link is followed, nothing but directories,
// regular files and links is kept, and no tree, file or database of the agent makes the
// server read elsewhere, block, or run out of memory.
//
// A copy has two passes. The first reads everything while the gateway works. The second
// compares that with the home while the gateway is held, and takes what has changed since into
// a scratch directory, which is stored when the gateway goes on. A file is the same as before if
// its inode, size and times are, and if it was not changed so shortly before it was read that its
// times do not tell a later change.
package homecopy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/repository"
)

const (
	// maxDepth is how deeply nested a directory may be. An agent that nests deeper is
	// stopped because of its files (package runtime/home).
	maxDepth = 256
	// maxEntries and maxNames bound the memory of a copy: its entries, and the bytes of their
	// paths and links. Source: serve --agent-files.
	maxEntries = 1_000_000
	maxNames   = 128 << 20
	// maxLeftOut is how many of the entries that are left out are named.
	maxLeftOut = 20
	// maxShown is how much of their paths is shown.
	maxShown = 200
	// settleTime is how old the last change of a file must be for its times to tell a later
	// one. Source: the coarsest file system has times of 2 s.
	settleTime = 2 * time.Second
	// maxHold is how long a gateway is held at once.
	maxHold = 900 * time.Millisecond
	// maxHolds is how often a gateway is held for one copy. What a hold has copied is not
	// copied again by the next one.
	maxHolds = 3
)

// ErrBusy is the error of a Hold whose gateway has work to do.
var ErrBusy = errors.New("the gateway is busy")

// ErrTooMany means that a home has more entries, or longer names, than a copy can have.
var ErrTooMany = fmt.Errorf("it has more than %d files and directories, or their names more than %d MiB", maxEntries, maxNames>>20)

// fileError is the error of a file of the agent that cannot be opened or read.
type fileError struct{ err error }

// Error implements error.
func (e *fileError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *fileError) Unwrap() error { return e.err }

// Settings configure Copy.
type Settings struct {
	Dir     string // the home; the agent cannot replace the directory itself
	Scratch string // an empty directory that the agent cannot reach

	// Hold keeps the gateway from changing its home until release is called, which returns
	// for how long it was held, and an error if it did change it meanwhile. nil: no gateway
	// runs, nor can one be started. Errors: ErrBusy.
	Hold func(ctx context.Context) (release func() (held time.Duration, err error), err error)
	// Held is called in the hold when everything of the home was copied. Nil: not called.
	Held func(ctx context.Context) error

	Home     *repository.Home // was listed
	Previous []Entry          // of the copy before; unchanged files are not read again
}

// Copy is a copy of a home.
type Copy struct {
	Entries []Entry
	LeftOut []LeftOut // the first of them
	Without int       // how many entries are left out
	Stored  repository.Stored
	Bytes   int64 // of all files

	Consistent bool          // everything is from one moment
	Reason     string        // why it is not
	Held       time.Duration // the longest time that the gateway was held at once
}

// LeftOut is an entry of a home that the copy does not have.
type LeftOut struct {
	Path string `json:"path"`
	Why  string `json:"why"`
}

// Make copies a home. Errors: ErrTooMany; those of the repository; of the file system, if
// the home itself cannot be read.
func Make(ctx context.Context, s Settings) (Copy, error) {
	c := &copier{Settings: s, writer: s.Home.NewWriter(ctx), taken: map[string]*taken{}, previous: map[string]Entry{}}
	for _, e := range s.Previous {
		if e.Type == File {
			c.previous[string(e.Path)] = e
		}
	}
	err := c.pass(ctx, c.takeFree)
	if err == nil {
		err = c.held(ctx)
	}
	if err == nil {
		err = c.store(ctx)
	}
	var flushed error
	c.copy.Stored, flushed = c.writer.Flush() // also waits for what runs
	if err = errors.Join(err, flushed); err != nil {
		return Copy{}, err
	}
	return c.finish(), nil
}

// copier is a copy that is being made.
type copier struct {
	Settings
	writer   *repository.Writer
	previous map[string]Entry
	taken    map[string]*taken // by path
	scratch  int               // files in it

	found     []*found // by the last pass
	names     int      // bytes of their paths and links
	databases map[string]bool
	copy      Copy
}

// found is an entry that a pass has found.
type found struct {
	path string
	mode uint32
	time int64 // of the last change of the content
	link string
	file *taken // nil: not a file
}

// taken is what was read of a file.
type taken struct {
	id      identity
	settled bool // equal ids mean equal contents
	size    int64
	data    []Range
	content repository.Content
	scratch string // the file in the scratch directory; empty: content is set

	database *Database
	wal      string // in scratch
	journal  string // in scratch
	torn     bool   // it changed while it was read
}

// held makes the second pass.
func (c *copier) held(ctx context.Context) error {
	var reason string
	for range maxHolds {
		done, why, err := c.hold(ctx)
		if err != nil || done {
			return err
		}
		if reason = why; c.Hold == nil || why == ErrBusy.Error() {
			break
		}
	}
	c.copy.Reason = reason
	if err := c.pass(ctx, c.takeScratch); err != nil {
		return err
	}
	if c.Held != nil {
		return c.Held(ctx)
	}
	return nil
}

// hold copies while the gateway is held. It reports whether everything is from that moment,
// and otherwise why not.
func (c *copier) hold(ctx context.Context) (done bool, reason string, err error) {
	limited, cancel := ctx, context.CancelFunc(func() {})
	release := func() (time.Duration, error) { return 0, nil }
	if c.Hold != nil {
		release, err = c.Hold(ctx)
		if errors.Is(err, ErrBusy) {
			return false, err.Error(), nil
		}
		if err != nil {
			return false, fmt.Sprintf("the gateway could not be held: %v", err), ctx.Err()
		}
		limited, cancel = context.WithTimeout(ctx, maxHold)
	}
	defer cancel()
	err = c.pass(limited, c.takeScratch)
	if err == nil && c.Held != nil {
		err = c.Held(limited)
	}
	held, released := release()
	c.copy.Held = max(c.copy.Held, held)
	switch {
	case err != nil && limited.Err() != nil && ctx.Err() == nil:
		return false, fmt.Sprintf("the gateway is held for at most %s, and the home takes longer to copy", maxHold), nil
	case err != nil:
		return false, "", err
	case released != nil:
		return false, released.Error(), nil
	}
	for _, f := range c.found {
		if f.file != nil && f.file.torn {
			return false, "a database changed while it was copied", nil
		}
	}
	c.copy.Consistent = true
	return true, "", nil
}

// pass walks over the home and takes its files.
func (c *copier) pass(ctx context.Context, take func(ctx context.Context, at place, st stat) (*taken, error)) error {
	c.found, c.names, c.databases = nil, 0, map[string]bool{}
	c.copy.LeftOut, c.copy.Without = nil, 0
	seen := map[string]*taken{}
	err := walk(ctx, c.Dir, c.leaveOut, func(at place, st stat) error {
		f := &found{path: at.path, mode: uint32(st.Mode) & 0o777, time: modTime(st)}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
		case unix.S_IFLNK:
			if f.link = readLink(at); f.link == "" {
				return nil // it is gone
			}
		case unix.S_IFREG:
			if c.ofDatabase(at.path) {
				return nil
			}
			file, err := take(ctx, at, st)
			switch {
			case errors.Is(err, errGone):
				return nil
			case isFileError(err):
				c.leaveOut(at.path, "it cannot be read: "+err.Error())
				return nil
			case err != nil:
				return err
			}
			if f.file = file; file.database != nil {
				c.databases[at.path] = true
			}
			seen[at.path] = file
		default:
			c.leaveOut(at.path, "it is no file, directory or link")
			return nil
		}
		c.names += len(f.path) + len(f.link)
		if len(c.found) >= maxEntries || c.names > maxNames {
			return ErrTooMany
		}
		c.found = append(c.found, f)
		return nil
	})
	for p, t := range seen {
		c.taken[p] = t
	}
	return err
}

func isFileError(err error) bool {
	var f *fileError
	return errors.As(err, &f)
}

// ofDatabase reports whether a file belongs to a database, with which it is copied.
func (c *copier) ofDatabase(name string) bool {
	for _, suffix := range databaseSuffixes {
		if base, ok := strings.CutSuffix(name, suffix); ok && c.databases[base] {
			return true
		}
	}
	return false
}

func (c *copier) leaveOut(name, why string) {
	c.copy.Without++
	if len(c.copy.LeftOut) < maxLeftOut {
		name = strings.ToValidUTF8(name, "?")
		if len(name) > maxShown {
			name = strings.ToValidUTF8(name[:maxShown], "") + "…"
		}
		c.copy.LeftOut = append(c.copy.LeftOut, LeftOut{name, why})
	}
}

// known returns what an earlier pass, or the copy before, has of a file that has not
// changed; nil if there is nothing.
func (c *copier) known(at place, st stat) *taken {
	id := identify(st)
	if t := c.taken[at.path]; t != nil {
		if t.settled && t.id == id && !t.torn && (t.database == nil || t.database.WAL == at.sibling("-wal") && at.sibling("-journal") == (identity{})) {
			return t
		}
		return nil
	}
	e, ok := c.previous[at.path]
	if !ok || e.Identity == nil || *e.Identity != id || !c.Home.Has(e.Content) {
		return nil
	}
	if e.Database != nil && (e.Database.WAL != at.sibling("-wal") || at.sibling("-journal") != (identity{})) {
		return nil
	}
	return &taken{id: id, settled: true, size: e.Size, data: e.Data, content: e.Content, database: e.Database}
}

// takeFree reads a file into the repository while the gateway works, and a database into the
// scratch directory.
func (c *copier) takeFree(ctx context.Context, at place, st stat) (*taken, error) {
	return c.take(ctx, at, st, func(f *os.File, t *taken) error {
		if err := c.writer.Add(newFileReader(ctx, f, t.data, t.size), &t.content); err != nil {
			return err
		}
		after, err := statFile(f)
		t.settled = t.settled && err == nil && identify(after) == t.id
		return nil
	})
}

// takeScratch copies a file into the scratch directory.
func (c *copier) takeScratch(ctx context.Context, at place, st stat) (*taken, error) {
	return c.take(ctx, at, st, func(f *os.File, t *taken) (err error) {
		t.scratch, err = c.toScratch(ctx, f, t.data, t.size)
		return err
	})
}

// take returns what is known of a file, or opens it and calls read, unless it is a database,
// which is copied into the scratch directory.
func (c *copier) take(ctx context.Context, at place, st stat, read func(*os.File, *taken) error) (*taken, error) {
	if t := c.known(at, st); t != nil {
		return t, nil
	}
	f, opened, err := openFile(at)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if isDatabase(f) {
		return c.takeDatabase(ctx, at, f)
	}
	t := &taken{id: identify(opened), size: opened.Size, settled: settled(opened, time.Now())}
	t.data = dataRanges(f, opened)
	if err := read(f, t); err != nil {
		return nil, err
	}
	return t, nil
}

// toScratch copies data of a file into a new one in the scratch directory, without its
// holes.
func (c *copier) toScratch(ctx context.Context, f *os.File, data []Range, size int64) (name string, err error) {
	name = c.newScratch()
	out, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", fmt.Errorf("copy into the scratch directory: %w", err)
	}
	if data != nil || !cloneFile(out, f, size) {
		_, err = io.Copy(out, newFileReader(ctx, f, data, size))
	}
	if err = errors.Join(err, out.Close()); err != nil {
		_ = os.Remove(name)
		return "", fmt.Errorf("copy into the scratch directory: %w", err)
	}
	return name, nil
}

// newScratch returns a new name in the scratch directory.
func (c *copier) newScratch() string {
	c.scratch++
	return filepath.Join(c.Scratch, strconv.Itoa(c.scratch))
}

// store stores what is in the scratch directory.
func (c *copier) store(ctx context.Context) error {
	var more []*found
	for _, f := range c.found {
		more = append(more, f)
		t := f.file
		if t == nil || t.scratch == "" {
			continue
		}
		if t.database != nil {
			raw, err := c.mergeDatabase(ctx, f)
			if err != nil {
				return err
			}
			more = append(more, raw...)
		}
		if err := c.storeScratch(t); err != nil {
			return err
		}
	}
	for _, f := range more {
		if f.file != nil && f.file.scratch != "" {
			if err := c.storeScratch(f.file); err != nil {
				return err
			}
		}
	}
	c.found = more
	return nil
}

func (c *copier) storeScratch(t *taken) error {
	f, err := os.Open(t.scratch)
	if err != nil {
		return fmt.Errorf("read the scratch directory: %w", err)
	}
	err = errors.Join(c.writer.Add(f, &t.content), f.Close(), os.Remove(t.scratch))
	t.scratch = ""
	return err
}

// finish returns the copy, when everything is stored.
func (c *copier) finish() Copy {
	c.copy.Entries = make([]Entry, 0, len(c.found))
	for _, f := range c.found {
		e := Entry{Path: Bytes(f.path), Mode: f.mode, ModTime: f.time}
		switch {
		case f.file != nil:
			e.Type, e.Size, e.Data, e.Content, e.Database = File, f.file.size, f.file.data, f.file.content, f.file.database
			if f.file.settled && !f.file.torn {
				e.Identity = &f.file.id
			}
			c.copy.Bytes += e.Size
		case f.link != "":
			e.Type, e.Link = Link, Bytes(f.link)
		default:
			e.Type = Directory
		}
		c.copy.Entries = append(c.copy.Entries, e)
	}
	return c.copy
}

// place is where an entry is: a name in an open directory.
type place struct {
	dir  *os.File
	name string
	path string // from the home
}

// sibling returns the identity of the file whose name is at's with a suffix; the zero
// identity if there is none, or nothing is in it.
func (at place) sibling(suffix string) identity {
	st, err := statAt(place{at.dir, at.name + suffix, at.path + suffix})
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size == 0 {
		return identity{}
	}
	return identify(st)
}

// errGone means that an entry is no longer there, or no longer a file.
var errGone = errors.New("the entry is gone")

// walk calls visit for every entry below a directory, parents first, in the order of their
// names. It keeps open only the directories that lead to the present one.
func walk(ctx context.Context, dir string, leaveOut func(path, why string), visit func(at place, st stat) error) error {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("read the home: %w", err)
	}
	defer func() { _ = f.Close() }()
	return walkDir(ctx, f, "", 1, leaveOut, visit)
}

func walkDir(ctx context.Context, dir *os.File, at string, depth int, leaveOut func(path, why string), visit func(at place, st stat) error) error {
	names, err := readNames(ctx, dir)
	if isFileError(err) && depth > 1 {
		leaveOut(at, "it cannot be read: "+err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := place{dir, name, path.Join(at, name)}
		st, err := statAt(p)
		if err != nil {
			continue // the agent has deleted it meanwhile
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR && depth >= maxDepth {
			leaveOut(p.path, fmt.Sprintf("it is nested more than %d deep", maxDepth))
			continue
		}
		if err := visit(p, st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		below, err := openDir(p)
		if errors.Is(err, errGone) {
			continue
		}
		if err != nil {
			leaveOut(p.path, "it cannot be read")
			continue
		}
		err = walkDir(ctx, below, p.path, depth+1, leaveOut, visit)
		_ = below.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
