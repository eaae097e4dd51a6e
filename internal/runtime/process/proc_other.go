//go:build !linux

package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// isShim reports whether a process is the shim of the start with this nonce.
func isShim(pid int, nonce string) bool {
	out, err := exec.Command("ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.Contains(string(out), nonce)
}

// awaitExit returns when a process may have ended: the caller checks again.
func awaitExit(ctx context.Context, pid int, _ func() bool) error {
	if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		return nil
	}
	return pause(ctx, 200*time.Millisecond)
}

// isRunning reports whether a process exists.
func isRunning(pid int) bool { return pid > 0 && unix.Kill(pid, 0) == nil }

// psRow is a line of the output of ps.
type psRow struct {
	parent int
	memory int64
	cpu    time.Duration
}

func listProcesses() map[int]psRow {
	out, err := exec.Command("ps", "-axo", "pid=,ppid=,rss=,time=").Output()
	if err != nil {
		return nil
	}
	rows := map[int]psRow{}
	for text := range strings.Lines(string(out)) {
		f := strings.Fields(text)
		if len(f) < 4 {
			continue
		}
		pid, _ := strconv.Atoi(f[0])
		parent, _ := strconv.Atoi(f[1])
		kib, _ := strconv.ParseInt(f[2], 10, 64)
		rows[pid] = psRow{parent: parent, memory: kib << 10, cpu: parseClock(f[3])}
	}
	return rows
}

// parseClock parses ps's minutes:seconds, which may have hours or fractions.
func parseClock(text string) time.Duration {
	var seconds float64
	for part := range strings.SplitSeq(text, ":") {
		n, err := strconv.ParseFloat(part, 64)
		if err != nil {
			return 0
		}
		seconds = seconds*60 + n
	}
	return time.Duration(seconds * float64(time.Second))
}

// processTree lists a process and all its descendants, itself first. It returns
// nothing if the process does not exist.
func processTree(pid int) []int {
	rows := listProcesses()
	if _, ok := rows[pid]; !ok {
		return nil
	}
	pids := []int{pid}
	for i := 0; i < len(pids); i++ {
		for child, r := range rows {
			if r.parent == pids[i] && child != pid {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// terminate sends SIGTERM to the gateway below a shim. It reports false if there is
// no gateway yet.
func terminate(shim int, _ bool) bool {
	pids := processTree(shim)
	return len(pids) > 1 && unix.Kill(pids[1], unix.SIGTERM) == nil
}

// processesWithHome lists the processes that have a home in their environment.
func processesWithHome(home string) []int {
	out, err := exec.Command("ps", "-axEwwo", "pid=,command=").Output()
	if err != nil {
		return nil
	}
	var pids []int
	for text := range strings.Lines(string(out)) {
		f := strings.Fields(text)
		if len(f) == 0 || !strings.Contains(text+" ", " HOME="+home+" ") {
			continue
		}
		if pid, err := strconv.Atoi(f[0]); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// sandboxesWithLock returns nothing: there are no sandboxes.
func sandboxesWithLock(string) []int { return nil }

// holdsFile reports whether a process is known to have a file open.
func holdsFile(int, string) bool { return false }

// hasHomeOpen reports true: what the record says must do.
func hasHomeOpen(int, fileID) bool { return true }

func usageOf(pids []int) usage {
	var u usage
	rows := listProcesses()
	for _, pid := range pids {
		if r, ok := rows[pid]; ok {
			u.processes++
			u.memory += r.memory
			u.cpu += r.cpu
		}
	}
	return u
}

func haveSocket([]int, string) bool { return true }

// growPipe checks that a pipe has a capacity of n bytes.
func growPipe(_ *os.File, n int) error {
	if n <= 16<<10 {
		return nil
	}
	return fmt.Errorf("pipes have a capacity of 16 KiB on this system")
}

func isMemory(string) bool { return false }

func collapseHead(*os.File, int64) error { return errors.ErrUnsupported }

// Memory returns 0: it is not known here how much there is.
func (Flags) Memory() (int64, error) { return 0, nil }
