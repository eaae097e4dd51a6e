package skill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"agento.host/agento/internal/skill/catalog"
)

// CatalogSettings say where verified skills come from.
type CatalogSettings struct {
	Dir string // of the operator, with a folder a skill; empty: none
	Log *slog.Logger
}

// Catalog holds the verified skills: those in the binary, and those of the
// operator, whose folder is watched. A skill of the operator hides one of the
// same id in the binary, so that it can be pinned or repaired without a build.
type Catalog struct {
	dir    string
	log    *slog.Logger
	inside map[string]Package // those in the binary
	now    atomic.Pointer[shelf]
	mu     sync.Mutex // held while loading
}

// shelf is the catalog at one moment.
type shelf struct {
	packages map[string]Package
	problems []Problem
}

// Problem is a folder of the operator's that is no skill.
type Problem struct {
	Folder  string
	Message string
}

const manifestFile = "manifest.yaml"

// NewCatalog loads every skill once. A broken skill of the operator is logged,
// kept as a problem and left out; that the folder cannot be read is an error.
func NewCatalog(ctx context.Context, s CatalogSettings) (*Catalog, error) {
	c := &Catalog{dir: s.Dir, log: s.Log, inside: map[string]Package{}}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	for folder, err := range folders(catalog.Files()) {
		if err != nil {
			return nil, fmt.Errorf("read built-in skills: %w", err)
		}
		p, err := loadFolder(catalog.Files(), folder)
		if err != nil {
			return nil, fmt.Errorf("built-in skill %s: %w", folder, err)
		}
		p.Source = "built-in"
		c.inside[p.ID] = p
	}
	return c, c.Reload(ctx)
}

// All returns every verified skill by name.
func (c *Catalog) All() []Package {
	return slices.SortedFunc(maps.Values(c.now.Load().packages), func(a, b Package) int {
		return cmp.Or(cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)), cmp.Compare(a.ID, b.ID))
	})
}

// Find returns the verified skill of an id.
func (c *Catalog) Find(id string) (Package, bool) {
	p, ok := c.now.Load().packages[id]
	return p, ok
}

// Problems names the folders of the operator that were left out, by name.
func (c *Catalog) Problems() []Problem { return slices.Clone(c.now.Load().problems) }

// Reload reads the operator's folder again. If it cannot be read, the catalog
// stays as it is.
func (c *Catalog) Reload(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := &shelf{packages: maps.Clone(c.inside)}
	if c.dir != "" {
		if err := c.readDir(next); err != nil {
			return fmt.Errorf("read skill catalog %s: %w", c.dir, err)
		}
	}
	before := c.now.Swap(next)
	if before == nil || !slices.Equal(before.problems, next.problems) {
		for _, p := range next.problems {
			c.log.WarnContext(ctx, "a skill of the catalog is left out", "folder", filepath.Join(c.dir, p.Folder), "reason", p.Message)
		}
	}
	return nil
}

func (c *Catalog) readDir(into *shelf) error {
	root, err := os.OpenRoot(c.dir) // no link leads out of it
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	from := map[string]string{}
	for folder, err := range folders(root.FS()) {
		if err != nil {
			return err
		}
		p, err := loadFolder(root.FS(), folder)
		if first, twice := from[p.ID]; err == nil && twice {
			err = fmt.Errorf("its id %s is that of the folder %s", p.ID, first)
		}
		if err != nil {
			into.problems = append(into.problems, Problem{Folder: folder, Message: err.Error()})
			continue
		}
		p.Source = "operator"
		from[p.ID] = folder
		into.packages[p.ID] = p
	}
	return nil
}

// folders yields the names of the folders that may hold a skill, in order.
func folders(fsys fs.FS) func(func(string, error) bool) {
	return func(yield func(string, error) bool) {
		entries, err := fs.ReadDir(fsys, ".")
		if err != nil {
			yield("", err)
			return
		}
		for _, e := range entries {
			if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && !yield(e.Name(), nil) {
				return
			}
		}
	}
}

// loadFolder reads one skill with its manifest.
func loadFolder(fsys fs.FS, folder string) (Package, error) {
	files := map[string][]byte{}
	left := int64(MaxBytes + maxManifest)
	err := fs.WalkDir(fsys, folder, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(e.Name(), ".")
		switch {
		case hidden && e.IsDir():
			return fs.SkipDir // what version control keeps there is no part of a skill
		case hidden || e.IsDir():
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a plain file", strings.TrimPrefix(name, folder+"/"))
		}
		if left -= info.Size(); left < 0 || len(files) > MaxFiles {
			return fmt.Errorf("it holds more than %d files or %d bytes", MaxFiles, MaxBytes)
		}
		files[strings.TrimPrefix(name, folder+"/")], err = fs.ReadFile(fsys, name)
		return err
	})
	if err != nil {
		return Package{}, err
	}
	raw, ok := files[manifestFile]
	if !ok {
		return Package{}, errors.New("it has no " + manifestFile)
	}
	delete(files, manifestFile) // for people who browse; the agent has no use of it
	m, err := parseManifest(raw, true)
	if err != nil {
		return Package{}, err
	}
	if m.ID == "" || m.Version == "" {
		return Package{}, errors.New(manifestFile + " must give id and version")
	}
	return newPackage(m, Verified, files)
}

// Pauses of the watching loop.
const (
	calm    = 300 * time.Millisecond // a copy of a folder is many events
	recheck = time.Minute            // file systems that tell nothing, and folders that were replaced
)

// Run keeps the catalog equal to the operator's folder until ctx ends.
func (c *Catalog) Run(ctx context.Context) error {
	if c.dir == "" {
		<-ctx.Done()
		return nil
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		c.log.WarnContext(ctx, "the skill catalog cannot be watched and is read once a minute", "error", err)
		w = &fsnotify.Watcher{}
	} else {
		defer func() { _ = w.Close() }()
	}
	ticker := time.NewTicker(recheck)
	defer ticker.Stop()
	var soon <-chan time.Time
	c.again(ctx, w) // what changed between the first look and now
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.Events:
			if soon == nil {
				soon = time.After(calm)
			}
		case err := <-w.Errors:
			c.log.WarnContext(ctx, "watching the skill catalog failed", "error", err)
		case <-soon:
			soon = nil
			c.again(ctx, w)
		case <-ticker.C:
			c.again(ctx, w)
		}
	}
}

func (c *Catalog) again(ctx context.Context, w *fsnotify.Watcher) {
	if w.Events != nil {
		c.watch(w)
	}
	if err := c.Reload(ctx); err != nil && ctx.Err() == nil {
		c.log.ErrorContext(ctx, "the skill catalog stays as it was", "error", err)
	}
}

// watch adds every folder; those that are watched already stay so. A folder that
// vanishes meanwhile is none of our business.
func (c *Catalog) watch(w *fsnotify.Watcher) {
	_ = filepath.WalkDir(c.dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && len(w.WatchList()) < 2000 && path.Base(name) != ".git" {
			_ = w.Add(name)
		}
		return nil
	})
}
