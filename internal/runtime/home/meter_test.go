package home_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/home"
)

func measure(t *testing.T, dirs ...string) runtime.Disk {
	t.Helper()
	m := home.NewMeter(dirs...)
	defer m.Close()
	for steps := 0; ; steps++ {
		done, err := m.Step(t.Context(), 10)
		must(t, err)
		if done {
			return runtime.Disk(m.Used())
		}
		if steps > 10_000 {
			t.Fatal("it does not end")
		}
	}
}

func TestMeterCountsWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	if got := measure(t, dir, filepath.Join(dir, "none")); got.Files != 0 || got.Bytes != 0 {
		t.Errorf("an empty directory: %+v", got)
	}
	must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "a/b/file"), make([]byte, 1<<20), 0o600))
	before := measure(t, dir)
	if before.Files != 3 || before.Bytes < 1<<20 || before.Bytes > 1<<20+1<<16 {
		t.Errorf("%+v", before)
	}

	// Further names of a file, links, and holes take no space.
	for _, name := range []string{"1", "2", "3"} {
		must(t, os.Link(filepath.Join(dir, "a/b/file"), filepath.Join(dir, name)))
	}
	must(t, os.Symlink("/", filepath.Join(dir, "root")))
	must(t, os.Symlink(".", filepath.Join(dir, "a/self")))
	must(t, os.WriteFile(filepath.Join(dir, "hole"), nil, 0o600))
	must(t, os.Truncate(filepath.Join(dir, "hole"), 1<<40))
	got := measure(t, dir)
	if got.Files != 9 || got.Bytes < before.Bytes || got.Bytes > before.Bytes+1<<16 || got.Hidden {
		t.Errorf("%+v, before %+v", got, before)
	}
	for i := range 3000 { // more than one read of a directory returns
		must(t, os.WriteFile(filepath.Join(dir, "a", strings.Repeat("x", 1+i%100)+string(rune('a'+i/100))), nil, 0o600))
	}
	if got := measure(t, dir); got.Files != 3009 {
		t.Errorf("%d files", got.Files)
	}
}

// TestMeterIsNotHiddenFrom: what an agent puts where it cannot be measured is reported, and
// costs no more than the rest.
func TestMeterIsNotHiddenFrom(t *testing.T) {
	dir := t.TempDir()
	top, err := os.OpenRoot(dir)
	must(t, err)
	defer func() { _ = top.Close() }()
	path := strings.Repeat("deep/", 300)
	must(t, top.MkdirAll(path[:len(path)-1], 0o700))
	limitOpenFiles(t)
	m := home.NewMeter(dir)
	defer m.Close()
	_, err = m.Step(t.Context(), 1000)
	if err == nil && !m.Used().Hidden {
		t.Errorf("%+v", m.Used())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Step(ctx, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: %v", err)
	}
}

func TestLimitsOfADisk(t *testing.T) {
	used := runtime.Disk{Bytes: 100, Files: 10}
	for _, row := range []struct {
		used   runtime.Disk
		limits runtime.Limits
		want   bool
	}{
		{used, runtime.Limits{}, false},
		{used, runtime.Limits{DiskBytes: 100, Files: 10}, false},
		{used, runtime.Limits{DiskBytes: 99}, true},
		{used, runtime.Limits{Files: 9}, true},
		{runtime.Disk{Hidden: true}, runtime.Limits{}, false},
		{runtime.Disk{Hidden: true}, runtime.Limits{Files: 9}, true},
	} {
		if got := row.used.Exceeds(row.limits); got != row.want {
			t.Errorf("%+v exceeds %+v: %v", row.used, row.limits, got)
		}
	}
}
