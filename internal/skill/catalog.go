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

// CatalogSettings configure a Catalog.
type CatalogSettings struct {
	Dir string       // of the operator, with one folder for each skill; empty: none
	Log *slog.Logger // nil: nothing is logged
}

// Catalog contains the verified skills: the built-in ones, which are in the binary, and
// those in the operator's directory, which is watched. A skill of the operator replaces
// the built-in one with the same id, so that it can be pinned or repaired without a new
// build. Its methods may be called concurrently.
type Catalog struct {
	dir     string
	log     *slog.Logger
	builtIn map[string]Package // by id
	current atomic.Pointer[catalogState]
	mu      sync.Mutex // held while loading
}

// catalogState is the content of the catalog after a load. It is never changed.
type catalogState struct {
	packages map[string]Package // by id
	problems []Problem
}

// Problem is a folder of the operator's directory that is not a valid skill.
type Problem struct {
	Folder  string
	Message string
}

// NewCatalog returns a catalog with every skill loaded. An invalid skill of the operator
// is left out, logged and listed by Problems. Errors: the operator's directory cannot be
// read.
func NewCatalog(ctx context.Context, s CatalogSettings) (*Catalog, error) {
	c := &Catalog{dir: s.Dir, log: s.Log}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if c.builtIn, err = builtIn(); err != nil {
		return nil, err
	}
	return c, c.Reload(ctx)
}

// builtIn returns the skills of this program by id. They are scanned once.
var builtIn = sync.OnceValues(func() (map[string]Package, error) {
	all := map[string]Package{}
	for folder, err := range folders(catalog.Files()) {
		if err != nil {
			return nil, fmt.Errorf("read built-in skills: %w", err)
		}
		p, err := loadFolder(catalog.Files(), folder)
		if err != nil {
			return nil, fmt.Errorf("built-in skill %s: %w", folder, err)
		}
		p.Source = "built-in"
		all[p.ID] = p
	}
	return all, nil
})

// All returns every verified skill, ordered by name.
func (c *Catalog) All() []Package {
	return slices.SortedFunc(maps.Values(c.current.Load().packages), func(a, b Package) int {
		return cmp.Or(cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)), cmp.Compare(a.ID, b.ID))
	})
}

// Find returns the verified skill with an id.
func (c *Catalog) Find(id string) (Package, bool) {
	p, ok := c.current.Load().packages[id]
	return p, ok
}

// Problems returns the folders of the operator that were left out, ordered by name.
func (c *Catalog) Problems() []Problem { return slices.Clone(c.current.Load().problems) }

// Reload reads the operator's directory again. Errors: it cannot be read; the catalog is
// then unchanged.
func (c *Catalog) Reload(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := &catalogState{packages: maps.Clone(c.builtIn)}
	if c.dir != "" {
		if err := c.readDir(next); err != nil {
			return fmt.Errorf("read skill catalog %s: %w", c.dir, err)
		}
	}
	before := c.current.Swap(next)
	if before == nil || !slices.Equal(before.problems, next.problems) {
		for _, p := range next.problems {
			c.log.WarnContext(ctx, "an invalid skill of the catalog is ignored", "folder", filepath.Join(c.dir, p.Folder), "reason", p.Message)
		}
	}
	return nil
}

// readDir adds the skills of the operator's directory to a state.
func (c *Catalog) readDir(into *catalogState) error {
	root, err := os.OpenRoot(c.dir) // follows no link out of it
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	folderOf := map[string]string{} // by skill id
	for folder, err := range folders(root.FS()) {
		if err != nil {
			return err
		}
		p, err := loadFolder(root.FS(), folder)
		if first, ok := folderOf[p.ID]; err == nil && ok {
			err = fmt.Errorf("its id %s is also that of the folder %s", p.ID, first)
		}
		if err != nil {
			into.problems = append(into.problems, Problem{Folder: folder, Message: err.Error()})
			continue
		}
		p.Source = "operator"
		folderOf[p.ID] = folder
		into.packages[p.ID] = p
	}
	return nil
}

// folders yields the names of the folders that are not hidden, in order.
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

// loadFolder reads the skill in a folder, with its manifest.
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
			return fs.SkipDir // files of version control are no part of a skill
		case hidden || e.IsDir():
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a regular file", strings.TrimPrefix(name, folder+"/"))
		}
		if left -= info.Size(); left < 0 || len(files) > MaxFiles {
			return fmt.Errorf("it has more than %d files or %d bytes", MaxFiles, MaxBytes)
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
	delete(files, manifestFile) // it describes the skill to people; the agent does not need it
	m, err := parseManifest(raw, true)
	if err != nil {
		return Package{}, err
	}
	if m.ID == "" || m.Version == "" {
		return Package{}, errors.New(manifestFile + " must have id and version")
	}
	return newPackage(m, Verified, files)
}

// Delays of Run.
const (
	reloadDelay    = 300 * time.Millisecond // after a change; copying a folder causes many events
	reloadInterval = time.Minute            // for file systems without events, and replaced directories
)

// Run reloads the catalog after each change of the operator's directory until ctx ends.
func (c *Catalog) Run(ctx context.Context) error {
	if c.dir == "" {
		<-ctx.Done()
		return nil
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		c.log.WarnContext(ctx, "the directory of the skill catalog cannot be watched and is read once a minute", "error", err)
		w = &fsnotify.Watcher{}
	} else {
		defer func() { _ = w.Close() }()
	}
	ticker := time.NewTicker(reloadInterval)
	defer ticker.Stop()
	var delayed <-chan time.Time
	c.watchAndReload(ctx, w) // includes changes since NewCatalog
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.Events:
			if delayed == nil {
				delayed = time.After(reloadDelay)
			}
		case err := <-w.Errors:
			c.log.WarnContext(ctx, "watching the directory of the skill catalog failed", "error", err)
		case <-delayed:
			delayed = nil
			c.watchAndReload(ctx, w)
		case <-ticker.C:
			c.watchAndReload(ctx, w)
		}
	}
}

func (c *Catalog) watchAndReload(ctx context.Context, w *fsnotify.Watcher) {
	if w.Events != nil {
		c.watch(w)
	}
	if err := c.Reload(ctx); err != nil && ctx.Err() == nil {
		c.log.ErrorContext(ctx, "the skill catalog cannot be reloaded and is unchanged", "error", err)
	}
}

// watch watches every folder; adding one again has no effect. Errors are ignored: a
// folder may be deleted at any time.
func (c *Catalog) watch(w *fsnotify.Watcher) {
	_ = filepath.WalkDir(c.dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && len(w.WatchList()) < 2000 && path.Base(name) != ".git" {
			_ = w.Add(name)
		}
		return nil
	})
}
