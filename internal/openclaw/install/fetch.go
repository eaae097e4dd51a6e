package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const tempPrefix = "incomplete-"

// fetch installs into a temporary folder and renames it, so that dir is never
// half there. The lock is held.
func (s Settings) fetch(ctx context.Context, dir string, lock *fileLock, say *progress) (Runtime, error) {
	npm, err := s.npm()
	if err != nil {
		return Runtime{}, err
	}
	base := filepath.Dir(dir)
	if err := sweep(base); err != nil {
		return Runtime{}, err
	}
	temp, err := os.MkdirTemp(base, tempPrefix)
	if err != nil {
		return Runtime{}, fmt.Errorf("make a temporary folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(temp) }() // gone already after the rename
	if err := os.Chmod(temp, 0o755); err != nil {
		return Runtime{}, fmt.Errorf("open the temporary folder: %w", err)
	}
	half, err := at(temp)
	if err != nil {
		return Runtime{}, err
	}
	steps := []struct{ name, prefix string }{
		{"Node " + strings.TrimPrefix(filepath.Base(filepath.Dir(filepath.Dir(half.Node))), "node-"), "node"},
		{"OpenClaw " + OpenClawVersion, "app"},
	}
	for _, step := range steps {
		say.phase("installing "+step.name, temp)
		if err := s.npmCI(ctx, npm, filepath.Join(temp, step.prefix), filepath.Dir(half.Node), lock); err != nil {
			return Runtime{}, fmt.Errorf("install %s: %w", step.name, err)
		}
	}
	say.phase("checking", temp)
	if err := check(ctx, half); err != nil {
		return Runtime{}, err
	}
	if err := bundleSlack(filepath.Dir(half.Entry)); err != nil {
		return Runtime{}, err
	}
	if err := os.RemoveAll(dir); err != nil { // something deleted half of it, or it would have been found
		return Runtime{}, fmt.Errorf("remove a damaged runtime: %w", err)
	}
	if err := os.Rename(temp, dir); err != nil {
		return Runtime{}, fmt.Errorf("put the runtime in place: %w", err)
	}
	return at(dir)
}

func (s Settings) npm() (string, error) {
	name := s.NPM
	if name == "" {
		name = "npm"
	}
	npm, err := exec.LookPath(name)
	if err != nil {
		return "", ErrNoNPM
	}
	return npm, nil
}

// sweep deletes what dead installs left. Nobody else installs while we hold the lock.
func sweep(base string) error {
	left, err := filepath.Glob(filepath.Join(base, tempPrefix+"*"))
	if err != nil {
		return fmt.Errorf("look for interrupted installs: %w", err)
	}
	for _, name := range left {
		if err := os.RemoveAll(name); err != nil {
			return fmt.Errorf("remove an interrupted install: %w", err)
		}
	}
	return nil
}

// npmCI installs one prefix exactly as locked. Install scripts stay off: none is
// needed, and none of several hundred packages gets to run code here.
func (s Settings) npmCI(ctx context.Context, npm, prefix, nodeDir string, lock *fileLock) error {
	if err := writeLocks(prefix); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--include=optional", "--omit=dev",
		"--legacy-peer-deps", // as the lock was made: the Slack plugin bundles what its peers ask for
		"--no-audit", "--no-fund", "--no-update-notifier", "--no-progress", "--loglevel=error")
	cmd.Dir = prefix
	// npm runs under our Node once it is there: OpenClaw's packages demand a newer
	// one than distributions ship.
	cmd.Env = append(os.Environ(), "PATH="+nodeDir+string(os.PathListSeparator)+os.Getenv("PATH"))
	out := &tail{limit: 4 << 10}
	cmd.Stdout, cmd.Stderr = out, out
	// npm keeps the lock as well: should this process be killed, the next install
	// waits until npm has stopped writing, and then sweeps.
	cmd.ExtraFiles = []*os.File{lock.file}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("npm ci failed (%w); is the registry reachable (npm config get registry)? npm said: %s", err, out)
	}
	return nil
}

// bundleSlack puts the Slack plugin among those that come with OpenClaw, which it is
// built like. From anywhere else OpenClaw would not trust it with a channel unless
// every agent fetched it again with a command of its own.
func bundleSlack(openclaw string) error {
	from := filepath.Join(filepath.Dir(openclaw), "@openclaw", "slack")
	if err := os.Rename(from, filepath.Join(openclaw, "dist", "extensions", "slack")); err != nil {
		return fmt.Errorf("bundle the Slack plugin: %w", err)
	}
	return nil
}

func writeLocks(prefix string) error {
	if err := os.Mkdir(prefix, 0o755); err != nil {
		return fmt.Errorf("make a prefix: %w", err)
	}
	for _, file := range []string{"package.json", "package-lock.json"} {
		data, err := locks.ReadFile(path.Join("lock", filepath.Base(prefix), file))
		if err != nil {
			return fmt.Errorf("read the lock files: %w", err)
		}
		if err := os.WriteFile(filepath.Join(prefix, file), data, 0o644); err != nil {
			return fmt.Errorf("write the lock files: %w", err)
		}
	}
	return nil
}

// check starts what was installed once, so that a runtime that cannot work here
// (another C library, say) is refused now and not when the first agent starts.
// OpenClaw also needs this start: it removes from its own folder what it did not
// ship, which it can do no more once a sandbox shows the folder read-only.
func check(ctx context.Context, r Runtime) error {
	home, err := os.MkdirTemp("", "agento-check-")
	if err != nil {
		return fmt.Errorf("make a temporary folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(home) }()
	cmd := exec.CommandContext(ctx, r.Node, r.Entry, "--version")
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + home, "OPENCLAW_STATE_DIR=" + home}
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the installed Node does not run on this machine, which needs glibc 2.28 or newer (Alpine has musl): %w", err)
	}
	if err != nil {
		return fmt.Errorf("try the installed runtime: %w: %s", err, strings.TrimSpace(string(out)))
	}
	if !strings.Contains(string(out), OpenClawVersion) {
		return fmt.Errorf("the installed runtime says it is %q, not %s", strings.TrimSpace(string(out)), OpenClawVersion)
	}
	return nil
}

// tail keeps the end of what is written to it.
type tail struct {
	limit int
	data  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.data = append(t.data, p...)
	if over := len(t.data) - t.limit; over > 0 {
		t.data = append(t.data[:0], t.data[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(string(t.data)) }
