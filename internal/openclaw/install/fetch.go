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

// fetch installs into a temporary folder and then renames it, so dir is never
// incomplete. The caller holds the lock.
func (s Settings) fetch(ctx context.Context, dir string, lock *fileLock, p *progress) (Runtime, error) {
	npm, err := s.npm()
	if err != nil {
		return Runtime{}, err
	}
	base := filepath.Dir(dir)
	if err := removeInterrupted(base); err != nil {
		return Runtime{}, err
	}
	temp, err := os.MkdirTemp(base, tempPrefix)
	if err != nil {
		return Runtime{}, fmt.Errorf("make a temporary folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(temp) }() // no longer exists after the rename
	if err := os.Chmod(temp, 0o755); err != nil {
		return Runtime{}, fmt.Errorf("set the temporary folder's permissions: %w", err)
	}
	r, err := runtimeIn(temp)
	if err != nil {
		return Runtime{}, err
	}
	steps := []struct{ name, prefix string }{
		{"Node " + strings.TrimPrefix(filepath.Base(filepath.Dir(filepath.Dir(r.Node))), "node-"), "node"},
		{"OpenClaw " + OpenClawVersion, "app"},
	}
	for _, step := range steps {
		p.setPhase("installing "+step.name, temp)
		if err := s.npmCI(ctx, npm, filepath.Join(temp, step.prefix), filepath.Dir(r.Node), lock); err != nil {
			return Runtime{}, fmt.Errorf("install %s: %w", step.name, err)
		}
	}
	p.setPhase("checking", temp)
	if err := check(ctx, r); err != nil {
		return Runtime{}, err
	}
	if err := bundleSlack(filepath.Dir(r.Entry)); err != nil {
		return Runtime{}, err
	}
	if err := os.RemoveAll(dir); err != nil { // Find did not accept it, so it is incomplete
		return Runtime{}, fmt.Errorf("remove a damaged runtime: %w", err)
	}
	if err := os.Rename(temp, dir); err != nil {
		return Runtime{}, fmt.Errorf("move the runtime into place: %w", err)
	}
	return runtimeIn(dir)
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

// removeInterrupted deletes the folders of interrupted installs. The caller holds the
// lock, so no install is in progress.
func removeInterrupted(base string) error {
	folders, err := filepath.Glob(filepath.Join(base, tempPrefix+"*"))
	if err != nil {
		return fmt.Errorf("list interrupted installs: %w", err)
	}
	for _, name := range folders {
		if err := os.RemoveAll(name); err != nil {
			return fmt.Errorf("remove an interrupted install: %w", err)
		}
	}
	return nil
}

// npmCI installs one prefix exactly as its lock file says. Install scripts are off:
// none is needed, and none of several hundred packages may run code here.
func (s Settings) npmCI(ctx context.Context, npm, prefix, nodeDir string, lock *fileLock) error {
	if err := writeLocks(prefix); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--include=optional", "--omit=dev",
		"--legacy-peer-deps", // the lock file was made with it: the Slack plugin bundles its peer dependencies
		"--no-audit", "--no-fund", "--no-update-notifier", "--no-progress", "--loglevel=error")
	cmd.Dir = prefix
	// npm runs on our Node after that is installed: OpenClaw's packages need a newer
	// one than distributions have.
	cmd.Env = append(os.Environ(), "PATH="+nodeDir+string(os.PathListSeparator)+os.Getenv("PATH"))
	out := &tailBuffer{limit: 4 << 10}
	cmd.Stdout, cmd.Stderr = out, out
	// npm also holds the lock: if this process is killed, the next install waits until
	// npm ends, and then removes its folder.
	cmd.ExtraFiles = []*os.File{lock.file}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("npm ci failed (%w); is the registry reachable (npm config get registry)? npm printed: %s", err, out)
	}
	return nil
}

// bundleSlack moves the Slack plugin into the folder of the plugins that come with
// OpenClaw. OpenClaw does not trust a plugin from another folder with a channel,
// unless every agent installs it again with a command.
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

// check starts the installed runtime once, so that a runtime that cannot work on this
// machine (for example because of its C library) fails now and not when the first
// agent starts. OpenClaw also needs this start: it removes files from its own folder
// that it did not ship, and in a sandbox the folder is read-only.
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
		return fmt.Errorf("start the installed runtime: %w: %s", err, strings.TrimSpace(string(out)))
	}
	if !strings.Contains(string(out), OpenClawVersion) {
		return fmt.Errorf("the installed runtime reports the version %q, want %s", strings.TrimSpace(string(out)), OpenClawVersion)
	}
	return nil
}

// tailBuffer keeps the last limit bytes that are written to it.
type tailBuffer struct {
	limit int
	data  []byte
}

func (t *tailBuffer) Write(p []byte) (int, error) {
	t.data = append(t.data, p...)
	if over := len(t.data) - t.limit; over > 0 {
		t.data = append(t.data[:0], t.data[over:]...)
	}
	return len(p), nil
}

func (t *tailBuffer) String() string { return strings.TrimSpace(string(t.data)) }
