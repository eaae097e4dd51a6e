package openclaw_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"agento.host/agento/internal/openclaw/install"
)

// processTree returns a process and its descendants.
func processTree(pid int) []int {
	all := []int{pid}
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		data, _ := os.ReadFile(list)
		for _, child := range strings.Fields(string(data)) {
			n, _ := strconv.Atoi(child)
			all = append(all, processTree(n)...)
		}
	}
	return all
}

// nodes returns the processes of the gateway that run Node. The first is the gateway.
func (r *realGateway) nodes(t *testing.T) []int {
	t.Helper()
	var gateway, helpers []int
	for _, pid := range processTree(os.Getpid()) {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil || filepath.Base(exe) != "node" {
			continue
		}
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if strings.HasPrefix(string(line), "openclaw-gateway") {
			gateway = append(gateway, pid)
		} else {
			helpers = append(helpers, pid)
		}
	}
	if len(gateway) != 1 {
		t.Fatalf("%d gateways run", len(gateway))
	}
	return append(gateway, helpers...)
}

// listeningPorts returns the TCP ports on which processes listen.
func listeningPorts(t *testing.T, pids []int) []int {
	t.Helper()
	sockets := map[string]bool{}
	for _, pid := range pids {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, file := range files {
			if target, err := os.Readlink(file); err == nil {
				sockets[target] = true
			}
		}
	}
	var ports []int
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) < 10 || fields[3] != "0A" || !sockets["socket:["+fields[9]+"]"] {
				continue
			}
			_, hex, _ := strings.Cut(fields[1], ":")
			port, _ := strconv.ParseInt(hex, 16, 32)
			ports = append(ports, int(port))
		}
		_ = f.Close()
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// catchesSignal reports whether a process has a handler of a signal.
func catchesSignal(t *testing.T, pid int, signal syscall.Signal) bool {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "SigCgt:\t")
	line, _, _ := strings.Cut(after, "\n")
	caught, err := strconv.ParseUint(line, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return caught&(1<<(signal-1)) != 0
}

// TestNoInspector of any process of the gateway can be opened by a signal, which the agent's
// programs could send.
func TestNoInspector(t *testing.T) {
	r := sharedGateway(t)
	pids := r.nodes(t)
	if len(pids) < 2 {
		t.Fatal("the gateway has no helper processes: the test shows nothing about them")
	}
	for _, pid := range pids[1:] {
		// A helper that had a handler would open its inspector, and without one it would end.
		if catchesSignal(t, pid, syscall.SIGUSR1) {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			t.Errorf("SIGUSR1 opens the inspector of %q", line)
		}
	}
	if err := syscall.Kill(pids[0], syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if text, _ := r.turn(t, "", "inspector", "", "echo still here"); text != "still here" {
		t.Errorf("after SIGUSR1 the gateway answers %q", text)
	}
	if ports := listeningPorts(t, r.nodes(t)); !slices.Equal(ports, []int{r.Port}) {
		t.Errorf("after SIGUSR1 the gateway listens on %v", ports)
	}
}

// TestNoCompileCache is written into the agent's memory file system.
func TestNoCompileCache(t *testing.T) {
	r := sharedGateway(t)
	caches, err := filepath.Glob(filepath.Join(filepath.Dir(r.Home), "tmp", "*compile-cache*"))
	if err != nil || len(caches) > 0 {
		t.Errorf("the gateway wrote %v, %v", caches, err)
	}
}

// workerThreads returns the ids of the gateway's worker threads.
func workerThreads(t *testing.T, gateway int) map[string]bool {
	t.Helper()
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/comm", gateway))
	if err != nil {
		t.Fatal(err)
	}
	threads := map[string]bool{}
	for _, name := range names {
		if comm, err := os.ReadFile(name); err == nil && string(comm) == "WorkerThread\n" {
			threads[name] = true
		}
	}
	return threads
}

// watchWorkers counts the worker threads that the gateway starts until stop is called.
func watchWorkers(t *testing.T, gateway int) (stop func() int) {
	t.Helper()
	seen, ended, done := workerThreads(t, gateway), make(chan struct{}), make(chan int)
	go func() {
		before := len(seen)
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/comm", gateway))
			for _, name := range names {
				if seen[name] {
					continue
				}
				if comm, err := os.ReadFile(name); err == nil && string(comm) == "WorkerThread\n" {
					seen[name] = true
				}
			}
			select {
			case <-tick.C:
			case <-ended:
				tick.Stop()
				done <- len(seen) - before
				return
			}
		}
	}()
	return func() int { close(ended); return <-done }
}

// TestEntriesShareNoState that each would take from the other: no turn starts a worker because
// the turn before it was the other entry's.
func TestEntriesShareNoState(t *testing.T) {
	r := sharedGateway(t)
	gateway := r.nodes(t)[0]
	both := func() {
		r.turn(t, "", "workers", "", "echo one")
		r.turn(t, "visitor", "workers", "", "echo two")
	}
	both()
	both()
	// Sessions that are new are followed by workers that tidy up, each for a second or two.
	for last, same := workerThreads(t, gateway), 0; same < 10; same++ {
		time.Sleep(100 * time.Millisecond)
		now := workerThreads(t, gateway)
		if !maps.Equal(last, now) {
			last, same = now, 0
		}
	}
	const rounds = 3
	stop := watchWorkers(t, gateway)
	for range rounds {
		both()
	}
	if started := stop(); started >= 2*rounds {
		t.Errorf("%d turns of two entries in turn started %d workers", 2*rounds, started)
	}
}

// TestWatchersSeeWhatIsTheirs: a change of the child with the name of the directory that is watched
// is none of the directory, and everything else is seen.
func TestWatchersSeeWhatIsTheirs(t *testing.T) {
	rt, err := install.Install(t.Context(), install.Settings{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	command := rt.Command(false)
	preload := command[slices.Index(command, "--import")+1]
	const script = `
import fs from "node:fs";
import { setTimeout } from "node:timers/promises";
const root = process.argv[1], seen = [];
fs.mkdirSync(root + "/state");
fs.watch(root, (event, name) => seen.push(name));
fs.chmodSync(root + "/state", 0o700);
fs.writeFileSync(root + "/file", "");
while (!seen.includes("file")) await setTimeout(1);
if (seen.includes("state")) console.log("a change of the child is seen");
fs.rmdirSync(root + "/state");
while (!seen.includes("state")) await setTimeout(1); // what is gone is seen
process.exit();
`
	root := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, command[0], "--import", preload, "--input-type=module", "--eval", script, "--", root).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}
