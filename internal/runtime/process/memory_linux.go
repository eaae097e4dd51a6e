package process

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Memory returns the memory that the server and all gateways can use: that of the machine,
// or the limit of the control group that the server is in, if that is less.
func (Flags) Memory() (int64, error) {
	total, err := machineMemory("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	mounts, err := findCgroupMounts("/proc/self/cgroup", "/proc/self/mountinfo")
	if err != nil {
		return total, nil //nolint:nilerr // without control groups there is no limit
	}
	if m, ok := mounts["memory"]; ok {
		return min(total, leastLimit(m, "memory.limit_in_bytes")), nil
	}
	if m, ok := mounts[unifiedHierarchy]; ok {
		return min(total, leastLimit(m, "memory.max")), nil
	}
	return total, nil
}

func machineMemory(meminfo string) (int64, error) {
	var kib int64
	err := eachLine(meminfo, func(text string) {
		if f := strings.Fields(text); len(f) == 3 && f[0] == "MemTotal:" {
			kib, _ = strconv.ParseInt(f[1], 10, 64)
		}
	})
	if err == nil && kib == 0 {
		err = fmt.Errorf("%s has no MemTotal", meminfo)
	}
	return kib << 10, err
}

// leastLimit returns the least limit of our own control group and those above it, as far
// as they are visible. A group without a limit has no number in its file, or a very large one.
func leastLimit(m cgroupMount, file string) int64 {
	least := int64(math.MaxInt64)
	for dir := m.ownGroup(); ; dir = filepath.Dir(dir) {
		if data, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && n > 0 {
				least = min(least, n)
			}
		}
		if dir == m.dir || dir == "/" || dir == "." {
			return least
		}
	}
}
