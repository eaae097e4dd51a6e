package process

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"

	"agento.host/agento/internal/runtime"
)

const (
	// agentsShare is the part of the machine's CPU time that all agents together may use:
	// the server needs the rest to answer, and to stop them.
	agentsShare = 0.9
	// cpuPeriod is the period of CPU quotas, in microseconds: the kernel's default.
	cpuPeriod = 100_000
	// minQuota is the least quota that the kernel accepts, in microseconds.
	minQuota = 1_000
	// defaultWeight is the weight of a group that has none set.
	defaultWeight = 100
	// sharesPerWeight converts a weight to the shares of v1, whose default is 1024.
	sharesPerWeight = 1024.0 / defaultWeight
)

// cpuQuota returns how many microseconds of each period a number of cores is.
func cpuQuota(cores float64) string {
	return strconv.Itoa(max(minQuota, int(math.Round(cores*cpuPeriod))))
}

// limitParentCPU leaves a part of the CPU time to the server, in the group of all agents of
// this directory. It does nothing in a hierarchy without the cpu controller, and keeps the
// limit that there is if the kernel refuses the new one: gateways may be running with more.
func limitParentCPU(parent string) {
	switch cores := agentsShare * availableCores(filepath.Dir(parent)); {
	case fileExists(parent, "cpu.max"):
		_ = writeFile(parent, "cpu.max", fmt.Sprintf("%s %d", cpuQuota(cores), cpuPeriod))
	case fileExists(parent, "cpu.cfs_quota_us"):
		_ = writeFile(parent, "cpu.cfs_period_us", strconv.Itoa(cpuPeriod))
		_ = writeFile(parent, "cpu.cfs_quota_us", cpuQuota(cores))
	}
}

// limitCPU limits the CPU time of a group in a hierarchy that has the cpu controller. A
// kernel that refuses it is no reason not to start the gateway: it has less than all of
// the machine by its parent.
func limitCPU(dir string, limits runtime.Limits) {
	cores := math.Inf(1)
	if limits.CPUs > 0 {
		// v1 refuses more than the parent has.
		cores = min(limits.CPUs, agentsShare*availableCores(filepath.Dir(filepath.Dir(dir))))
	}
	weight := limits.CPUWeight
	if weight == 0 {
		weight = defaultWeight
	}
	switch {
	case fileExists(dir, "cpu.max"):
		_ = writeFile(dir, "cpu.weight", strconv.FormatInt(weight, 10))
		if !math.IsInf(cores, 1) {
			_ = writeFile(dir, "cpu.max", fmt.Sprintf("%s %d", cpuQuota(cores), cpuPeriod))
		}
	case fileExists(dir, "cpu.cfs_quota_us"):
		_ = writeFile(dir, "cpu.shares", strconv.Itoa(int(float64(weight)*sharesPerWeight)))
		if !math.IsInf(cores, 1) {
			_ = writeFile(dir, "cpu.cfs_period_us", strconv.Itoa(cpuPeriod))
			_ = writeFile(dir, "cpu.cfs_quota_us", cpuQuota(cores))
		}
	}
}

// availableCores returns how many cores the processes in a group may use: those of the
// machine, or what the group or one above it allows.
func availableCores(dir string) float64 {
	cores := float64(goruntime.NumCPU())
	for ; fileExists(dir, "cgroup.procs"); dir = filepath.Dir(dir) {
		if n, ok := readCores(dir); ok {
			cores = min(cores, n)
		}
	}
	return cores
}

// readCores returns the limit of a group. It reports false if it has none.
func readCores(dir string) (float64, bool) {
	if data, err := os.ReadFile(filepath.Join(dir, "cpu.max")); err == nil {
		var quota, period float64
		if n, _ := fmt.Sscan(strings.TrimSpace(string(data)), &quota, &period); n == 2 && period > 0 {
			return quota / period, true
		}
		return 0, false // "max"
	}
	quota, err := readNumber(dir, "cpu.cfs_quota_us")
	if err != nil || quota <= 0 {
		return 0, false
	}
	period, err := readNumber(dir, "cpu.cfs_period_us")
	return float64(quota) / float64(period), err == nil && period > 0
}
