package main

import (
	"bufio"
	"bytes"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
)

// limitMemory makes Go collect garbage harder before the server's memory is used up: at
// nine tenths of its memory group, or at half of a machine that it shares with the
// agents. It returns the memory that the server can count with, or 0. GOMEMLIMIT in the
// environment is left as it is.
func limitMemory() int64 {
	machine, group := machineMemory("/proc/meminfo"), groupMemory("/proc/self/cgroup", "/sys/fs/cgroup")
	limit := machine / 2
	if group > 0 && (machine == 0 || group < machine) {
		limit = group / 10 * 9
	}
	if limit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit)
	}
	return limit
}

// machineMemory returns the bytes of memory of the machine, or 0 if they are not known.
func machineMemory(meminfo string) int64 {
	text, _ := os.ReadFile(filepath.Clean(meminfo))
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "MemTotal:" {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// groupMemory returns the lowest limit of the memory group of this process and of those
// above it, of cgroup v1 or v2. It returns 0 if there is none.
func groupMemory(membership, root string) int64 {
	text, _ := os.ReadFile(filepath.Clean(membership))
	lowest := int64(0)
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		f := strings.SplitN(lines.Text(), ":", 3)
		if len(f) != 3 {
			continue
		}
		dir, file := root, "memory.max"
		if f[1] == "memory" {
			dir, file = filepath.Join(root, "memory"), "memory.limit_in_bytes"
		} else if f[1] != "" {
			continue
		}
		for group := filepath.Clean("/" + f[2]); ; group = filepath.Dir(group) {
			number, _ := os.ReadFile(filepath.Join(dir, group, file))
			n, err := strconv.ParseInt(strings.TrimSpace(string(number)), 10, 64)
			if err == nil && n > 0 && n < math.MaxInt64>>2 && (lowest == 0 || n < lowest) { // v1 writes no limit as a huge one
				lowest = n
			}
			if group == "/" {
				break
			}
		}
	}
	return lowest
}

// descriptorLimit returns how many files the process may have open, or 0 if that is not
// known. Go has raised it as far as it may.
func descriptorLimit() int64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int64(min(limit.Cur, math.MaxInt32))
}
