package image

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"agento.host/agento/internal/openclaw/install"
)

// runtimeDir is where Node and OpenClaw are in the image.
const runtimeDir = "/opt/agento"

// Runtime returns where the image has Node and OpenClaw, on every architecture.
func Runtime() install.Runtime {
	return install.Runtime{
		Node:  runtimeDir + "/node/bin/node",
		Entry: runtimeDir + "/app/node_modules/openclaw/openclaw.mjs",
		Dirs:  []string{runtimeDir},
	}
}

// nodeTree is Node without npm, headers and documentation.
func nodeTree(installed install.Runtime) (*tree, error) {
	t := newTree()
	from := filepath.Dir(filepath.Dir(installed.Node))
	for _, name := range []string{"bin/node", "LICENSE"} {
		if err := t.addDisk(cleanPath(runtimeDir+"/node/"+name), filepath.Join(from, filepath.FromSlash(name))); err != nil {
			return nil, err
		}
	}
	t.set("usr/local/bin/node", symlink(Runtime().Node))
	t.addParents()
	return t, nil
}

// openClawTree is OpenClaw with the packages that it needs.
func openClawTree(installed install.Runtime) (*tree, error) {
	t := newTree()
	app := filepath.Dir(filepath.Dir(filepath.Dir(installed.Entry)))
	err := filepath.WalkDir(app, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(app, name)
		if err != nil {
			return err
		}
		below = filepath.ToSlash(below)
		if isNotRun(below) {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		return t.addDisk(cleanPath(runtimeDir+"/app/"+below), name)
	})
	if err != nil {
		return nil, fmt.Errorf("read the installed OpenClaw: %w", err)
	}
	t.set("usr/local/bin/openclaw", symlink(Runtime().Entry))
	t.addParents()
	return t, nil
}

// isNotRun reports whether a file below the installed OpenClaw is never read by it: what npm
// keeps for itself, source maps, types, and caches, which also differ between installations.
func isNotRun(name string) bool {
	base := name[strings.LastIndexByte(name, '/')+1:]
	switch {
	case base == "__pycache__", base == ".cache", base == ".package-lock.json":
		return true
	case strings.HasSuffix(base, ".map"):
		return true
	case strings.Contains("/"+name, "/node_modules/typescript/"): // its types are what it works with
		return false
	}
	return strings.HasSuffix(base, ".d.ts") || strings.HasSuffix(base, ".d.mts") || strings.HasSuffix(base, ".d.cts")
}

// addDisk adds a file, link or directory of this machine. Of its mode only counts whether
// the owner may run it: the rest depends on who installed it.
func (t *tree) addDisk(name, file string) error {
	info, err := os.Lstat(file)
	if err != nil {
		return err
	}
	switch {
	case info.IsDir():
		return t.add(name, directory(0o755))
	case info.Mode()&fs.ModeSymlink != 0:
		to, err := os.Readlink(file)
		if err != nil {
			return err
		}
		return t.add(name, symlink(to))
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is neither a file nor a directory nor a link", file)
	}
	mode := int64(0o644)
	if info.Mode()&0o100 != 0 {
		mode = 0o755
	}
	return t.add(name, onDisk(file, info.Size(), mode))
}
