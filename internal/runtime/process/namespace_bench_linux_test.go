package process

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BenchmarkNamespaces makes the networks of 200 agents at rest, and reports the time for
// one, and what the kernel and the server keep of each. The server's goroutines are in
// egress.BenchmarkIdleConnections.
func BenchmarkNamespaces(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	const agents = 200
	var kilobytes, descriptors float64
	var times []time.Duration
	for b.Loop() {
		_, plain := startIdle(b, agents, 0)
		namespaces, with := startIdle(b, agents, syscall.CLONE_NEWNET)
		before, fds := available(b), openDescriptors(b)
		var files []*os.File
		for _, n := range namespaces {
			began := time.Now()
			made, err := n.do(b.Context(), namespaceRequest{Configure: true, Listen: true, SetRoutes: true, Routes: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15")}})
			if err != nil {
				b.Fatal(err)
			}
			times = append(times, time.Since(began))
			files = append(files, made...)
		}
		kilobytes += (with - plain + before - available(b)) / agents
		descriptors += float64(openDescriptors(b)-fds) / agents
		closeAll(files)
	}
	slices.Sort(times)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(times[len(times)/2].Seconds()*1000, "p50-ms/network")
	b.ReportMetric(kilobytes/float64(b.N), "kernel-KB/network")
	b.ReportMetric(descriptors/float64(b.N), "descriptors/network")
}

// startIdle starts processes that wait until the benchmark ends, and returns how many
// kilobytes the machine has less with them.
func startIdle(b *testing.B, n int, flags uintptr) (all []namespace, kilobytes float64) {
	b.Helper()
	before := available(b)
	for range n {
		cmd := exec.CommandContext(b.Context(), "sleep", "600")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		all = append(all, namespace{shim: cmd.Process.Pid})
	}
	return all, before - available(b)
}

// available returns how many kilobytes of the machine's memory are available.
func available(b *testing.B) float64 {
	b.Helper()
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "MemAvailable:"); ok {
			var kilobytes float64
			if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
				b.Fatal(err)
			}
			return kilobytes
		}
	}
	b.Fatal("no MemAvailable")
	return 0
}

func openDescriptors(b *testing.B) int {
	b.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		b.Fatal(err)
	}
	return len(all)
}
