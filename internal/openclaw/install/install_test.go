package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestInstallFetchesThePinnedRuntime installs the real runtime in the user's cache
// folder, where later tests of this and other packages find it.
func TestInstallFetchesThePinnedRuntime(t *testing.T) {
	r, err := Install(t.Context(), Settings{Progress: logWriter{t}})
	if err != nil {
		t.Fatal(err)
	}
	if err := check(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got := Inspect(Settings{}); !got.Installed || got.Fix != "" {
		t.Errorf("Inspect = %+v, want installed and no fix", got)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(r.Entry), "dist", "extensions", "slack", "openclaw.plugin.json")); err != nil {
		t.Errorf("the Slack plugin is missing: %v", err)
	}
}

func TestLockFilesArePinned(t *testing.T) {
	for _, prefix := range []string{"node", "app"} {
		data, err := locks.ReadFile("lock/" + prefix + "/package-lock.json")
		if err != nil {
			t.Fatal(err)
		}
		var lock struct {
			Packages map[string]struct {
				Resolved, Integrity string
				InBundle            bool
			}
		}
		if err := json.Unmarshal(data, &lock); err != nil {
			t.Fatal(err)
		}
		for name, p := range lock.Packages {
			if name != "" && p.Integrity == "" && !p.InBundle {
				t.Errorf("%s: %s has no integrity hash", prefix, name)
			}
			if p.Resolved != "" {
				t.Errorf("%s: %s names a registry: %s", prefix, name, p.Resolved)
			}
		}
	}
}

func TestInstallRunsNPMOnceForEachPrefix(t *testing.T) {
	s := stubNPM(t, "")
	var output strings.Builder
	s.Progress = &output
	r, err := Install(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if found, ok := Find(s); !ok || found.Node != r.Node {
		t.Errorf("Find = %v, %v, want what Install returned", found, ok)
	}
	for _, want := range []string{"installing Node", "installing OpenClaw " + OpenClawVersion, "checking"} {
		if !strings.Contains(output.String(), want) {
			t.Errorf("progress lacks %q:\n%s", want, output.String())
		}
	}
	if n := countNPMRuns(t, s); n != 2 {
		t.Errorf("npm ran %d times, want once for each prefix", n)
	}
	if _, err := Install(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if n := countNPMRuns(t, s); n != 2 {
		t.Errorf("npm ran again for an installed runtime")
	}
	assertNoTempFolders(t, s)
}

func TestConcurrentInstallsRunNPMOnce(t *testing.T) {
	s := stubNPM(t, "")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := Install(t.Context(), s); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := countNPMRuns(t, s); n != 2 {
		t.Errorf("npm ran %d times for four installs, want 2", n)
	}
}

func TestACancelledInstallLeavesNothing(t *testing.T) {
	s := stubNPM(t, "mkfifo \"$DIR/gate\"; echo $$ > \"$DIR/pid\"; cat \"$DIR/gate\"")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := Install(ctx, s)
		done <- err
	}()
	pid := waitNumber(t, filepath.Join(filepath.Dir(s.NPM), "pid"))
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Install = %v, want canceled", err)
	}
	if err := syscall.Kill(pid, 0); err == nil {
		t.Errorf("npm (%d) still runs", pid)
	}
	if _, ok := Find(s); ok {
		t.Error("Find accepts an incomplete install")
	}
	assertNoTempFolders(t, s)
}

