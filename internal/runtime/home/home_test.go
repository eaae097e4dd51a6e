package home_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/runtime/home"
)

func open(t *testing.T) (h *home.Dir, dir string) {
	t.Helper()
	base := t.TempDir()
	dir = filepath.Join(base, "home")
	h, err := home.Open(t.Context(), home.Settings{Dir: dir, Trash: filepath.Join(base, "trash")})
	must(t, err)
	t.Cleanup(func() { _ = h.Close() })
	return h, dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWriteFileKeepsModeAndLeavesNoTemporaryFiles(t *testing.T) {
	h, dir := open(t)
	must(t, h.WriteFile("bin/tool", []byte("1")))
	must(t, os.Chmod(filepath.Join(dir, "bin/tool"), 0o700))
	must(t, h.WriteFile("bin/tool", []byte("2")))
	st, err := os.Stat(filepath.Join(dir, "bin/tool"))
	must(t, err)
	if st.Mode().Perm() != 0o700 {
		t.Errorf("mode %v", st.Mode())
	}
	for _, sub := range []string{"", "bin"} {
		entries, err := h.ReadDir("./" + sub)
		must(t, err)
		if len(entries) != 1 {
			t.Errorf("%q holds %v", sub, entries)
		}
	}
}

// A directory of the agent is moved aside, not deleted.
func TestWriteFileKeepsWhatIsInTheWay(t *testing.T) {
	h, dir := open(t)
	must(t, h.WriteFile("SOUL.md/mine", []byte("1")))
	must(t, h.WriteFile("SOUL.md", []byte("2")))
	kept, err := filepath.Glob(filepath.Join(dir, ".moved-*", "mine"))
	if err != nil || len(kept) != 1 {
		t.Errorf("kept: %v, %v", kept, err)
	}
	if text, err := h.ReadFile("SOUL.md", 10); err != nil || string(text) != "2" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestRemoveAllDeletesUnreadableDirectories(t *testing.T) {
	h, dir := open(t)
	must(t, h.WriteFile("a/b/c", nil))
	must(t, os.Chmod(filepath.Join(dir, "a/b"), 0))
	must(t, h.RemoveAll("a"))
	if _, err := os.Lstat(filepath.Join(dir, "a")); err == nil {
		t.Error("the directory still exists")
	}
	must(t, home.Purge(t.Context(), filepath.Join(filepath.Dir(dir), "trash")))
}

// TestRemoveAllOfADirectoryThatIsInUse: whoever is in it goes on adding files.
func TestRemoveAllOfADirectoryThatIsInUse(t *testing.T) {
	h, dir := open(t)
	trash := filepath.Join(filepath.Dir(dir), "trash")
	must(t, os.Mkdir(filepath.Join(dir, "rules"), 0o700))
	cmd := exec.Command("/bin/sh", "-c", "echo; i=0; while :; do i=$((i+1)); mkdir -p d$i/e; : >d$i/f; done")
	cmd.Dir = filepath.Join(dir, "rules")
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	_, err = out.Read(make([]byte, 1))
	must(t, err)
	for {
		if entries, err := os.ReadDir(cmd.Dir); err == nil && len(entries) > 100 {
			break
		}
	}
	must(t, h.RemoveAll("rules"))
	if _, err := os.Lstat(cmd.Dir); err == nil {
		t.Error("the directory still exists")
	}
	done, err := home.PurgeSome(t.Context(), trash, 50) // with a budget it ends
	if err != nil || done {
		t.Errorf("done %v, %v", done, err)
	}
	limited, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := home.Purge(limited, trash); err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, syscall.ENOTEMPTY) {
		t.Error(err)
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	must(t, home.Purge(t.Context(), trash))
}

// TestHomeEndsWithItsContext: all methods fail then.
func TestHomeEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	h, err := home.Open(ctx, home.Settings{Dir: filepath.Join(t.TempDir(), "home"), Trash: t.TempDir()})
	must(t, err)
	t.Cleanup(func() { _ = h.Close() })
	must(t, h.WriteFile("a", nil))
	cancel()
	_, readErr := h.ReadFile("a", 10)
	_, listErr := h.ReadDir(".")
	for _, err := range []error{h.WriteFile("a", nil), readErr, listErr, h.RemoveAll("a")} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("after the end of its context: %v", err)
		}
	}
}

