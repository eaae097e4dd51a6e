package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestGroupMemoryIsTheLowestLimit(t *testing.T) {
	root := t.TempDir()
	for file, text := range map[string]string{
		"a/memory.max": "max\n", "a/b/memory.max": "4096\n", "a/b/c/memory.max": "8192\n",
		"memory/x/memory.limit_in_bytes": "9223372036854771712\n", "memory/y/memory.limit_in_bytes": "2048\n",
		"v2": "0::/a/b/c\n", "none": "0::/a\n3:cpu:/y\n", "v1": "4:memory:/y\n0::/\n", "unlimited": "4:memory:/x\n", "meminfo": "MemFree: 1 kB\nMemTotal:  3 kB\n",
	} {
		path := filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for membership, want := range map[string]int64{"v2": 4096, "none": 0, "v1": 2048, "unlimited": 0, "missing": 0} {
		if got := groupMemory(filepath.Join(root, membership), root); got != want {
			t.Errorf("%s: %d", membership, got)
		}
	}
	if machineMemory(filepath.Join(root, "meminfo")) != 3<<10 || machineMemory(filepath.Join(root, "missing")) != 0 {
		t.Error("wrong memory of the machine")
	}
}