func TestInstallRemovesTheFoldersOfAKilledInstall(t *testing.T) {
	s := stubNPM(t, "")
	interrupted := filepath.Join(s.Dir, tempPrefix+"123")
	damaged, err := s.versionDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Join(interrupted, "app"), filepath.Join(damaged, "app")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Install(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	assertNoTempFolders(t, s)
}

// The next install waits while npm of a killed install still writes.
func TestNPMHoldsTheLock(t *testing.T) {
	s := stubNPM(t, "[ -e \"$DIR/once\" ] || { touch \"$DIR/once\"; (echo $BASHPID > \"$DIR/pid\"; exec sleep 600 >/dev/null 2>&1) & exit 1; }")
	if _, err := Install(t.Context(), s); err == nil {
		t.Fatal("Install succeeded with an npm that fails")
	}
	pid := waitNumber(t, filepath.Join(filepath.Dir(s.NPM), "pid"))
	var output syncBuilder
	s.Progress = &output
	done := make(chan error, 1)
	go func() {
		_, err := Install(t.Context(), s)
		done <- err
	}()
	waitUntil(t, func() bool { return strings.Contains(output.String(), "waiting for another install") })
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("Install after npm ended: %v", err)
	}
}

func TestInstallWithoutNPMSaysHowToGetIt(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	s := Settings{Dir: t.TempDir()}
	if _, err := Install(t.Context(), s); !errors.Is(err, ErrNoNPM) {
		t.Errorf("Install = %v, want ErrNoNPM", err)
	}
	if st := Inspect(s); st.Installed || !strings.Contains(st.Fix, "apt-get install npm") {
		t.Errorf("Inspect = %+v, want a fix that names the package", st)
	}
	assertNoTempFolders(t, s)
}

func TestInstallQuotesAFailingNPM(t *testing.T) {
	s := stubNPM(t, "echo 'npm error code ENOTFOUND' >&2; exit 7")
	_, err := Install(t.Context(), s)
	if err == nil || !strings.Contains(err.Error(), "ENOTFOUND") || !strings.Contains(err.Error(), "exit status 7") {
		t.Errorf("Install = %v, want npm's own output and status", err)
	}
	assertNoTempFolders(t, s)
}

// stubNPM returns settings with an npm that runs the shell commands in before and then
// creates the files that the real one would.
func stubNPM(t *testing.T, before string) Settings {
	t.Helper()
	dir := t.TempDir()
	r, err := runtimeIn("")
	if err != nil {
		t.Fatal(err)
	}
	node, entry := strings.TrimPrefix(r.Node, "/"), strings.TrimPrefix(r.Entry, "/")
	script := fmt.Sprintf(`#!/bin/bash
DIR=%q
echo call >> "$DIR/calls"
%s
case "$PWD" in
*/node) mkdir -p "../$(dirname %q)"; printf '#!/bin/sh\necho OpenClaw %s\n' > "../%s"; chmod +x "../%s";;
*/app) mkdir -p "../$(dirname %q)" node_modules/openclaw/dist/extensions node_modules/@openclaw/slack; echo > "../%s";;
esac
`, dir, before, node, OpenClawVersion, node, node, entry, entry)
	npm := filepath.Join(dir, "npm")
	if err := os.WriteFile(npm, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return Settings{Dir: filepath.Join(dir, "runtime"), NPM: npm}
}

func countNPMRuns(t *testing.T, s Settings) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(filepath.Dir(s.NPM), "calls"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(data), "call\n")
}

func assertNoTempFolders(t *testing.T, s Settings) {
	t.Helper()
	folders, err := filepath.Glob(filepath.Join(s.Dir, tempPrefix+"*"))
	if err != nil || len(folders) > 0 {
		t.Errorf("left behind: %v %v", folders, err)
	}
}

// waitNumber waits for the number that a script writes into a file.
func waitNumber(t *testing.T, name string) (n int) {
	t.Helper()
	waitUntil(t, func() bool {
		data, err := os.ReadFile(name)
		if err != nil {
			return false
		}
		n, err = strconv.Atoi(strings.TrimSpace(string(data)))
		return err == nil
	})
	return n
}

func waitUntil(t *testing.T, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatal("the condition did not become true in 30 s")
		case <-tick.C:
		}
	}
}

type syncBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuilder) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuilder) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

type logWriter struct{ t *testing.T }

func (w logWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}