func TestPurgeDeletesDeepTreesAndFollowsNoLinks(t *testing.T) {
	base := t.TempDir()
	outside := filepath.Join(base, "outside")
	must(t, os.Mkdir(outside, 0o700))
	must(t, os.WriteFile(filepath.Join(outside, "kept"), nil, 0o600))
	dir := filepath.Join(base, "tree")
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.Symlink(outside, filepath.Join(dir, "link")))
	deep := filepath.Join(dir, "deep")
	must(t, os.MkdirAll(filepath.Join(deep, strings.Repeat("d/", 500)), 0o700))
	for range 1200 { // more than one read of a directory returns
		_, err := os.MkdirTemp(dir, "d")
		must(t, err)
	}
	must(t, os.Chmod(deep, 0))
	limitOpenFiles(t)
	must(t, home.Purge(t.Context(), dir))
	must(t, home.Purge(t.Context(), dir))
	if _, err := os.Lstat(dir); err == nil {
		t.Error("the tree still exists")
	}
	if _, err := os.Lstat(filepath.Join(outside, "kept")); err != nil {
		t.Error("a link was followed")
	}
}

// limitOpenFiles limits the number of open files until the test ends. It has the
// effect of a tree that is deeper than the usual limit.
func limitOpenFiles(t *testing.T) {
	t.Helper()
	var before unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	lowered := before
	lowered.Cur = 100
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &lowered))
	t.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &before) })
}

// The server can die at any moment: a directory must never exist under its name
// while another user than the agent's owns it.
func TestNewDirectoriesAreNeverOwnedByTheServer(t *testing.T) {
	const uid = 54321
	owner := home.Owner{UID: uid, GID: uid}
	if os.Getuid() != 0 {
		owner = home.Owner{} // only root can change owners: test only that it works
	}
	dir := filepath.Join(t.TempDir(), "home")
	h, err := home.Open(t.Context(), home.Settings{Dir: dir, Owner: owner})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	stop := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for i := 0; ; {
			select {
			case <-stop:
				return
			default:
			}
			st, err := os.Lstat(filepath.Join(dir, fmt.Sprint("d", i)))
			if err != nil {
				continue // it does not exist yet
			}
			if sys, ok := st.Sys().(*syscall.Stat_t); ok && owner != (home.Owner{}) && sys.Uid != uid {
				t.Errorf("d%d was owned by user %d", i, sys.Uid)
				return
			}
			i++
		}
	})
	for i := range 300 {
		if err := h.WriteFile(fmt.Sprintf("d%d/file", i), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	watcher.Wait()
}

func TestSizeIsBounded(t *testing.T) {
	h, dir := open(t)
	must(t, h.WriteFile("a/b", make([]byte, 1000)))
	must(t, h.WriteFile("c", make([]byte, 500)))
	must(t, os.Symlink("/usr", filepath.Join(dir, "usr")))
	must(t, os.Symlink("/", filepath.Join(dir, "a", "root")))
	if bytes, complete := home.Size(t.Context(), dir); bytes != 1500+4+1 || !complete {
		t.Errorf("%d bytes, complete %v", bytes, complete)
	}
	deep := dir
	for range 150 {
		deep = filepath.Join(deep, "d")
	}
	must(t, os.MkdirAll(deep, 0o700))
	if _, complete := home.Size(t.Context(), dir); complete {
		t.Error("a tree that is too deep is complete")
	}
	if _, complete := home.Size(t.Context(), filepath.Join(dir, "none")); complete {
		t.Error("a missing directory is complete")
	}
}
